# SPDX-License-Identifier: Apache-2.0
"""How far a judge's numbers move when only the batch around a request changes.

GRPO divides by a group's spread, so a difference that is noise becomes a full advantage. Rewards are rounded
to the figures found here (autoj_reward/reward/resolution.py). Best would be none:
equal numbers in every batch.

    python benchmarks/resolution.py
    python benchmarks/resolution.py --engine vllm --dtypes bfloat16 --heads model float32 --prompts 16
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from report import publish, show

from autoj_reward import Judge, Request

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "completions.jsonl"
BATCHES = (1, 3)
"""Requests judged at a time; set against all at once."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", default="mini")
    parser.add_argument("--engine", default="transformers", help="as in Judge.load")
    parser.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16"])
    parser.add_argument(
        "--heads", nargs="+", default=["model"], help="vllm: what logits are computed in; model is the dtype"
    )
    parser.add_argument("--data", type=Path, default=EXAMPLES, help='rows {"prompt", "completions": [...]}')
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--completions", type=int, default=6, help="of each prompt")
    given = parser.parse_args()

    groups = read(given.data, given.prompts, given.completions)
    ratings = [Request(prompt=p, completions=(c,)) for p, group in groups for c in group]
    pairs = [Request(prompt=p, completions=pair) for p, group in groups for pair in pairwise(group)]
    rows = []
    for dtype, head in itertools.product(given.dtypes, given.heads):
        settings = {} if head == "model" else {"hf_overrides": {"head_dtype": head}}
        with Judge.load(given.judge, mode="direct", engine=given.engine, dtype=dtype, **settings) as judge:
            computed = f"{dtype}, logits in {judge.head_dtype}"
            rows.append(spread(computed, "rating", ratings, judge.rate_requests))
            rows.append(spread(computed, "win probability", pairs, judge.compare_requests))
        show(rows)
    publish(
        "resolution" if given.engine == "transformers" else f"resolution_{given.engine}",
        "the largest difference that another batch makes to a rating or win probability",
        {"judge": given.judge, "engine": given.engine, "batches": list(BATCHES), "rows": rows},
    )


def read(path: Path, n_prompts: int, n_completions: int) -> list[tuple[str, list[str]]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(n_prompts), strict=False)]
    return [(row["prompt"], row["completions"][:n_completions]) for row in rows]


def spread(dtype: str, what: str, requests: Sequence[Request], ask: Any) -> dict[str, Any]:
    """Differences from all at once, over every other size of batch."""
    whole = [j.reward for j in ask(requests)]
    differences = []
    for size in BATCHES:
        parts = [j.reward for n in range(0, len(requests), size) for j in ask(requests[n : n + size])]
        differences += [
            abs(a - b) for a, b in zip(whole, parts, strict=True) if a is not None and b is not None
        ]
    differences.sort()
    return {
        "dtype": dtype,
        "number": what,
        "comparisons": len(differences),
        "median": differences[len(differences) // 2],
        "percentile_99": differences[int(len(differences) * 0.99)],
        "largest": differences[-1],
    }


if __name__ == "__main__":
    main()
