# SPDX-License-Identifier: Apache-2.0
"""Does the `vllm` engine work here, what does it add to vLLM, and does it agree with transformers?

One start of the engine with the embedded judge, then: ratings, a comparison, a critique and a typed failure;
`Judge` over raw vLLM; verdict probabilities beside those of transformers; and the loop that people write. The
results are written after every step, and a step that fails leaves the next ones to run.
"""

from __future__ import annotations

import argparse
import statistics
import time
import traceback
from collections.abc import Callable
from typing import Any

import agreement
import overhead
import throughput
from groups import flat, read_groups
from report import publish

from autoj_reward.engines.checkpoint.embedded import resolve_model
from autoj_reward.engines.transformers.engine import TransformersEngine
from autoj_reward.engines.vllm.engine import VLLMEngine
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.presets import load_spec


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--limit", type=int, default=8, help="groups")
    arguments.add_argument("--tokens", type=int, default=128, help="most tokens of a critique")
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--memory-share", type=float, default=0.3)
    arguments.add_argument("--cache-gib", type=float, help="instead of a share; for a CPU")
    arguments.add_argument("--eager", action="store_true", help="compile nothing: slower, and starts sooner")
    given = arguments.parse_args()

    spec = load_spec("mini")
    resolve_model(spec.model)
    room: dict[str, Any] = {"memory_share": given.memory_share}
    if given.cache_gib is not None:
        room = {"kv_cache_memory_bytes": int(given.cache_gib * 2**30)}
    room["enforce_eager"] = given.eager
    start = time.perf_counter()
    engine = VLLMEngine(spec.model, dtype="bfloat16", context_tokens=4096, **room)
    results: dict[str, Any] = {"start_seconds": time.perf_counter() - start}
    steps: list[Callable[..., Any]] = [smoke, added, agrees, loop]
    for step in steps:
        start = time.perf_counter()
        try:
            results[step.__name__] = step(engine, given)
        except Exception as error:
            traceback.print_exc()
            results[step.__name__] = {"failed": repr(error)[:500]}
        results[f"{step.__name__}_seconds"] = time.perf_counter() - start
        publish("gpu_mini", "the vllm engine with the embedded judge", results)
    engine.close()


def smoke(engine: VLLMEngine, given: argparse.Namespace) -> dict[str, Any]:
    judge = Judge.load("mini", engine=engine, mode="direct")
    prompt, right, wrong = "Name a prime above ten.", "13 is a prime above ten.", "Bananas are yellow."
    rated = judge.rate([prompt] * 3, [right, wrong, "long " * 9000])
    (compared,) = judge.compare([prompt], [right], [wrong])
    critic = Judge.load("mini", engine=engine, mode="critique", max_new_tokens=given.tokens)
    (written,) = critic.rate([prompt], [right])
    return {
        "ratings": [j.expected_rating for j in rated],
        "failures": [j.failure and j.failure.reason for j in rated],
        "win_prob": compared.win_prob,
        "critique": written.critique,
        "critique_rating": written.rating,
    }


def added(engine: VLLMEngine, given: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for name, mode in (("alpacaeval-32", "direct"), ("alpacaeval-32", "critique"), ("summeval-16", "direct")):
        prompts, completions = flat(read_groups(name, given.limit))
        judge = Judge.load("mini", engine=engine, mode=mode, max_new_tokens=given.tokens)
        rows.append({"set": name, **overhead.measure(engine, judge, prompts, completions, given.repeats)})
    return rows


def agrees(engine: VLLMEngine, given: argparse.Namespace) -> dict[str, Any]:
    spec = load_spec("mini")
    few = max(1, given.limit // 4)
    verdicts = [
        i for name in ("alpacaeval-32", "summeval-16") for i in agreement.reading_inputs(spec, name, few)
    ]
    texts = agreement.writing_inputs(spec, 2 * given.limit, 64)
    other = TransformersEngine(spec.model, dtype="bfloat16", context_tokens=4096)
    theirs = [other.generate(verdicts), other.generate(texts)]
    other.close()
    return agreement.compare(theirs, [engine.generate(verdicts), engine.generate(texts)])


def loop(engine: VLLMEngine, given: argparse.Namespace) -> list[dict[str, Any]]:
    spec = load_spec("mini")
    judge = Judge.load("mini", engine=engine, mode="direct")
    theirs = throughput.Loop(spec.model, "bfloat16")
    rows = []
    for name in ("alpacaeval-32", "summeval-16"):
        groups = read_groups(name, given.limit)
        prompts, completions = flat(groups)
        ids = [theirs.engine_ids(engine, judge, groups[0], c) for c in groups[0].completions]
        theirs.rate(ids[0])
        start = time.perf_counter()
        for one in ids:
            theirs.rate(one)
        loop_rate = len(ids) / (time.perf_counter() - start)
        seconds = []
        for _ in range(given.repeats):
            engine.forget()
            start = time.perf_counter()
            judge.rate(prompts, completions)
            seconds.append(time.perf_counter() - start)
        rate = len(prompts) / statistics.median(seconds)
        rows.append({"set": name, "loop": loop_rate, "judge": rate, "ratio": rate / loop_rate})
    return rows


if __name__ == "__main__":
    main()
