# SPDX-License-Identifier: Apache-2.0
"""What does `Judge` add to vLLM's own time?

`Judge.rate` on vLLM against `LLM.generate` on the token ids and sampling parameters that it sent, in
direct mode and in critique mode, in turns, the prefix cache emptied before each turn. Direct mode is set
beside two baselines: the same requests with its follow-ups, and one forced token for each input. What is
left is ours: rendering, cutting into tokens, adding up.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import time
from typing import Any

from groups import SETS, flat, read_groups
from report import alternating, median_ratio, publish, show

from autoj_reward.engines.vllm.engine import VLLMEngine
from autoj_reward.judge.judge import Judge

WANTED = 1.05


class Recorder:
    """A `vllm.LLM` that also keeps what was asked of it, and how long it took."""

    def __init__(self, llm: Any) -> None:
        self.llm = llm
        self.calls: list[tuple[list[Any], list[Any], dict[str, Any]]] = []
        self.seconds = 0.0

    def generate(self, prompts: list[Any], parameters: list[Any], **others: Any) -> list[Any]:
        self.calls.append((prompts, parameters, others))
        start = time.perf_counter()
        answers: list[Any] = self.llm.generate(prompts, parameters, **others)
        self.seconds += time.perf_counter() - start
        return answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self.llm, name)


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
    rows = [measure(engine, given, mode, prompts, completions) for mode in given.modes]
    show([{k: v for k, v in row.items() if k not in ("seconds", "profile")} for row in rows])
    for row in rows:
        print(f"\n{row['mode']}: where our own time goes (seconds, function)")
        for line in row["profile"]:
            print(f"  {line}")
    engine.close()
    publish("overhead", "wall time of Judge over LLM.generate on the same token ids", {"rows": rows})


def measure(
    engine: VLLMEngine, given: argparse.Namespace, mode: Any, prompts: list[str], completions: list[str]
) -> dict[str, Any]:
    judge = Judge.load(given.judge, engine=engine, mode=mode, max_new_tokens=given.tokens)
    llm = engine._llm
    recorder = Recorder(llm)

    def ours() -> None:
        engine.forget()
        judge.rate(prompts, completions)

    engine._llm = recorder
    ours()  # Compiles what is compiled at first use, and records.
    calls = list(recorder.calls)
    engine._llm = llm

    def same_requests() -> None:
        engine.forget()
        for asked, parameters, others in calls:
            llm.generate(asked, parameters, **others)

    def one_token() -> None:
        engine.forget()
        asked, parameters, others = calls[0]
        single = [p.clone() for p in parameters]
        for p in single:
            p.max_tokens, p.allowed_token_ids = 1, None
        llm.generate(asked, single, **others)

    sides = {"judge": ours, "same_requests": same_requests}
    if mode == "direct":
        sides["one_token"] = one_token
    seconds = alternating(sides, given.repeats)

    recorder.seconds, engine._llm = 0.0, recorder
    profiler = cProfile.Profile()
    start = time.perf_counter()
    profiler.runcall(ours)
    total = time.perf_counter() - start
    engine._llm = llm
    row: dict[str, Any] = {
        "mode": mode,
        "judgments": len(prompts),
        "requests": sum(len(asked) for asked, _, _ in calls),
        "calls": len(calls),
        "judge_seconds": statistics.median(seconds["judge"]),
        "over_same_requests": median_ratio(seconds["judge"], seconds["same_requests"]),
        "wanted": WANTED,
        "vllm_share": recorder.seconds / total,
    }
    row["over_one_token"] = median_ratio(seconds["judge"], seconds["one_token"]) if mode == "direct" else "-"
    row["seconds"] = {k: [round(s, 3) for s in v] for k, v in seconds.items()}
    row["profile"] = own_functions(profiler)
    return row


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
