# SPDX-License-Identifier: Apache-2.0
"""The gap between the training reward and a gold reward over time, and its alarm.

The alarm is a self-starting CUSUM (Hawkins 1987, Journal of Quality Technology 19): it needs no honest run
to learn from. Each step's mean gap is compared with the mean of all steps before it, as a standard normal
score z, and the sum S = max(0, S + z - 1/2) rings above its threshold h. How much a step's mean varies is
estimated from the steps and, where a step has several prompts, from how much these differ. The false alarm
rate is known: while the expected gap stays the same and prompts are independent, an alarm is due once in 930
steps for h = 5 and once in 335 for h = 4 (average run lengths of the one-sided CUSUM).
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.monitor.monitor import Alarm, Scored

_REFERENCE = 0.5
"""What a score must exceed to count: half the rise, in standard deviations, that is found fastest."""
_MOST_SCORE = 3.0
"""A step counts at most as much, so that no single one rings."""
_LEAST_FREEDOM = 2
"""Degrees of freedom of the estimated variance from which there are scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapPoint:
    """The two rewards at one step.

    Attributes:
        step: The training step.
        n: Completions with both rewards.
        reward: Mean training reward.
        gold: Mean gold reward.
        gap: Reward less gold: the mean over prompts of each prompt's mean.
        cusum: The alarm's statistic, at least 0.
    """

    step: int
    n: int
    reward: float
    gold: float
    gap: float
    cusum: float

    def as_record(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(slots=True)
class GapMonitor:
    """Watches whether the training reward rises by more than a gold reward. Picklable; not thread-safe.

    Attributes:
        threshold: The statistic from which an alarm rings, above 0; None never rings.
        points: All steps so far.
    """

    threshold: float | None = 5.0
    points: list[GapPoint] = field(default_factory=list)
    _gaps: list[float] = field(default_factory=list)
    _within: tuple[float, int] = (0.0, 0)
    _cusum: float = 0.0

    def __post_init__(self) -> None:
        if self.threshold is not None and self.threshold <= 0:
            raise ConfigError(f"threshold = {self.threshold} is not above 0")

    def add(
        self,
        rewards: Sequence[float | None],
        golds: Sequence[float | None],
        *,
        step: int,
        prompts: Sequence[Hashable] | None = None,
    ) -> list[Alarm]:
        """Add a step's completions; returns its alarm, if it rings. After an alarm the sum begins again.

        Args:
            rewards: n training rewards; None for a failure.
            golds: n gold rewards of the same completions, on the same scale.
            step: The training step.
            prompts: n prompts: completions of one prompt vary together. None takes all for one prompt's.

        Raises:
            ConfigError: The lengths differ.
        """
        asked = [None] * len(rewards) if prompts is None else prompts
        if not len(rewards) == len(golds) == len(asked):
            raise ConfigError(
                f"there are {len(rewards)} rewards, {len(golds)} gold rewards and {len(asked)} prompts"
            )
        read = [
            (p, r, g)
            for p, r, g in zip(asked, rewards, golds, strict=True)
            if r is not None and g is not None
        ]
        read = [(p, r, g) for p, r, g in read if math.isfinite(r - g)]
        if not read:
            return []
        n = len(read)
        reward, gold = math.fsum(r for _, r, _ in read) / n, math.fsum(g for _, _, g in read) / n
        by_prompt: defaultdict[Hashable, list[float]] = defaultdict(list)
        for prompt, r, g in read:
            by_prompt[prompt].append(r - g)
        means = [math.fsum(own) / len(own) for own in by_prompt.values()]
        gap, k = math.fsum(means) / len(means), len(means)
        squares, freedom = self._within
        # Of the mean of k prompts: the variance over the prompts, divided by k.
        self._within = squares + math.fsum((m - gap) ** 2 for m in means) / k, freedom + k - 1
        self._cusum = max(0.0, self._cusum + score(self._gaps, gap, self._within) - _REFERENCE)
        self._gaps.append(gap)
        point = GapPoint(step=step, n=n, reward=reward, gold=gold, gap=gap, cusum=self._cusum)
        self.points.append(point)
        if self.threshold is None or self._cusum < self.threshold:
            return []
        self._cusum = 0.0
        first = self.points[0]
        text = (
            f"step {step}: the training reward rises away from the gold reward: {first.reward:.3g} to "
            f"{reward:.3g}, gold {first.gold:.3g} to {gold:.3g}"
        )
        return [Alarm(name="gold_gap", step=step, value=point.cusum, threshold=self.threshold, text=text)]


def score(before: Sequence[float], value: float, within: tuple[float, int] = (0.0, 0)) -> float:
    """How far a value is above those before it, as a standard normal score in [-3, 3]; 0 of too few.

    For normal values it is a standard normal variable independent of the scores before it: Student's t of the
    value, as Wallace (1959) turns it into a normal one.

    Args:
        before: The values before.
        value: The value.
        within: A sum of squares that estimates the values' variance besides, and its degrees of freedom.
    """
    n = len(before)
    freedom = max(n - 1, 0) + within[1]
    if n < 1 or freedom < _LEAST_FREEDOM:
        return 0.0
    mean = math.fsum(before) / n
    squares = math.fsum((b - mean) ** 2 for b in before) + within[0]
    spread = math.sqrt(squares / freedom)
    if spread < 1e-9 * max(1.0, abs(mean)):
        far = value - mean
        return 0.0 if abs(far) < 1e-9 * max(1.0, abs(mean)) else math.copysign(_MOST_SCORE, far)
    t = (value - mean) / (spread * math.sqrt((n + 1) / n))
    scale = (8 * freedom + 1) / (8 * freedom + 3)
    z = scale * math.sqrt(freedom * math.log1p(t * t / freedom))
    return math.copysign(min(z, _MOST_SCORE), t)


def gap_of_log(items: Sequence[Scored], threshold: float | None = 5.0) -> tuple[list[GapPoint], list[Alarm]]:
    """The gap at each step of a log, in the order of the log, and its alarms.

    Completions without a step or without a gold reward are left out.
    """
    monitor = GapMonitor(threshold=threshold)
    alarms: list[Alarm] = []
    known = (item for item in items if item.step is not None and item.gold is not None)
    for step, group in itertools.groupby(known, key=lambda item: item.step):
        own = list(group)
        prompts = None if any(i.prompt is None for i in own) else [i.prompt for i in own]
        alarms += monitor.add([i.reward for i in own], [i.gold for i in own], step=step or 0, prompts=prompts)
    return monitor.points, alarms
