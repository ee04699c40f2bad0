# SPDX-License-Identifier: Apache-2.0
"""Do the engines agree?

All engines read the same direct verdicts and continue the same prompts. In float32, distributions must be
within 1e-3 of transformers', and the first 64 greedy tokens equal on at least 15 of 16 prompts. In bfloat16
two correct engines differ by the steps of its logits: at most 1e-2 in the mean over a distribution's
probabilities and 5e-2 anywhere.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from groups import SETS, read_groups
from report import publish, show

from autoj_reward.engines import Engine
from autoj_reward.engines.transformers.engine import TransformersEngine
from autoj_reward.engines.vllm.engine import VLLMEngine
from autoj_reward.judge.presets import load_spec
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.types import JudgeInput, JudgeOutput, Sampling, Segment


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--judge", default="mini")
    arguments.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16"])
    arguments.add_argument("--limit", type=int, default=1, help="groups of each set to read")
    arguments.add_argument("--texts", type=int, default=16, help="prompts to write after")
    arguments.add_argument("--tokens", type=int, default=64)
    arguments.add_argument("--context", type=int, default=4096)
    arguments.add_argument("--cache-gib", type=float, default=2.0)
    given = arguments.parse_args()

    spec = load_spec(given.judge)
    verdicts = [item for name in SETS for item in reading_inputs(spec, name, given.limit)]
    texts = writing_inputs(spec, given.texts, given.tokens)
    rows: list[dict[str, Any]] = []
    for dtype in given.dtypes:
        answers: dict[str, list[Any]] = {}
        for name in ("transformers", "vllm"):
            engine = make(name, spec, dtype, given)
            answers[name] = [engine.generate(verdicts), engine.generate(texts)]
            engine.close()
        rows.append({"dtype": dtype, **compare(answers["transformers"], answers["vllm"])})
        show(rows)
    publish("agreement", "vLLM against transformers: verdict probabilities and greedy text", {"rows": rows})


def make(name: str, spec: JudgeSpec, dtype: str, given: argparse.Namespace) -> Engine:
    if name == "transformers":
        return TransformersEngine(spec.model, dtype=dtype, context_tokens=given.context)
    return VLLMEngine(
        spec.model,
        dtype=dtype,
        context_tokens=given.context,
        kv_cache_memory_bytes=int(given.cache_gib * 2**30),
    )


def reading_inputs(spec: JudgeSpec, name: str, limit: int) -> list[JudgeInput]:
    """Ratings of every completion, and comparisons of neighbours."""
    assert spec.rating is not None
    assert spec.comparison is not None
    inputs: list[JudgeInput] = []
    for group in read_groups(name, limit):
        fields = [(spec.rating, {"prompt": group.prompt, "completion": c}) for c in group.completions]
        fields += [
            (spec.comparison, {"prompt": group.prompt, "first": a, "second": b})
            for a, b in zip(group.completions[::2], group.completions[1::2], strict=False)
        ]
        inputs += [
            JudgeInput(
                body=protocol.template.fill(values),
                wrapper=spec.direct_wrapper,
                prefill=(Segment(protocol.verdicts.verdict_prefix, True),),
                readout=protocol.verdicts.readout(),
            )
            for protocol, values in fields
        ]
    return inputs


def writing_inputs(spec: JudgeSpec, n: int, tokens: int) -> list[JudgeInput]:
    """The beginning of a critique for the first completion of n prompts each."""
    assert spec.rating is not None
    return [
        JudgeInput(
            body=spec.rating.template.fill({"prompt": g.prompt, "completion": g.completions[0]}),
            wrapper=spec.wrapper,
            sampling=Sampling(max_new_tokens=tokens),
        )
        for g in read_groups("truthfulqa-16", n)
    ]


def compare(ours: list[Any], theirs: list[Any]) -> dict[str, Any]:
    """Differences between two engines' readings, and the number of equal texts."""
    means: list[float] = []
    most = 0.0
    for a, b in zip(ours[0], theirs[0], strict=True):
        if isinstance(a, JudgeOutput) and isinstance(b, JudgeOutput) and a.reading and b.reading:
            gaps = [abs(x.prob - y.prob) for x, y in zip(a.reading.paths, b.reading.paths, strict=True)]
            means.append(statistics.fmean(gaps))
            most = max(most, *gaps)
    same = sum(a.text == b.text for a, b in zip(ours[1], theirs[1], strict=True))
    return {
        "readings": len(means),
        "mean_difference": statistics.fmean(means),
        "largest_difference": most,
        "same_texts": f"{same} of {len(ours[1])}",
    }


if __name__ == "__main__":
    main()
