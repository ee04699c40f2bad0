# SPDX-License-Identifier: Apache-2.0
"""How much of what whole blocks can share does vLLM share?

For groups of completions of one prompt: the share of prompt tokens served from the cache, beside the most
that block-aligned sharing of those very token ids allows (each input with the one before it in order).
"""

from __future__ import annotations

import argparse
from typing import Any

from groups import SETS, Group, read_groups, sharable
from report import publish, show

from autoj_reward.engines.vllm.engine import VLLMEngine
from autoj_reward.judge.presets import load_spec
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.types import JudgeInput, JudgeOutput, Segment


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--judge", default="mini")
    arguments.add_argument("--limit", type=int, default=4, help="groups of each set")
    arguments.add_argument("--blocks", nargs="*", type=int, default=[32], help="block sizes")
    arguments.add_argument("--context", type=int, default=4096)
    arguments.add_argument("--cache-gib", type=float, default=2.0)
    given = arguments.parse_args()

    spec = load_spec(given.judge)
    rows: list[dict[str, Any]] = []
    for block in given.blocks:
        engine = VLLMEngine(
            spec.model,
            dtype="bfloat16",
            context_tokens=given.context,
            block_size=block,
            kv_cache_memory_bytes=int(given.cache_gib * 2**30),
        )
        for name in SETS:
            engine.forget()
            rows.append(
                {"set": name, "block": block, **sharing(engine, spec, read_groups(name, given.limit))}
            )
            show(rows)
        engine.close()
    publish(
        "prefix_sharing", "share of prompt tokens from the cache against what blocks allow", {"rows": rows}
    )


def sharing(engine: VLLMEngine, spec: JudgeSpec, groups: list[Group]) -> dict[str, Any]:
    """Judge the groups in one call, inputs in an order that alternates between prompts."""
    assert spec.rating is not None
    # With nothing followed each input is one request, so the counts are of the inputs alone.
    readout = spec.rating.verdicts.readout(follow_above=1.0)
    inputs = [
        JudgeInput(
            body=spec.rating.template.fill({"prompt": group.prompt, "completion": group.completions[k]}),
            wrapper=spec.direct_wrapper,
            prefill=(Segment(spec.rating.verdicts.verdict_prefix, True),),
            readout=readout,
        )
        for k in range(min(len(g.completions) for g in groups))
        for group in groups
    ]
    rows = [engine.tokenizer.encode_input(item) for item in inputs]
    answers = engine.generate(inputs)
    read = [(ids, a) for ids, a in zip(rows, answers, strict=True) if isinstance(a, JudgeOutput)]
    possible = sharable([ids for ids, _ in read], engine.block_size)
    tokens = sum(a.usage.prompt_tokens for _, a in read)
    cached = sum(a.usage.cached_tokens for _, a in read)
    return {
        "inputs": len(read),
        "tokens": tokens,
        "possible": possible / tokens,
        "cached": cached / tokens,
        "of_possible": cached / possible if possible else 1.0,
        "wanted": 0.95,
    }


if __name__ == "__main__":
    main()
