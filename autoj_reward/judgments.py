# SPDX-License-Identifier: Apache-2.0
"""Judgments: a verdict as a distribution, and the full record of one request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from autoj_reward.types import Failure, FinishReason, Mode, Usage

Preference = Literal["first", "second", "tie"]
Verdict = float | Preference
"""A rating on the judge's own scale, or a preference."""

PREFERENCES: tuple[Preference, ...] = ("first", "second", "tie")

Exactness = Literal["exact", "bounded", "point"]
"""exact: every verdict was read; bounded: `unread_prob` may be missing; point: the endpoint gives no
log-probabilities, so the stated verdict has probability 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictDistribution:
    """Probabilities of the V verdicts of a set.

    Attributes:
        verdicts: The verdicts, V of them.
        probs: Their probabilities within the set, V of them, each in [0, 1], summing to 1.
        mass: How much probability the model gave to the set at all, in [0, 1].
        unread_prob: Upper bound of verdict mass that was not read, in [0, 1].
        exactness: How the probabilities were got.
    """

    verdicts: tuple[Verdict, ...]
    probs: tuple[float, ...]
    mass: float = 1.0
    unread_prob: float = 0.0
    exactness: Exactness = "exact"

    def prob(self, verdict: Verdict) -> float:
        """The probability of one verdict; 0.0 where the set does not hold it."""
        return self.probs[self.verdicts.index(verdict)] if verdict in self.verdicts else 0.0

    @property
    def mode(self) -> Verdict:
        """The most probable verdict; among equals the first of the set."""
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
        """P(first) + P(tie) / 2, in [0, 1]. For preferences only."""
        return self.prob("first") + self.prob("tie") / 2.0

    @property
    def tie_prob(self) -> float:
        """P(tie), in [0, 1]. For preferences only."""
        return self.prob("tie")

    def swapped(self) -> VerdictDistribution:
        """The same distribution with first and second exchanged. For preferences only."""
        other: dict[Verdict, Verdict] = {"first": "second", "second": "first", "tie": "tie"}
        return VerdictDistribution(
            verdicts=self.verdicts,
            probs=tuple(self.prob(other[v]) for v in self.verdicts),
            mass=self.mass,
            unread_prob=self.unread_prob,
            exactness=self.exactness,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One reading of a verdict: one draw of a critique, or the direct reading, in one order.

    Attributes:
        critique: What the judge wrote, verdict included; empty in direct mode.
        thinking: Its reasoning part, where the model has one; else empty.
        stated: The verdict as written in the text; None in direct mode and without one.
        distribution: The distribution at the place of the verdict, or None with a failure.
        forced: Whether the judge wrote no verdict, and was made to give one after its text.
        failure: Why there is none, or None.
        finish_reason: How the output ended; None where the engine failed.
        swapped: Whether the completions were shown in the other order. Verdicts here are mapped back.
    """

    critique: str = ""
    thinking: str = ""
    stated: Verdict | None = None
    distribution: VerdictDistribution | None = None
    forced: bool = False
    failure: Failure | None = None
    finish_reason: FinishReason | None = None
    swapped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a judgment came from.

    Attributes:
        judge: The judge's name.
        template: Hash of its template, wrapper and verdict set.
        engine: The engine's fingerprint.
        cut_chars: Characters cut from the middle of each completion to fit the context; zeros where
            nothing was cut.
        guard: The fingerprint of the guard that looked at the completions; empty where none did. What it
            changed is in the rendered text, and with that in the cache's key.
        language: Whose templates were used, for judges that have several languages; else None.
        judge_id: `Judge.identity` of who answered; empty if no judge was asked.
    """

    judge: str
    template: str
    engine: str
    cut_chars: tuple[int, ...] = ()
    guard: str = ""
    language: str | None = None
    judge_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """Full record of one request.

    Attributes:
        mode: direct or critique.
        distribution: The aggregated distribution, or None with a failure.
        samples: What it was aggregated from: K samples, for comparisons in each order.
        failure: Why the verdict is missing, or None.
        usage: Tokens spent on this request.
        provenance: Judge, template and engine.
        flags: For each completion what the guard found in it; empty without a guard.
        penalties: For each completion what its reward loses, as a share of the scale in [0, 1]; empty
            without a guard.
        by_rule: Whether the judge was not asked: two completions of one text tie, and the guard decides some
            requests (an empty completion). It has no samples then.
    """

    mode: Mode
    distribution: VerdictDistribution | None
    samples: tuple[Sample, ...]
    failure: Failure | None
    usage: Usage
    provenance: Provenance
    flags: tuple[tuple[str, ...], ...] = ()
    penalties: tuple[float, ...] = ()
    by_rule: bool = False

    @property
    def critique(self) -> str | None:
        """The first readable critique, else the first; None in direct mode."""
        if self.mode == "direct" or not self.samples:
            return None
        readable = (s for s in self.samples if s.failure is None)
        return next(readable, self.samples[0]).critique

    @property
    def n_forced(self) -> int:
        """How many of the samples stated no verdict and were made to give one."""
        return sum(s.forced for s in self.samples)

    @property
    def mass(self) -> float | None:
        """Captured mass in [0, 1]; None with a failure before reading."""
        return None if self.distribution is None else self.distribution.mass


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingJudgment(Judgment):
    """A judgment of one completion."""

    @property
    def rating(self) -> float | None:
        """The greedy rating on the judge's scale: what a single critique states, else the most
        probable rating; None with a failure."""
        if self.distribution is None:
            return None
        if len(self.samples) == 1 and self.samples[0].stated is not None:
            return cast(float, self.samples[0].stated)
        return cast(float, self.distribution.mode)

    @property
    def expected_rating(self) -> float | None:
        """Mean of the distribution, on the judge's scale; None with a failure."""
        return None if self.distribution is None else self.distribution.expected_rating

    @property
    def reward(self) -> float | None:
        """The float for a trainer: the expected rating less the guard's penalty, never below the scale's
        lowest rating; None with a failure."""
        expected = self.expected_rating
        if expected is None or self.distribution is None or not any(self.penalties):
            return expected
        ratings = cast(Sequence[float], self.distribution.verdicts)
        low, high = min(ratings), max(ratings)
        return max(low, expected - self.penalties[0] * (high - low))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairJudgment(Judgment):
    """A judgment of two completions, both orders averaged unless the judge was told otherwise."""

    @property
    def win_prob(self) -> float | None:
        """Chance in [0, 1] that the first completion beats the second; None with a failure."""
        return None if self.distribution is None else self.distribution.win_prob

    @property
    def tie_prob(self) -> float | None:
        """Chance of a tie in [0, 1]; None with a failure."""
        return None if self.distribution is None else self.distribution.tie_prob

    @property
    def reward(self) -> float | None:
        """The float for a trainer: the win probability of the first, moved by the guard's penalties and kept
        in [0, 1]; None with a failure."""
        win_prob = self.win_prob
        if win_prob is None or not any(self.penalties):
            return win_prob
        return min(1.0, max(0.0, win_prob - self.penalties[0] + self.penalties[1]))

    @property
    def preference(self) -> Preference | None:
        """The most probable preference after averaging; None with a failure."""
        return None if self.distribution is None else cast(Preference, self.distribution.mode)

    @property
    def order_preferences(self) -> tuple[Preference, Preference] | None:
        """What each order decides: the first completion of the request shown first, then shown second.

        Both name the completions as the request does. A single critique decides what it states, else
        the most probable preference counts. None where one order was not judged, or is unreadable.
        """
        given, swapped = (_decided(samples) for samples in self._orders())
        return None if given is None or swapped is None else (given, swapped)

    @property
    def order_win_probs(self) -> tuple[float, float] | None:
        """Win probability of the first completion when shown first, and when shown second.

        None where one order was not judged, or is unreadable.
        """
        given, swapped = (aggregate([s.distribution for s in o if s.distribution]) for o in self._orders())
        return None if given is None or swapped is None else (given.win_prob, swapped.win_prob)

    @property
    def slot_bias(self) -> float | None:
        """How much the first slot gains by being first, in [-0.5, 0.5].

        Half the difference of the two orders' win probabilities; None without two orders.
        """
        orders = self.order_win_probs
        return None if orders is None else (orders[0] - orders[1]) / 2.0

    @property
    def flipped(self) -> bool | None:
        """Whether the two orders decide differently; a tie against a win is a flip.

        None without two orders.
        """
        orders = self.order_preferences
        return None if orders is None else orders[0] != orders[1]

    def _orders(self) -> tuple[list[Sample], list[Sample]]:
        return [s for s in self.samples if not s.swapped], [s for s in self.samples if s.swapped]


def _decided(samples: Sequence[Sample]) -> Preference | None:
    if len(samples) == 1 and samples[0].distribution is not None and samples[0].stated is not None:
        return cast(Preference, samples[0].stated)
    merged = aggregate([s.distribution for s in samples if s.distribution is not None])
    return None if merged is None else cast(Preference, merged.mode)


_EXACTNESS_ORDER: tuple[Exactness, ...] = ("exact", "bounded", "point")


def aggregate(distributions: Sequence[VerdictDistribution]) -> VerdictDistribution | None:
    """Average distributions over one verdict set; None of none.

    Each counts the same, whatever its mass, because the mass says how well the place was read and
    not how sure the judge is (arXiv 2503.03064 averages orders in probability space before taking a
    verdict). Mass and unread probability are averaged too; the least exact kind is kept.

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
        exactness=max((d.exactness for d in distributions), key=_EXACTNESS_ORDER.index),
    )
