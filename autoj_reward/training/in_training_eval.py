# SPDX-License-Identifier: Apache-2.0
"""Evaluate a model as a judge while it trains, on held-out prompts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.engines.transformers.engine import TransformersEngine
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.training.config import MEASURED_FLAWS
from autoj_reward.training.contrast import make_contrast
from autoj_reward.training.data import Part
from autoj_reward.types import Failure, JudgeInput, JudgeOutput

RESOLUTION = 1e-3
"""Differences of expected ratings and win probabilities below this count as ties: engine noise."""


class LiveEngine(TransformersEngine):
    """The transformers engine around a model that is already in memory.

    Args:
        model: A causal language model, an adapter on it or not.
        tokenizer: Its tokenizer.
        autocast: Compute in bfloat16, as training does.
    """

    def __init__(self, model: Any, tokenizer: InjectionSafeTokenizer, *, autocast: bool) -> None:
        self.model_name = "in training"
        self._hold(model, tokenizer, "in training")
        self._autocast = autocast

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        training = self._model.training
        self._model.eval()
        try:
            with torch.autocast(self._model.device.type, torch.bfloat16, enabled=self._autocast):
                return super().generate(inputs)
        finally:
            self._model.train(training)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A held-out pair with a known better side. `name` is its flaw or `human`."""

    name: str
    prompt: str
    better: str
    worse: str


def measure_cases(part: Part, n: int, *, seed: int, max_chars: int) -> list[Case]:
    """n cases of each flaw and 2n human pairs, from held-out rows."""
    cases = []
    for flaw in MEASURED_FLAWS:
        drawn = make_contrast(part, n, seed=seed, max_chars=max_chars, flaws={flaw: 1.0})
        cases += [Case(name=flaw, prompt=c.prompt, better=c.better, worse=c.worse) for c in drawn]
    decided = [p for p in part.pairs if p.preference != "tie"]
    decided = [p for p in decided if len(p.prompt) + len(p.first) + len(p.second) <= max_chars]
    for pair in random.Random(seed).sample(decided, min(2 * n, len(decided))):
        texts = (pair.first, pair.second) if pair.preference == "first" else (pair.second, pair.first)
        cases.append(Case(name="human", prompt=pair.prompt, better=texts[0], worse=texts[1]))
    return cases


def measure(judge: Judge, cases: Sequence[Case], *, wanted: Sequence[str] = ()) -> dict[str, float]:
    """Shares of cases that the judge gets right, by name and protocol; an undecided one counts half.

    `slot bias` is the mean gain of the first completion
    in win probability (`PairJudgment.slot_bias`), and `mass` the mean probability inside the verdict set.

    Args:
        judge: The judge.
        cases: Held-out cases.
        wanted: Protocol and case, as in `rating other_prompt`; empty measures everything.
    """
    found: dict[str, list[float]] = {}
    rated = [c for c in cases if not wanted or f"rating {c.name}" in wanted]
    if rated and judge.spec.rating is not None:
        prompts = [c.prompt for c in rated]
        better = judge.rate(prompts, [c.better for c in rated])
        worse = judge.rate(prompts, [c.worse for c in rated])
        for case, a, b in zip(rated, better, worse, strict=True):
            found.setdefault("rating mass", []).append(a.mass or 0.0)
            value = won(a.expected_rating, b.expected_rating)
            found.setdefault(f"rating {case.name}", []).append(value)
    cases = [c for c in cases if not wanted or f"comparison {c.name}" in wanted]
    if cases and judge.spec.comparison is not None:
        prompts = [c.prompt for c in cases]
        # Every other case is swapped, so that the first completion is not always the better one.
        turned = [n % 2 == 1 for n in range(len(cases))]
        firsts = [c.worse if t else c.better for c, t in zip(cases, turned, strict=True)]
        seconds = [c.better if t else c.worse for c, t in zip(cases, turned, strict=True)]
        for case, turn, pair in zip(cases, turned, judge.compare(prompts, firsts, seconds), strict=True):
            found.setdefault("comparison mass", []).append(pair.mass or 0.0)
            if pair.slot_bias is not None:
                found.setdefault("slot bias", []).append(pair.slot_bias)
            win = pair.win_prob
            value = won(None if win is None else 1 - win if turn else win, 0.5)
            found.setdefault(f"comparison {case.name}", []).append(value)
    return {name: sum(values) / len(values) for name, values in sorted(found.items())}


def won(a: float | None, b: float | None) -> float:
    """1 if a is above b, 0 if below, one half for a tie or if one is None."""
    if a is None or b is None or abs(a - b) < RESOLUTION:
        return 0.5
    return float(a > b)


def live_judge(model: Any, spec: JudgeSpec, tokenizer: InjectionSafeTokenizer, *, autocast: bool) -> Judge:
    """A direct judge over a model in memory."""
    from autoj_reward.judge.samples import ReadingRules
    from autoj_reward.judge.settings import JudgeSettings

    settings = JudgeSettings(
        mode="direct",
        n_samples=1,
        both_orders=True,
        overlong="truncate",
        sampling=spec.sampling,
        rules=ReadingRules(min_mass=1e-6, follow_above=1e-3),
    )
    return Judge(spec, settings, LiveEngine(model, tokenizer, autocast=autocast))
