# SPDX-License-Identifier: Apache-2.0
"""How many judgments a second, and where does their time go?

`Judge` with a cache on vLLM in this process, over whole groups of real completions: direct mode and critique
mode, cold (a new cache file and an empty prefix cache for each pass), in turns with raw vLLM, which is given
the token ids and sampling parameters that the judge sent; and warm, the same rows once more. The wall time of
the judge's passes is divided among its stages without a remainder: a stage's seconds are those in its
functions, less what these call of another stage. Ceiling: raw vLLM, whose share is `vllm` below.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from groups import SETS, flat, read_groups
from overhead import Recorder, generate
from peers import default_dtype
from report import alternating, median_ratio, publish, show

from autoj_reward.cache.store import JudgmentStore
from autoj_reward.engines import cached
from autoj_reward.engines.cached import CachedEngine
from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.engines.vllm.batch import Batch
from autoj_reward.engines.vllm.engine import VLLMEngine
from autoj_reward.judge import samples
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.pipeline import RequestPipeline
from autoj_reward.judge.template import Template
from autoj_reward.judgments import RatingJudgment

RENDER, VLLM, READ = "rendering and tokens", "vllm (prefill and decode)", "reading verdicts"
LOOK_UP, WRITE, REST = "cache look-up", "cache write", "rest"
STAGES: dict[str, tuple[tuple[Any, str], ...]] = {
    RENDER: ((Template, "fill"), (InjectionSafeTokenizer, "encode_inputs")),
    VLLM: ((Recorder, "add_request"), (Recorder, "step")),
    READ: (
        (Batch, "_read"),
        (Batch, "_written"),
        (samples, "find_verdict"),
        (samples, "read_sample"),
        (RequestPipeline, "_judgment"),
    ),
    LOOK_UP: ((cached, "parts_of"), (cached, "decode"), (JudgmentStore, "get"), (JudgmentStore, "claim")),
    WRITE: ((cached, "encode"), (JudgmentStore, "put")),
    REST: ((Judge, "rate"),),
}
"""The functions whose seconds are a stage's. All the others are in `rate`, so that their time is the rest."""


class Clock:
    """Seconds by stage while functions are timed; each second counts once, for the innermost of them."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """The function, its own seconds counted for the stage."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - start
                self.seconds[stage] += took - self._inner.pop()
                if self._inner:
                    self._inner[-1] += took

        return call

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Time the functions of all stages inside the block."""
        with contextlib.ExitStack() as stack:
            for stage, functions in STAGES.items():
                for owner, name in functions:
                    before = getattr(owner, name)
                    stack.callback(setattr, owner, name, before)
                    setattr(owner, name, self.timed(before, stage))
            yield

    def shares(self) -> dict[str, float]:
        """Each stage's share of all seconds."""
        total = sum(self.seconds.values())
        return {stage: self.seconds[stage] / total for stage in STAGES}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--judge", default="mini")
    arguments.add_argument("--set", default="truthfulqa-16", choices=list(SETS))
    arguments.add_argument("--limit", type=int, default=2, help="groups")
    arguments.add_argument("--tokens", type=int, default=48, help="most tokens of a critique")
    arguments.add_argument("--repeats", type=int, default=5, help="cold passes of each side")
    arguments.add_argument("--warm-repeats", type=int, default=50)
    arguments.add_argument("--context", type=int, default=2048)
    arguments.add_argument("--cache-gib", type=float, default=1.0, help="of vLLM's KV cache")
    arguments.add_argument("--dtype", default=default_dtype(), help="by default what the machine has")
    given = arguments.parse_args()

    engine = VLLMEngine(
        Judge.load(given.judge).spec.model,
        dtype=given.dtype,
        context_tokens=given.context,
        kv_cache_memory_bytes=int(given.cache_gib * 2**30),
    )
    prompts, completions = flat(read_groups(given.set, given.limit))
    rows: list[dict[str, Any]] = []
    stages: list[dict[str, Any]] = [{"stage": stage} for stage in STAGES]
    with tempfile.TemporaryDirectory(prefix="autoj-reward-speed-") as folder:
        for mode in ("direct", "critique"):
            row, clocks = measure(engine, given, mode, prompts, completions, Path(folder))
            rows.append(row)
            for stage in stages:
                stage |= {name: clock.shares()[stage["stage"]] for name, clock in clocks.items()}
    engine.close()
    show([{k: v for k, v in row.items() if k != "seconds"} for row in rows])
    print("\nshare of the wall time")
    show(stages)
    question = "judgments a second by mode and with a warm cache, over raw vLLM, and the share of each stage"
    publish("speed", question, {"dtype": given.dtype, "set": given.set, "rows": rows, "stages": stages})


def measure(
    engine: VLLMEngine,
    given: argparse.Namespace,
    mode: Any,
    prompts: list[str],
    completions: list[str],
    folder: Path,
) -> tuple[dict[str, Any], dict[str, Clock]]:
    """One mode's figures, and the clocks of its cold and its warm passes."""
    llm = engine._llm
    inner = llm.llm_engine
    recorder = Recorder(inner)
    stores = [JudgmentStore(folder / f"{mode}-{n}.sqlite") for n in range(given.repeats + 1)]
    judges = [
        Judge.load(given.judge, engine=CachedEngine(engine, store), mode=mode, max_new_tokens=given.tokens)
        for store in stores
    ]
    fresh = iter(judges)
    judged: list[RatingJudgment] = []

    def ours() -> None:
        engine.forget()
        judged[:] = next(fresh).rate(prompts, completions)

    llm.llm_engine = recorder
    ours()  # Compiles what is compiled at first use, and records.
    asked = list(recorder.asked)

    def raw() -> None:
        llm.llm_engine = inner
        generate(engine, asked)
        llm.llm_engine = recorder

    cold, warm = Clock(), Clock()
    with cold.running():
        seconds = alternating({"judge": ours, "raw": raw}, given.repeats)
    with warm.running():
        seconds |= alternating({"warm": lambda: judges[-1].rate(prompts, completions)}, given.warm_repeats)
    llm.llm_engine = inner
    for store in stores:
        store.close()
    n = len(prompts)
    share = cold.shares()[VLLM]
    row = {
        "mode": mode,
        "judgments": n,
        "per_second": n / statistics.median(seconds["judge"]),
        "raw_per_second": n / statistics.median(seconds["raw"]),
        "over_raw": median_ratio(seconds["judge"], seconds["raw"]),
        # The same within the judge's own passes, which the machine's noise between passes does not meet.
        "over_vllm": 1 / share,
        "warm_per_second": n / statistics.median(seconds["warm"]),
        "requests": len(asked),
        "prompt_tokens": sum(j.usage.prompt_tokens for j in judged),
        "cached_tokens": sum(j.usage.cached_tokens for j in judged),
        "completion_tokens": sum(j.usage.completion_tokens for j in judged),
        "without_verdict": sum(j.failure is not None for j in judged),
        "seconds": {k: [round(s, 4) for s in v] for k, v in seconds.items()},
    }
    return row, {mode: cold, f"{mode}, warm": warm}


if __name__ == "__main__":
    main()
