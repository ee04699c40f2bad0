# SPDX-License-Identifier: Apache-2.0
"""Does `label` stream? 1,000 prompts x 32 completions, answered from a recorded file.

Peak memory of the command at a quarter of the prompts and at all of them, and its output read back: by
`datasets`, and by the data code of TRL's DPOTrainer. A row is bad where chosen and rejected are equal after
white space is stripped, chosen is empty, the margin is not above 0, or TRL makes equal or no tokens of them.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import publish, show

_MEASURE = """
import resource, sys
from autoj_reward.cli import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--prompts", type=int, default=1000)
    arguments.add_argument("--completions", type=int, default=32)
    arguments.add_argument("--pairs", default="all", help="as label --pairs")
    arguments.add_argument("--max-pairs", type=int, default=4)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_recorded(folder / "recorded.jsonl")
        rows = []
        for n in (given.prompts // 4, given.prompts):
            write_groups(folder / f"in{n}.jsonl", n, given.completions)
            rows.append(labelled(folder, n, given))
        show(rows)
        found = check(folder / f"out{given.prompts}.jsonl", folder)
        print(found)
        publish(
            "labelling",
            "peak memory of label by number of prompts, and bad pairs in its output",
            {"rows": rows, "memory_ratio": rows[1]["peak_mib"] / rows[0]["peak_mib"], "checked": found},
        )


def write_recorded(path: Path) -> None:
    """Ratings by a mark in the text; a tenth of the marks cannot be read."""
    lines: list[dict[str, Any]] = [{"contains": ["mark 0"], "reading": {"5": 0.0001}}]
    lines += [
        {"contains": [f"mark {m} "], "reading": {str(m): 0.6, str(m + 1): 0.4 if m < 10 else 0.0}}
        for m in range(1, 10)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_groups(path: Path, n: int, size: int) -> None:
    """Completions with blanks at their ends, copies, empty ones, and text that looks like a template."""
    rng = random.Random(0)
    with open(path, "w", encoding="utf-8") as file:
        for p in range(n):
            group = []
            for c in range(size):
                filler = " ".join(rng.choice(["river", "{prompt}", "[[9]]", "bread"]) for _ in range(60))
                body = f"mark {rng.randrange(10)} {filler} {c if rng.random() < 0.8 else 0}"
                group.append(rng.choice(["", " ", "\n"]) + body + rng.choice(["", " ", "\n"]))
            group[rng.randrange(size)] = rng.choice(["", "  "])
            group[rng.randrange(size)] = group[0] + " "
            file.write(json.dumps({"prompt": f"Prompt {p}. ", "completions": group}) + "\n")


def labelled(folder: Path, n: int, given: argparse.Namespace) -> dict[str, Any]:
    command = [
        *("label", str(folder / f"in{n}.jsonl"), "-o", str(folder / f"out{n}.jsonl"), "--mode", "direct"),
        *("--engine", f"recorded:{folder / 'recorded.jsonl'}", "--no-cache", "--quiet"),
        *("--pairs", given.pairs, "--max-pairs", str(given.max_pairs), "--chunk", "1024"),
    ]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *command], capture_output=True, text=True, check=True
    )
    record = json.loads((folder / f"out{n}.jsonl.run.json").read_text())
    return {
        "prompts": n,
        "judgments": record["judgments"],
        "peak_mib": round(int(done.stderr.split()[-1]) / 1024, 1),
        "seconds": round(time.perf_counter() - start, 1),
        "rows": record["data_rows"],
        "dropped": record["dropped"],
    }


def check(path: Path, folder: Path) -> dict[str, int]:
    """Count bad rows, as `datasets` and as TRL's DPOTrainer read them."""
    import datasets
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    from autoj_reward.engines.checkpoint.embedded import EMBEDDED_MODEL, resolve_model

    data = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder / "cache"))
    bad = sum(
        row["chosen"].strip() == row["rejected"].strip() or not row["chosen"].strip() or row["margin"] <= 0
        for row in data
    )
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(EMBEDDED_MODEL))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "policy")
    trainer = DPOTrainer(
        str(folder / "policy"),
        args=DPOConfig(output_dir=str(folder / "dpo"), report_to=[], use_cpu=True, bf16=False),
        train_dataset=data,
        processing_class=tokenizer,
    )
    tokens = trainer.train_dataset
    bad_tokens = sum(
        row["chosen_ids"] == row["rejected_ids"] or not row["chosen_ids"] or not row["rejected_ids"]
        for row in tokens
    )
    per_prompt: dict[str, int] = {}
    for row in data:
        per_prompt[row["prompt"]] = per_prompt.get(row["prompt"], 0) + 1
    return {
        "rows": len(data),
        "bad": bad,
        "rows_of_trl": len(tokens),
        "bad_tokens": bad_tokens,
        "most_pairs_of_a_prompt": max(per_prompt.values()),
    }


if __name__ == "__main__":
    main()
