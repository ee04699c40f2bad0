# SPDX-License-Identifier: Apache-2.0
"""Scripted engines that read a quality out of each completion, so that tests know which one is better."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from autoj_reward.engines.recorded import rendered_text
from autoj_reward.errors import EngineUnavailable
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.presets import load_spec
from autoj_reward.testing import ScriptedEngine, make_reading, untrusted_texts
from autoj_reward.types import Failure, FailureReason, JudgeInput, JudgeOutput, Usage

_comparison = load_spec("mini").comparison
assert _comparison is not None
_TEMPERATURE = _comparison.verdicts.temperature

REFUSED = Failure(reason=FailureReason.ENGINE, detail="refused")


def refusing_engine() -> ScriptedEngine:
    """Refuses every input, for tests that look at what it was asked."""
    return ScriptedEngine(read=REFUSED, write=REFUSED)


SLOT = 0.3
"""Log-odds that the first slot gains from a noisy engine."""


class QualityEngine(ScriptedEngine):
    """Reads exact qualities: `q=7.5` in a completion is worth 7.5 of 10.

    A completion that states no quality gets one from its hash, so that a policy of any kind gets rewards that
    differ. `mumble` gets a reading without mass, `down` fails in the engine, `flaky` fails the first time.

    Args:
        noise: Added to the quality of each second time that the same input comes.
        seconds: How long each call takes.
        dies: Text at which the whole call fails.
        failing: Which of all the inputs it gets, counted from 0, it refuses.
    """

    def __init__(
        self,
        *,
        noise: float = 0.0,
        seconds: float = 0.0,
        dies: str | None = None,
        failing: frozenset[int] = frozenset(),
    ) -> None:
        super().__init__(read=self.read, write=self.write, seconds=seconds)
        self.noise = noise
        self.dies = dies
        self.failing = failing
        self.texts: list[tuple[str, ...]] = []

    @property
    def asked(self) -> Counter[tuple[str, ...]]:
        """How often each prompt and its completions came."""
        return Counter(self.texts)

    def read(self, item: JudgeInput) -> Mapping[str, float] | Failure:
        completions, repeated, refused = self._seen(item)
        assert item.readout is not None
        if refused:
            return REFUSED
        if any("mumble" in c for c in completions):
            return dict.fromkeys(item.readout.continuations, 1e-9)
        if len(completions) == 1:
            return around(quality(completions[0]) + self.noise * repeated, item.readout.continuations)
        p = win_prob(*map(quality, completions))
        return as_read({"Response 1": p, "Response 2": 1.0 - p, "Tie": 0.0})

    def write(self, item: JudgeInput) -> str | Failure:
        (completion,), _, refused = self._seen(item)
        # As the embedded judge was taught: whole points.
        return REFUSED if refused else f"About: {completion}\n\nRating: [[{round(quality(completion))}]]"

    def _seen(self, item: JudgeInput) -> tuple[tuple[str, ...], bool, bool]:
        """The completions of an input, whether it came before, and whether it is refused."""
        texts = tuple(untrusted_texts(item))
        self.texts.append(texts)
        repeated = self.texts.count(texts) > 1
        whole = "\n".join(texts[1:])
        if self.dies is not None and self.dies in whole:
            raise EngineUnavailable("the judge is gone", hint="start it again")
        refused = (
            len(self.texts) - 1 in self.failing or "down" in whole or ("flaky" in whole and not repeated)
        )
        return texts[1:], repeated, refused


def quality(completion: str) -> float:
    """The quality that a completion states, in [1, 10]; one from its hash if it states none."""
    found = re.search(r"q=(\d+(?:\.\d+)?)", completion)
    if found:
        return float(found[1])
    return (
        1.0 + int(hashlib.sha256(completion.encode("utf-8", "surrogatepass")).hexdigest(), 16) % 900 / 100.0
    )


def as_read(probs: Mapping[str, float]) -> dict[str, float]:
    """What an engine must read so that the embedded judge, with its temperature, states these probabilities."""
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


def noisy_engine(noise: float = 0.5) -> ScriptedEngine:
    """An engine with soft verdicts: `quality 7.5` in a completion is rated about 7.5, and the first slot gains.

    Noise comes from a hash of the input. A completion with the word `unreadable` gets a failure. Every input
    counts as 100 tokens.
    """
    usage = Usage(prompt_tokens=100, n_requests=1)

    def stated(item: JudgeInput) -> list[float]:
        return [float(q) for q in re.findall(r"quality (-?[\d.]+)", rendered_text(item))]

    def read(item: JudgeInput) -> JudgeOutput | Failure:
        assert item.readout is not None
        text, found = rendered_text(item), stated(item)
        if "unreadable" in text:
            return REFUSED
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        shift = noise * (int.from_bytes(digest[:4], "big") / 2**31 - 1)
        names = [c.strip() for c in item.readout.continuations]
        if "Tie" in names:
            margin = (found[0] - found[1] if len(found) == 2 else 0.0) + SLOT + shift
            logits = {names[0]: margin / 2, names[1]: -margin / 2, "Tie": -1.0}
        else:
            mean = (found[0] if found else 5.0) + shift
            logits = {name: -((float(name) - mean) ** 2) for name in names}
        total = sum(map(math.exp, logits.values()))
        probs = {name: math.exp(logit) / total for name, logit in logits.items()}
        return replace(make_reading(item, probs), usage=usage)

    def write(item: JudgeInput) -> JudgeOutput | Failure:
        if "unreadable" in rendered_text(item):
            return REFUSED
        stars = min(10, max(1, round((stated(item) or [5.0])[0])))
        return JudgeOutput(text=f"So so.\n\nRating: [[{stars}]]", finish_reason="stop", usage=usage)

    return ScriptedEngine(read=read, write=write)


@pytest.fixture
def engine() -> ScriptedEngine:
    return noisy_engine()


@pytest.fixture
def judge(engine: ScriptedEngine) -> Iterator[Judge]:
    with Judge.load("mini", engine=engine, mode="direct") as made:
        yield made
