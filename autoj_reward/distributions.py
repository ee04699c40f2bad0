# SPDX-License-Identifier: Apache-2.0
"""A verdict as a distribution: the verdicts, their probabilities, and the average of several."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

Preference = Literal["first", "second", "tie"]
Verdict = float | Preference
"""A rating on the judge's own scale, or a preference; of a graded comparison the win probability in [0, 1]
that its verdict gives the first completion."""

PREFERENCES: tuple[Preference, ...] = ("first", "second", "tie")
EXCHANGED: dict[Preference, Preference] = {"first": "second", "second": "first", "tie": "tie"}
"""Each preference after the completions are exchanged."""

Exactness = Literal["exact", "bounded", "point"]
"""exact: every verdict was read; bounded: up to `unread_prob` was not read; point: the endpoint gives no
log-probabilities, so the stated verdict has probability 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictDistribution:
    """Probabilities of the V verdicts of a set.

    Attributes:
        verdicts: V verdicts.
        probs: Their V probabilities within the set, each in [0, 1], summing to 1.
        mass: Probability that the model gave to the whole set, in [0, 1].
        unread_prob: Upper bound of verdict mass that was not read, in [0, 1].
        exactness: How exact the probabilities are.
    """

    verdicts: tuple[Verdict, ...]
    probs: tuple[float, ...]
    mass: float = 1.0
    unread_prob: float = 0.0
    exactness: Exactness = "exact"

    def prob(self, verdict: Verdict) -> float:
        """The probability of one verdict; 0.0 if it is not in the set."""
        return self.probs[self.verdicts.index(verdict)] if verdict in self.verdicts else 0.0

    @property
    def mode(self) -> Verdict:
        """The most probable verdict; the first of equals."""
        return self.verdicts[max(range(len(self.probs)), key=self.probs.__getitem__)]

    @property
    def entropy(self) -> float:
        """Shannon entropy in nats, 0 to log V."""
        return -sum(p * math.log(p) for p in self.probs if p > 0.0)

    @property
    def expected_rating(self) -> float:
        """Mean rating, on the judge's scale. For ratings only."""
        return sum(p * cast(float, v) for p, v in zip(self.probs, self.verdicts, strict=True))

    @property
    def rating_variance(self) -> float:
        """Variance of the rating within this distribution. For ratings only."""
        mean = self.expected_rating
        return sum(p * (cast(float, v) - mean) ** 2 for p, v in zip(self.probs, self.verdicts, strict=True))

    @property
    def win_prob(self) -> float:
        """P(first) + P(tie) / 2, in [0, 1]; of graded preferences the mean of their win probabilities.

        For preferences only.
        """
        if isinstance(self.verdicts[0], float):
            return min(1.0, self.expected_rating)
        return min(1.0, self.prob("first") + self.prob("tie") / 2.0)

    @property
    def level(self) -> float:
        """The mean of what the verdicts stand for: the expected rating, or the win probability."""
        return self.win_prob if isinstance(self.verdicts[0], str) else self.expected_rating

    def distance(self, verdict: Verdict) -> float:
        """How far `level` is from a verdict of the set, as a share of the scale, in [0, 1]."""
        if isinstance(verdict, str):
            return abs(self.level - {"first": 1.0, "tie": 0.5, "second": 0.0}[verdict])
        numbers = [v for v in self.verdicts if not isinstance(v, str)]
        return abs(self.level - verdict) / (max(numbers) - min(numbers))

    @property
    def tie_prob(self) -> float:
        """P(tie), in [0, 1]; of graded preferences that of one half. For preferences only."""
        return self.prob(0.5 if isinstance(self.verdicts[0], float) else "tie")

    @property
    def preference(self) -> Preference:
        """The most probable of first, second and tie. For preferences only.

        A tie too where first and second are equally probable, up to rounding (1e-9): no order of the two may
        decide.
        """
        probs: dict[Preference, float] = dict.fromkeys(PREFERENCES, 0.0)
        for verdict, prob in zip(self.verdicts, self.probs, strict=True):
            probs[as_preference(verdict)] += prob
        if math.isclose(probs["first"], probs["second"], abs_tol=1e-9):
            return "tie"
        return max(PREFERENCES, key=lambda p: probs[p])

    def swapped(self) -> VerdictDistribution:
        """The same distribution with first and second exchanged. For preferences only."""
        return replace(self, probs=tuple(self.prob(mirrored(v)) for v in self.verdicts))


def is_even(win_prob: float) -> bool:
    """Whether a win probability is one half, up to rounding (1e-9)."""
    return abs(win_prob - 0.5) < 1e-9


def mirrored(verdict: Verdict) -> Verdict:
    """A preference with first and second exchanged; of a graded one, 1 less its win probability."""
    if isinstance(verdict, float):
        return round(1.0 - verdict, 6)
    return EXCHANGED[verdict]


def as_preference(verdict: Verdict) -> Preference:
    """A preference; of a graded one, which completion its win probability favours."""
    if isinstance(verdict, str):
        return verdict
    return "tie" if verdict == 0.5 else "first" if verdict > 0.5 else "second"


_EXACTNESS_ORDER: tuple[Exactness, ...] = ("exact", "bounded", "point")


def aggregate(distributions: Sequence[VerdictDistribution]) -> VerdictDistribution | None:
    """Average distributions over one verdict set; None for an empty list.

    All have equal weight, because the mass tells how well a position was read, not how sure the judge is
    (arXiv 2503.03064 averages orders in probability space before taking a verdict). Mass and unread
    probability are averaged too; the least exact kind is kept.

    Raises:
        ValueError: The verdict sets differ.
    """
    if not distributions:
        return None
    n = len(distributions)
    verdicts = distributions[0].verdicts
    if any(d.verdicts != verdicts for d in distributions):
        raise ValueError("distributions over different verdict sets cannot be averaged")
    return VerdictDistribution(
        verdicts=verdicts,
        probs=tuple(math.fsum(d.probs[i] for d in distributions) / n for i in range(len(verdicts))),
        mass=math.fsum(d.mass for d in distributions) / n,
        unread_prob=math.fsum(d.unread_prob for d in distributions) / n,
        exactness=least_exact(distributions),
    )


def agreement(distributions: Sequence[VerdictDistribution]) -> float | None:
    """How near several verdicts are, in [0, 1]; None of fewer than two.

    1 less the mean distance of two of their levels, as a share of the scale. All are over one verdict set.
    """
    if len(distributions) < 2:
        return None
    levels, verdicts = [d.level for d in distributions], distributions[0].verdicts
    numbers = [v for v in verdicts if not isinstance(v, str)]
    span = max(numbers) - min(numbers) if numbers else 1.0
    distances = [abs(a - b) for a, b in itertools.combinations(levels, 2)]
    return 1.0 - math.fsum(distances) / (len(distances) * span)


def least_exact(distributions: Sequence[VerdictDistribution]) -> Exactness:
    """The least exact kind of several distributions."""
    return max((d.exactness for d in distributions), key=_EXACTNESS_ORDER.index)
