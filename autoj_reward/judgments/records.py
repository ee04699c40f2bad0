# SPDX-License-Identifier: Apache-2.0
"""Judgments: the full record of one request. What a verdict is, is in `distributions`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from autoj_reward.distributions import (
    Preference,
    Verdict,
    VerdictDistribution,
    aggregate,
    agreement,
    as_preference,
)
from autoj_reward.types import Failure, FinishReason, Mode, Usage

_IMPROBABLE, _FAR_RATING, _FAR_PREFERENCE = 0.05, 0.35, 0.5
"""When a critique contradicts its verdict; see `Sample.contradicted`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One draw of a critique, or the direct reading, in one order.

    Attributes:
        critique: The judge's text, verdict included; empty in direct mode.
        thinking: The model's reasoning; empty without one.
        stated: The verdict written in the text; None in direct mode, or if there is none.
        distribution: The distribution at the verdict's position, or None with a failure.
        forced: Whether the judge wrote no verdict and was forced to give one after its text.
        failure: The failure, or None.
        finish_reason: How the output ended; None if the engine failed.
        swapped: Whether the completions were shown in the other order. Verdicts here are mapped back.
        reread: What the judge reads from its critique alone, with `check_critiques`; else None.
    """

    critique: str = ""
    thinking: str = ""
    stated: Verdict | None = None
    distribution: VerdictDistribution | None = None
    forced: bool = False
    failure: Failure | None = None
    finish_reason: FinishReason | None = None
    swapped: bool = False
    reread: VerdictDistribution | None = None

    @property
    def contradicted(self) -> bool:
        """Whether critique and stated verdict disagree.

        The verdict is improbable where it stands (below 0.05), or what the judge reads from the critique
        alone is far from it: over 0.35 of the scale from a rating, over one half from a preference's win
        probability.
        """
        if self.stated is None or self.distribution is None:
            return False
        if self.distribution.prob(self.stated) < _IMPROBABLE:
            return True
        return self.reread is not None and self.reread.distance(self.stated) > (
            _FAR_PREFERENCE if isinstance(self.stated, str) else _FAR_RATING
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What made a judgment.

    Attributes:
        judge: The judge's name.
        template: Hash of its template, wrapper and verdict set.
        engine: The engine's fingerprint.
        cut_chars: Characters cut from the middle of each completion to fit the context, 0 for none.
        guard: Fingerprint of the guard; empty without one. Its changes are in the rendered text, and so in
            the cache's key.
        language: Language of the templates, for judges with several; else None.
        judge_id: `Judge.identity`; empty if no judge was asked.
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
        samples: The samples it was aggregated from: K, for comparisons K per order.
        failure: Why there is no verdict, or None.
        usage: Tokens spent on this request.
        provenance: Judge, template and engine.
        flags: The guard's findings in each completion; empty without a guard.
        penalties: The guard's penalty of each completion, as a share of the scale in [0, 1]; empty without a
            guard.
        members: What each member of a panel said; empty for one judge.
        by_rule: Whether a rule decided without the judge and there are no samples: two equal completions
            tie, and the guard decides some requests (such as an empty completion).
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
    members: tuple[MemberVerdict, ...] = ()

    @property
    def agreement(self) -> float | None:
        """How near a panel's members are, in [0, 1]; None of fewer than two verdicts.

        1 less the mean distance of two members' expected ratings, as a share of the scale, or of their win
        probabilities.
        """
        known = [m.distribution for m in self.members if m.distribution is not None]
        return agreement(known)

    @property
    def critique(self) -> str | None:
        """The first sample's critique, preferably of one that did not fail; None in direct mode."""
        if self.mode == "direct" or not self.samples:
            return None
        readable = (s for s in self.samples if s.failure is None)
        return next(readable, self.samples[0]).critique

    @property
    def n_calls(self) -> int:
        """Number of inputs that the judge was asked."""
        return len(self.samples)

    @property
    def n_forced(self) -> int:
        """Number of samples, a panel's members' included, whose verdict was forced."""
        own = sum(sample.forced for sample in self.samples)
        return own + sum(member.judgment.n_forced for member in self.members)

    @property
    def n_contradicted(self) -> int:
        """Number of samples, a panel's members' included, whose critique and stated verdict disagree."""
        own = sum(sample.contradicted for sample in self.samples)
        return own + sum(member.judgment.n_contradicted for member in self.members)

    @property
    def mass(self) -> float | None:
        """Mass of the verdict set in [0, 1]; None with a failure."""
        return None if self.distribution is None else self.distribution.mass

    def to_dict(self) -> dict[str, Any]:
        """The fields that the commands add to a row, as plain values that JSON holds; None for no value.

        `entropy` is in nats. `flags` are those of the guard: a list for one completion, two lists for a pair,
        None without a guard. `failure` has `reason` and `detail`. Judgments of a panel also have `agreement`
        and `members`.
        """
        found = [list(flags) for flags in self.flags]
        return {
            "critique": self.critique,
            "forced": self.n_forced,
            "contradicted": self.n_contradicted,
            "mass": self.mass,
            "entropy": None if self.distribution is None else self.distribution.entropy,
            "exactness": None if self.distribution is None else self.distribution.exactness,
            "mode": self.mode,
            "cut_chars": sum(self.provenance.cut_chars),
            "flags": None if not self.provenance.guard else found[0] if len(found) == 1 else found,
            "judge_id": self.provenance.judge_id or None,
            "failure": None if self.failure is None else self.failure.to_dict(),
            **self._panel_fields(),
        }

    def _panel_fields(self) -> dict[str, Any]:
        if not self.members:
            return {}
        return {"agreement": self.agreement, "members": [member.to_dict() for member in self.members]}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberVerdict:
    """What one member of a panel said.

    Attributes:
        name: The member's name.
        weight: Its weight.
        distribution: Its verdict on the panel's scale; None with a failure.
        judgment: Its own judgment.
    """

    name: str
    weight: float
    distribution: VerdictDistribution | None
    judgment: Judgment

    def to_dict(self) -> dict[str, Any]:
        """As plain values; `value` is its expected rating on the panel's scale, or its win probability.

        Of a member that judged by criteria also `criteria` and `score`.
        """
        failure, own = self.judgment.failure, self.judgment.to_dict()
        return {
            "name": self.name,
            "weight": self.weight,
            "value": None if self.distribution is None else self.distribution.level,
            "mass": self.judgment.mass,
            "judge_id": self.judgment.provenance.judge_id or None,
            "failure": None if failure is None else failure.to_dict(),
            **{name: own[name] for name in ("criteria", "score") if name in own},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingJudgment(Judgment):
    """A judgment of one completion."""

    def to_dict(self) -> dict[str, Any]:
        """The fields that `rate` adds to a row; see `Judgment.to_dict`."""
        own = {"rating": self.rating, "expected_rating": self.expected_rating, "reward": self.reward}
        return own | Judgment.to_dict(self)

    @property
    def rating(self) -> float | None:
        """The greedy rating on the judge's scale: the verdict that a single critique states, else the most
        probable one; None with a failure."""
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
        """The expected rating less the guard's penalty, at least the scale's lowest rating; None with a
        failure."""
        expected = self.expected_rating
        if expected is None or self.distribution is None or not any(self.penalties):
            return expected
        ratings = cast(Sequence[float], self.distribution.verdicts)
        low, high = min(ratings), max(ratings)
        return max(low, expected - self.penalties[0] * (high - low))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairJudgment(Judgment):
    """A judgment of two completions; both orders are averaged unless the judge judges only one."""

    def to_dict(self) -> dict[str, Any]:
        """The fields that `compare` adds to a row; see `Judgment.to_dict`."""
        preferences, win_probs = self.order_preferences, self.order_win_probs
        own = {
            "preference": self.preference,
            "win_prob": self.win_prob,
            "tie_prob": self.tie_prob,
            "reward": self.reward,
            "flipped": self.flipped,
            "slot_bias": self.slot_bias,
            "order_preferences": None if preferences is None else list(preferences),
            "order_win_probs": None if win_probs is None else list(win_probs),
        }
        return own | Judgment.to_dict(self)

    @property
    def win_prob(self) -> float | None:
        """Probability in [0, 1] that the first completion wins, a tie counted half; None with a failure."""
        return None if self.distribution is None else self.distribution.win_prob

    @property
    def tie_prob(self) -> float | None:
        """Probability of a tie in [0, 1]; None with a failure."""
        return None if self.distribution is None else self.distribution.tie_prob

    @property
    def reward(self) -> float | None:
        """The first's win probability with the guard's penalties, kept in [0, 1]; None with a failure."""
        return None if self.win_prob is None else self.penalised(self.win_prob)

    def penalised(self, win_prob: float) -> float:
        """A win probability of the first with the guard's penalties, kept in [0, 1]."""
        if not any(self.penalties):
            return win_prob
        return min(1.0, max(0.0, win_prob - self.penalties[0] + self.penalties[1]))

    @property
    def preference(self) -> Preference | None:
        """The most probable preference after averaging; None with a failure.

        A tie where first and second are equally probable.
        """
        return None if self.distribution is None else self.distribution.preference

    @property
    def order_preferences(self) -> tuple[Preference, Preference] | None:
        """The preference in each order: the request's first completion shown first, then shown second.

        first and second are those of the request. A single critique's stated verdict counts, else the most
        probable preference. None if an order was not judged or failed.
        """
        given, swapped = (_decided(samples) for samples in self._orders())
        return None if given is None or swapped is None else (given, swapped)

    @property
    def order_win_probs(self) -> tuple[float, float] | None:
        """The first completion's win probability when shown first, and when shown second.

        None if an order was not judged or failed.
        """
        given, swapped = (aggregate([s.distribution for s in o if s.distribution]) for o in self._orders())
        return None if given is None or swapped is None else (given.win_prob, swapped.win_prob)

    @property
    def slot_bias(self) -> float | None:
        """Position bias in favour of the completion shown first, in [-0.5, 0.5].

        Half the difference of the two orders' win probabilities; None without two orders.
        """
        orders = self.order_win_probs
        return None if orders is None else (orders[0] - orders[1]) / 2.0

    @property
    def flipped(self) -> bool | None:
        """Whether the two orders' preferences differ (also tie and win); None without two orders."""
        orders = self.order_preferences
        return None if orders is None else orders[0] != orders[1]

    def _orders(self) -> tuple[list[Sample], list[Sample]]:
        return [s for s in self.samples if not s.swapped], [s for s in self.samples if s.swapped]


def _decided(samples: Sequence[Sample]) -> Preference | None:
    if len(samples) == 1 and samples[0].distribution is not None and samples[0].stated is not None:
        return as_preference(samples[0].stated)
    merged = aggregate([s.distribution for s in samples if s.distribution is not None])
    return None if merged is None else merged.preference
