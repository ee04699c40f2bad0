# SPDX-License-Identifier: Apache-2.0
"""How many direct judgments a second, compared with a plain `generate` loop?

The loop: one `transformers` `generate` call per completion, over the same token ids with the same forced
words, whose text is searched for a rating. Ours: `Judge` on vLLM, which reads the whole distribution; and
the same without branches beside the most probable one, which is what the loop learns and what a sure
judge costs. All in turns, on whole groups; the prefix cache is emptied before each turn. `sharing_allows`
is the ratio of tokens alone: all that the loop computes, over those that no input before has computed.
"""

from __future__ import annotations

import argparse
import re
import statistics
from dataclasses import replace
from typing import Any

from groups import SETS, Group, flat, read_groups, sharable
from report import alternating, median_ratio, publish, show

from autoj_reward.engines.checkpoint.embedded import resolve_model
from autoj_reward.engines.vllm.engine import VLLMEngine
from autoj_reward.judge.judge import Judge
from autoj_reward.types import JudgeInput, Segment

WANTED = {"alpacaeval-32": 2.5, "summeval-16": 5.0}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--judge", default="mini")
    arguments.add_argument("--sets", nargs="*", default=list(WANTED), choices=list(SETS))
    arguments.add_argument("--limit", type=int, default=1, help="groups of each set")
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--context", type=int, default=4096)
    arguments.add_argument("--cache-gib", type=float, default=2.0)
    arguments.add_argument("--dtype", default="bfloat16", help="of both sides")
    given = arguments.parse_args()

    spec = replace(Judge.load(given.judge).spec, context_tokens=given.context)
    engine = VLLMEngine(
        spec.model,
        dtype=given.dtype,
        context_tokens=given.context,
        kv_cache_memory_bytes=int(given.cache_gib * 2**30),
    )
    judge = Judge.load(given.judge, engine=engine, mode="direct")
    sure = Judge.load(given.judge, engine=engine, mode="direct", follow_above=1.0)
    loop = Loop(spec.model, given.dtype)
    rows: list[dict[str, Any]] = []
    for name in given.sets:
        groups = read_groups(name, given.limit)
        prompts, completions = flat(groups)
        inputs = [loop.engine_ids(engine, judge, g, c) for g in groups for c in g.completions]
        fitting = [ids for ids in inputs if len(ids) + 4 <= given.context]

        def ours(prompts: list[str] = prompts, completions: list[str] = completions) -> None:
            engine.forget()
            judge.rate(prompts, completions)

        def one_branch(prompts: list[str] = prompts, completions: list[str] = completions) -> None:
            engine.forget()
            sure.rate(prompts, completions)

        def theirs(inputs: list[list[int]] = fitting) -> None:
            for ids in inputs:
                loop.rate(ids)

        ours()
        loop.rate(fitting[0])
        sides = {"judge": ours, "one_branch": one_branch, "loop": theirs}
        seconds = alternating(sides, given.repeats)
        n, tokens = len(fitting), sum(map(len, fitting))
        rows.append(
            {
                "set": name,
                "judgments": n,
                "tokens": tokens,
                "sharing_allows": tokens / (tokens - sharable(fitting, engine.block_size)),
                "judge_per_second": n / statistics.median(seconds["judge"]),
                "loop_per_second": n / statistics.median(seconds["loop"]),
                "ratio": median_ratio(seconds["loop"], seconds["judge"]),
                "one_branch_ratio": median_ratio(seconds["loop"], seconds["one_branch"]),
                "wanted": WANTED.get(name, 1.0),
                "seconds": {k: [round(s, 2) for s in v] for k, v in seconds.items()},
            }
        )
        show([{k: v for k, v in row.items() if k != "seconds"} for row in rows])
    judge.close()
    publish(
        "throughput",
        "direct judgments a second: Judge on vLLM against a generate loop",
        {"dtype": given.dtype, "rows": rows},
    )


class Loop:
    """A plain `generate` loop."""

    def __init__(self, model: str, dtype: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        path = resolve_model(model)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).to(device).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(path)

    def engine_ids(self, engine: VLLMEngine, judge: Judge, group: Group, completion: str) -> list[int]:
        """The token ids that the judge sends for a direct rating."""
        protocol = judge.spec.rating
        assert protocol is not None
        body = protocol.template.fill({"prompt": group.prompt, "completion": completion})
        forced = (Segment(protocol.verdicts.verdict_prefix, True),)
        wrapper = judge.spec.direct_wrapper
        return engine.tokenizer.encode_input(JudgeInput(body=body, wrapper=wrapper, prefill=forced))

    def rate(self, ids: list[int]) -> float | None:
        """The rating that greedy decoding writes, or None."""
        import torch

        with torch.inference_mode():
            tokens = torch.tensor([ids], device=self.model.device)
            # Four tokens hold `10]]` and `7.5]`.
            out = self.model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=4,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=0,
            )
        text = self.tokenizer.decode(out[0, len(ids) :])
        found = re.match(r"\d+(\.\d+)?", text)
        return float(found.group()) if found else None


if __name__ == "__main__":
    main()
