# SPDX-License-Identifier: Apache-2.0
"""How many judgments a second does our own code allow, on a model that takes no time?

`Judge.rate` on the `vllm` engine, whose model is replaced by one that answers at once from a script.
Everything else is real: templates, tokenizer, sorting, reading of verdicts, follow-up requests. CPU time is
counted, which other programs on the machine disturb less than they do wall time; what the replaced model and
the tokenizer take is left out. Then, by the wall, the pace of the whole is set beside that of the tokenizer
alone on the same texts, with all its threads. The judge is either sure (one request for each verdict), or
diffuse and read to the end of every verdict (a request for each branch of the verdicts' token tree).

    python benchmarks/own_code.py
    python benchmarks/own_code.py --cache
    python benchmarks/own_code.py --modes critique --profile
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import math
import pstats
import statistics
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from groups import SETS, flat, read_groups
from report import publish, show

from autoj_reward.cache.store import JudgmentStore
from autoj_reward.engines.cached import CachedEngine
from autoj_reward.engines.checkpoint.embedded import embedded_checkpoint
from autoj_reward.engines.vllm.engine import VLLMEngine
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.presets import load_spec
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.types import JudgeInput

WANTED = {"direct": 5000, "critique": 2000}
"""Judgments a second a core, without the tokenizer."""
WANTED_OF_TOKENIZER = 0.7
DIFFUSE = [math.log(0.5 ** (n + 1)) for n in range(128)]
SURE = [math.log(0.999), *([math.log(1e-6)] * 127)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--judge", default="mini")
    arguments.add_argument("--set", default="alpacaeval-32", choices=list(SETS))
    arguments.add_argument("--limit", type=int, default=16, help="groups")
    arguments.add_argument("--tokens", type=int, default=256, help="tokens of a critique")
    arguments.add_argument("--repeats", type=int, default=9)
    arguments.add_argument("--modes", nargs="*", default=list(WANTED), choices=list(WANTED))
    arguments.add_argument("--cache", action="store_true", help="with an empty cache in front of the engine")
    arguments.add_argument("--profile", action="store_true", help="print where the time goes instead")
    given = arguments.parse_args()

    engine, model = instant_engine(given.judge)
    prompts, completions = flat(read_groups(given.set, given.limit))
    model.critiques = critiques(engine, completions, given.tokens)
    rows = []
    sure, every = load_spec(given.judge), every_branch(load_spec(given.judge))
    for mode, guard, spec in itertools.product(given.modes, (False, True), (sure, every)):
        model.logprobs = SURE if spec is sure else DIFFUSE
        options = {
            "guard": guard,
            "max_new_tokens": given.tokens,
            "follow_above": 1e-4 if spec is sure else 0.0,
        }
        judge = Judge.load(spec, engine=engine, mode=mode, **options)
        if given.profile:
            profile(judge, prompts, completions)
            continue
        row = measure(judge, model, prompts, completions, given.repeats, given.cache)
        rows.append({"guard": guard, **row})
    if given.profile:
        return
    show(rows)
    publish("own_code", "judgments a second that our own code allows", {"wanted": WANTED, "rows": rows})


def every_branch(spec: JudgeSpec) -> JudgeSpec:
    """A judge whose verdicts are read to their end, each."""
    task = spec.rating
    assert task is not None
    return replace(spec, rating=replace(task, verdicts=replace(task.verdicts, assume_ends=False)))


class Clock:
    """CPU seconds of the calling thread within some calls, by name and by whether it was the main thread."""

    def __init__(self) -> None:
        self.seconds: defaultdict[tuple[str, bool], float] = defaultdict(float)

    def timed(self, name: str, call: Any) -> Any:
        def run(*given: Any, **named: Any) -> Any:
            start = time.thread_time()
            try:
                return call(*given, **named)
            finally:
                key = name, threading.current_thread() is threading.main_thread()
                self.seconds[key] += time.thread_time() - start

        return run

    def own(self, whole: float) -> float:
        """Our code's share of the main thread's time, and of another one's that encodes inputs."""
        main = whole - sum(s for (name, on_main), s in self.seconds.items() if on_main and name != "inputs")
        return main + self.seconds["inputs", False] - self.seconds["encode", False]


class Timed:
    """Another object, some of whose methods are timed."""

    def __init__(self, inner: Any, clock: Clock, **names: str) -> None:
        self._inner = inner
        for method, name in names.items():
            setattr(self, method, clock.timed(name, getattr(inner, method)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class InstantModel:
    """The engine of a `vllm.LLM` that answers at once, up to 256 requests a step."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.critiques: list[list[int]] = []
        self.logprobs = SURE
        self.n_requests = 0
        self.vllm_config = SimpleNamespace(
            model_config=SimpleNamespace(max_model_len=8192, dtype="torch.bfloat16"),
            cache_config=SimpleNamespace(block_size=16, num_gpu_blocks=60_000),
        )
        self._waiting: deque[tuple[str, list[int], Any]] = deque()
        self._read: dict[int, tuple[list[int], Any, Any]] = {}
        self.step = self.clock.timed("model", self._step)

    def add_request(self, name: str, prompt: Any, parameters: Any, lora_request: Any = None) -> None:
        self.n_requests += 1
        self._waiting.append((name, prompt["prompt_token_ids"], parameters))

    def has_unfinished_requests(self) -> bool:
        return bool(self._waiting)

    def _step(self) -> list[Any]:
        taken = [self._waiting.popleft() for _ in range(min(256, len(self._waiting)))]
        return [_output(name, ids, *self._answer(ids, parameters)) for name, ids, parameters in taken]

    def _answer(self, ids: list[int], parameters: Any) -> tuple[list[int], Any]:
        listed = parameters.logprob_token_ids
        if listed is None:
            return self.critiques[len(ids) % len(self.critiques)], None
        if id(parameters) not in self._read:
            # The first of the listed tokens is the most probable one, then the last, which ends a verdict.
            n, width = parameters.max_tokens, len(listed)
            allowed = set(parameters.allowed_token_ids or listed)
            token = next(i for i in listed if i in allowed)
            steps = SimpleNamespace(
                start_indices=[k * width for k in range(n)],
                end_indices=[(k + 1) * width for k in range(n)],
                token_ids=list(listed) * n,
                logprobs=self.logprobs[:width] + self.logprobs[:width][::-1] * (n - 1),
            )
            # The parameters are kept too: another object could get their id.
            self._read[id(parameters)] = [token] * n, steps, parameters
        tokens, steps, _ = self._read[id(parameters)]
        return tokens, steps


def _output(name: str, ids: list[int], tokens: list[int], logprobs: Any) -> Any:
    written = SimpleNamespace(token_ids=tokens, finish_reason="stop", logprobs=logprobs)
    return SimpleNamespace(
        request_id=name, finished=True, prompt_token_ids=ids, num_cached_tokens=0, outputs=[written]
    )


def instant_engine(judge: str) -> tuple[VLLMEngine, InstantModel]:
    """The `vllm` engine on a model that answers at once, and that model."""
    import vllm

    model = InstantModel()
    vllm.LLM = lambda *_, **__: SimpleNamespace(llm_engine=model)
    engine = VLLMEngine(str(embedded_checkpoint()), dtype="bfloat16")
    clock, tokenizer = model.clock, engine.tokenizer
    timed = dict.fromkeys(("encode", "encode_batch", "encode_batch_fast"), "encode")
    tokenizer._whole = Timed(tokenizer._whole, clock, **timed)
    tokenizer.hf = Timed(tokenizer.hf, clock, decode="decode")
    tokenizer.encode_inputs = clock.timed("inputs", tokenizer.encode_inputs)
    return engine, model


class TokenizerAlone:
    """The tokenizer's own pace: all that the judge had encoded, each text whole, and what it had decoded."""

    def __init__(self, engine: VLLMEngine) -> None:
        self._tokenizer = engine.tokenizer
        self._texts: list[str] = []
        self._ids: list[list[int]] = []

    def record(self, work: Callable[[], Any]) -> None:
        """Keep what one run asks of the tokenizer."""
        tokenizer = self._tokenizer
        encode, decode = tokenizer.encode_inputs, tokenizer.decode_turn

        def encoding(inputs: Sequence[JudgeInput], *others: Any) -> list[list[int]]:
            self._texts += ["".join(s.text for s in tokenizer.render(item)) for item in inputs]
            return encode(inputs, *others)

        def decoding(context: list[int], ids: list[int], *others: Any) -> tuple[str, bool]:
            self._ids.append(ids)
            return decode(context, ids, *others)

        tokenizer.encode_inputs, tokenizer.decode_turn = encoding, decoding
        try:
            work()
        finally:
            tokenizer.encode_inputs, tokenizer.decode_turn = encode, decode

    def run(self) -> None:
        """All of it, in large batches, on all cores."""
        whole, hf = self._tokenizer._whole, self._tokenizer.hf
        for start in range(0, len(self._texts), 128):
            for encoding in whole.encode_batch_fast(
                self._texts[start : start + 128], add_special_tokens=False
            ):
                assert encoding.ids
        for ids in self._ids:
            hf.decode(ids, skip_special_tokens=True)


def critiques(engine: VLLMEngine, texts: Sequence[str], tokens: int) -> list[list[int]]:
    """Token ids of texts that are as long as a critique and end with a rating."""
    encode = engine.tokenizer.hf.backend_tokenizer.encode
    end = encode("\n\nRating: [[7]]", add_special_tokens=False).ids
    ids = [encode(text, add_special_tokens=False).ids for text in texts]
    return [[*(own * (1 + tokens // max(len(own), 1)))[: tokens - len(end)], *end] for own in ids if own]


def measure(
    judge: Judge, model: InstantModel, prompts: list[str], completions: list[str], repeats: int, cache: bool
) -> dict[str, Any]:
    clock, engine = model.clock, judge.engine
    alone = TokenizerAlone(engine)
    alone.record(lambda: judge.rate(prompts, completions))
    runs: list[dict[str, float]] = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            asked = judge
            if cache:
                kept = CachedEngine(engine, JudgmentStore(Path(folder) / "judgments.sqlite"))
                asked = Judge(judge.spec, judge.settings, kept)
            clock.seconds.clear()
            model.n_requests = 0
            thread, process, wall = time.thread_time(), time.process_time(), time.perf_counter()
            judgments = asked.rate(prompts, completions)
            own = clock.own(time.thread_time() - thread)
            process, wall = time.process_time() - process, time.perf_counter() - wall
            if cache:
                kept.store.close()
        assert all(j.failure is None for j in judgments), next(j.failure for j in judgments if j.failure)
        model_seconds = clock.seconds["model", True]
        process_alone, wall_alone = time.process_time(), time.perf_counter()
        alone.run()
        process_alone, wall_alone = time.process_time() - process_alone, time.perf_counter() - wall_alone
        runs.append(
            {
                "own": own,
                "all": process - model_seconds,
                "tokenizer": process_alone,
                "pace": wall_alone / wall,
            }
        )
    n = len(prompts)
    # The least disturbed run of each: other programs can only add to CPU time.
    least = {name: min(run[name] for run in runs) for name in runs[0]}
    paces = [run["pace"] for run in runs]
    return {
        "mode": judge.settings.mode,
        "judge": "sure" if model.logprobs is SURE else "diffuse",
        "cache": cache,
        "judgments": n,
        "requests": model.n_requests,
        "own_per_second_a_core": n / least["own"],
        "wanted": WANTED[judge.settings.mode],
        "own_microseconds": least["own"] / n * 1e6,
        "median_own_microseconds": statistics.median(run["own"] for run in runs) / n * 1e6,
        "all_microseconds": least["all"] / n * 1e6,
        "tokenizer_microseconds": least["tokenizer"] / n * 1e6,
        "of_tokenizers_pace": statistics.median(paces),
        "of_tokenizers_pace_range": [min(paces), max(paces)],
    }


def profile(judge: Judge, prompts: list[str], completions: list[str]) -> None:
    # CPU time: what other programs take is not in it.
    profiler = cProfile.Profile(time.thread_time)
    profiler.runcall(judge.rate, prompts, completions)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(35)


if __name__ == "__main__":
    main()
