# SPDX-License-Identifier: Apache-2.0
"""An engine that judges by what the completions say of themselves: `q=7.5` is worth 7.5 of 10.

What says nothing is worth what a hash of it says, so that a policy of any kind gets rewards that differ.
`mumble` gets a reading without mass, `down` fails in the engine. It counts what it is asked.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from autoj_reward.judge.presets import load_spec
from autoj_reward.types import (
    ContinuationLogprob,
    ContinuationLogprobs,
    Failure,
    FailureReason,
    JudgeInput,
    JudgeOutput,
    Usage,
)

_comparison = load_spec("mini").comparison
assert _comparison is not None
_TEMPERATURE = _comparison.verdicts.temperature


class ScriptedEngine:
    """Reads qualities off the completions.

    Args:
        noise: Added to the quality of each second time that the same input comes.
        seconds: How long each call takes.
        dies: Text at which the whole call fails.
        failing: Which of all the inputs it gets, counted from 0, it refuses.
    """

    fingerprint = "scripted"

    def __init__(
        self,
        *,
        noise: float = 0.0,
        seconds: float = 0.0,
        dies: str | None = None,
        failing: frozenset[int] = frozenset(),
    ) -> None:
        self.noise = noise
        self.seconds = seconds
        self.dies = dies
        self.failing = failing
        self.asked: Counter[tuple[str, ...]] = Counter()
        self.n_calls = 0
        self._counting = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k != "_counting"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._counting = threading.Lock()

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        with self._counting:
            self.n_calls += 1
        time.sleep(self.seconds)
        return [self._answer(item) for item in inputs]

    def close(self) -> None:
        """Nothing is held open."""

    def _answer(self, item: JudgeInput) -> JudgeOutput | Failure:
        texts = tuple(s.text for s in item.body if not s.trusted)
        _, *completions = texts
        with self._counting:
            self.asked[texts] += 1
            repeated = self.asked[texts] > 1
            refused = self.asked.total() - 1 in self.failing
        whole = "\n".join(completions)
        if self.dies is not None and self.dies in whole:
            from autoj_reward import EngineUnavailable

            raise EngineUnavailable("the judge is gone", hint="start it again")
        if refused or "down" in whole or ("flaky" in whole and not repeated):
            return Failure(reason=FailureReason.ENGINE, detail="refused")
        if item.readout is None:
            (completion,) = completions
            # As the embedded judge was taught: whole points.
            text = f"About: {completion}\n\nRating: [[{round(quality(completion))}]]"
            return JudgeOutput(text=text, finish_reason="stop", usage=Usage(n_requests=1))
        if "mumble" in whole:
            probs = dict.fromkeys(item.readout.continuations, 1e-9)
        elif len(completions) == 1:
            probs = around(quality(completions[0]) + self.noise * repeated, item.readout.continuations)
        else:
            first, second = (quality(c) for c in completions)
            p = win_prob(first, second)
            names = [c.strip() for c in item.readout.continuations]
            probs = as_read(dict(zip(item.readout.continuations, (p, 1.0 - p, 0.0), strict=True)))
            assert names == ["Response 1", "Response 2", "Tie"]
        paths = tuple(
            ContinuationLogprob(text=c, path_logprob=math.log(p) if p else -math.inf, end_logprob=0.0)
            for c, p in ((c, probs.get(c, 0.0)) for c in item.readout.continuations)
        )
        return JudgeOutput(text="", finish_reason="read", reading=ContinuationLogprobs(paths=paths))


def quality(completion: str) -> float:
    """What a completion says it is worth, in [1, 10]; what its hash says where it says nothing."""
    found = re.search(r"q=(\d+(?:\.\d+)?)", completion)
    if found:
        return float(found[1])
    return (
        1.0 + int(hashlib.sha256(completion.encode("utf-8", "surrogatepass")).hexdigest(), 16) % 900 / 100.0
    )


def as_read(probs: Mapping[str, float]) -> dict[str, float]:
    """What the embedded judge reads where these are its probabilities, once its temperature is applied."""
    return {text: p**_TEMPERATURE for text, p in probs.items()}


def win_prob(first: float, second: float) -> float:
    """Chance of the first against the second, as judgments state it."""
    return 1.0 / (1.0 + math.exp(second - first))


def around(value: float, continuations: Sequence[str]) -> dict[str, float]:
    """A distribution over ratings with the given mean."""
    below, above = math.floor(value), math.floor(value) + 1
    if f"{above}" not in continuations:
        return {f"{below}": 1.0}
    return {f"{below}": above - value, f"{above}": value - below}
