# SPDX-License-Identifier: Apache-2.0
"""What does `Judge` add to vLLM's own time?

`Judge.rate` on vLLM against one `LLM.generate` on the token ids and sampling parameters that it sent, in
direct mode and in critique mode, in turns, the prefix cache emptied before each turn. The baseline knows
beforehand what follows from the answers (further branches of a verdict, the verdict of a critique). Direct
mode is set beside a second one: one forced token for each input. What is left is ours: rendering,
tokenizing, adding up, and waiting for an answer before what follows from it is asked.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import time
from typing import Any

from groups import SETS, flat, read_groups, sharable
from report import alternating, median_ratio, publish, show

from autoj_reward.engines.vllm.engine import VLLMEngine
from autoj_reward.judge.judge import Judge

WANTED = 1.05


class Recorder:
    """The engine of a `vllm.LLM`, which also keeps what was asked of it, and how long its calls took."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.asked: list[tuple[Any, Any]] = []
        self.seconds = 0.0

    def add_request(self, name: str, prompt: Any, parameters: Any, **others: Any) -> Any:
        self.asked.append((prompt, parameters))
        return self._timed(self.inner.add_request, name, prompt, parameters, **others)

    def step(self) -> Any:
        return self._timed(self.inner.step)

    def _timed(self, call: Any, *given: Any, **named: Any) -> Any:
        start = time.perf_counter()
        result = call(*given, **named)
        self.seconds += time.perf_counter() - start
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--judge", default="mini")
    arguments.add_argument("--set", default="alpacaeval-32", choices=list(SETS))
    arguments.add_argument("--limit", type=int, default=1, help="groups")
    arguments.add_argument("--modes", nargs="*", default=["direct", "critique"])
    arguments.add_argument("--tokens", type=int, default=128, help="most tokens of a critique")
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--context", type=int, default=4096)
    arguments.add_argument("--cache-gib", type=float, default=2.0)
    given = arguments.parse_args()

    engine = VLLMEngine(
        Judge.load(given.judge).spec.model,
        dtype="bfloat16",
        context_tokens=given.context,
        kv_cache_memory_bytes=int(given.cache_gib * 2**30),
    )
    prompts, completions = flat(read_groups(given.set, given.limit))
    rows = []
    for mode in given.modes:
        judge = Judge.load(given.judge, engine=engine, mode=mode, max_new_tokens=given.tokens)
        rows.append(measure(engine, judge, prompts, completions, given.repeats))
    show([{k: v for k, v in row.items() if k not in ("seconds", "profile")} for row in rows])
    for row in rows:
        print(f"\n{row['mode']}: where our own time goes (seconds, function)")
        for line in row["profile"]:
            print(f"  {line}")
    engine.close()
    publish("overhead", "wall time of Judge over LLM.generate on the same token ids", {"rows": rows})


def measure(
    engine: VLLMEngine, judge: Judge, prompts: list[str], completions: list[str], repeats: int
) -> dict[str, Any]:
    """One row: the judge beside `LLM.generate` on its own requests, both from an empty prefix cache."""
    mode = judge.settings.mode
    llm = engine._llm
    inner = llm.llm_engine
    recorder = Recorder(inner)

    def ours() -> None:
        engine.forget()
        judge.rate(prompts, completions)

    llm.llm_engine = recorder
    ours()  # Compiles what is compiled at first use.
    recorder.asked.clear()
    engine.forget()
    judgments = judge.rate(prompts, completions)
    asked = list(recorder.asked)
    llm.llm_engine = inner
    n_read = sum(parameters.logprob_token_ids is not None for _, parameters in asked)

    def same_requests() -> None:
        generate(engine, asked)

    def one_token() -> None:
        single = [(prompt, p.clone()) for prompt, p in first_of_each(asked)]
        for _, p in single:
            p.max_tokens, p.allowed_token_ids = 1, None
        generate(engine, single)

    sides = {"judge": ours, "same_requests": same_requests}
    if mode == "direct":
        sides["one_token"] = one_token
    seconds = alternating(sides, repeats)

    recorder.seconds, llm.llm_engine = 0.0, recorder
    profiler = cProfile.Profile()
    start = time.perf_counter()
    profiler.runcall(ours)
    total = time.perf_counter() - start
    llm.llm_engine = inner
    row: dict[str, Any] = {
        "mode": mode,
        "judgments": len(prompts),
        "requests": len(asked),
        "requests_that_read": n_read,
        "judge_seconds": statistics.median(seconds["judge"]),
        "over_same_requests": median_ratio(seconds["judge"], seconds["same_requests"]),
        "wanted": WANTED,
        "per_second": len(prompts) / statistics.median(seconds["judge"]),
        # Of the prompt tokens in whole blocks of an earlier prompt; over 1 where a critique is found too.
        "prefix_hits": sum(j.usage.cached_tokens for j in judgments)
        / max(1, sharable([prompt["prompt_token_ids"] for prompt, _ in asked], engine.block_size)),
        "vllm_share": recorder.seconds / total,
    }
    row["over_one_token"] = median_ratio(seconds["judge"], seconds["one_token"]) if mode == "direct" else "-"
    row["seconds"] = {k: [round(s, 3) for s in v] for k, v in seconds.items()}
    row["profile"] = own_functions(profiler)
    return row


def generate(engine: VLLMEngine, requests: list[tuple[Any, Any]]) -> None:
    """The requests that a `Recorder` kept, by one call of vLLM alone, from an empty prefix cache."""
    engine.forget()
    ids = [{"prompt_token_ids": prompt["prompt_token_ids"]} for prompt, _ in requests]
    parameters = [p.clone() for _, p in requests]
    engine._llm.generate(ids, parameters, use_tqdm=False, lora_request=engine._adapter)


def first_of_each(asked: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The requests that go on from no other one's tokens."""
    kept: list[tuple[Any, Any]] = []
    for prompt, parameters in sorted(asked, key=lambda one: one[0]["prompt_token_ids"]):
        ids = prompt["prompt_token_ids"]
        before = kept[-1][0]["prompt_token_ids"] if kept else None
        if before is None or ids[: len(before)] != before:
            kept.append((prompt, parameters))
    return kept


def own_functions(profiler: cProfile.Profile) -> list[str]:
    """The functions of this package that take most time with what they call, vLLM's calls included."""
    lines: list[tuple[float, str]] = []
    for (file, _, function), (_, n, _, cumulative, _) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        if "autoj_reward" in file:
            module = file.partition("autoj_reward/")[2]
            lines.append((cumulative, f"{cumulative:8.3f}  {n:6d} calls  {module}:{function}"))
    return [text for _, text in sorted(lines, reverse=True)[:14]]


if __name__ == "__main__":
    main()
