# SPDX-License-Identifier: Apache-2.0
"""Judgments by a rubric of criteria: what was said of each, and the score that they make together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from autoj_reward.criteria.aggregate import Aggregate, aggregate_criteria
from autoj_reward.criteria.rubric import Criterion, Rubric
from autoj_reward.distributions import VerdictDistribution
from autoj_reward.judgments.records import RatingJudgment, Sample
from autoj_reward.types import Failure, FailureReason, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionVerdict:
    """What a judge said of one criterion.

    Attributes:
        criterion: The criterion.
        distribution: Over the scores in [0, 1] of its choices; None with a failure.
        failure: Why there is no verdict, or None.
        critique: What the judge wrote; None in direct mode.
        samples: The K draws that the distribution was averaged from. Criteria of one call share their
            critiques.
    """

    criterion: Criterion
    distribution: VerdictDistribution | None
    failure: Failure | None
    critique: str | None = None
    samples: tuple[Sample, ...] = ()

    @property
    def name(self) -> str:
        """The criterion's name."""
        return self.criterion.name

    @property
    def weight(self) -> float:
        """The criterion's weight, below 0 for a pitfall."""
        return self.criterion.weight

    @property
    def score(self) -> float | None:
        """Expected score in [0, 1]; 1 is the last choice (a pitfall is there). None with a failure."""
        return None if self.distribution is None else self.distribution.expected_rating

    def to_dict(self) -> dict[str, Any]:
        """As plain values that JSON holds."""
        return {
            "name": self.name,
            "weight": self.weight,
            "essential": self.criterion.essential,
            "score": self.score,
            "mass": None if self.distribution is None else self.distribution.mass,
            "critique": self.critique,
            "failure": None if self.failure is None else self.failure.to_dict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RubricJudgment(RatingJudgment):
    """A judgment of one completion by a rubric of criteria.

    Its distribution is over the judge's ratings, a score of 0 being the lowest and 1 the highest; the
    expected rating is that of the score. It has one sample, with that distribution and all critiques; the
    judge's own are in `criteria`.

    Attributes:
        criteria: The verdict on each criterion, in the rubric's order.
        score: In [0, 1]: the weighted mean of the criteria's expected scores, pitfalls counting against it,
            clipped, and 0 as far as an essential criterion is not met (docs/criteria.md has the formula).
            Criteria that failed are left out. None with a failure: an essential criterion failed, or none
            that counts for the answer was read.
        spread: Standard deviation of the score, if the criteria's verdicts rise and fall together; None with
            a failure.
    """

    criteria: tuple[CriterionVerdict, ...] = ()
    score: float | None = None
    spread: float | None = None

    @property
    def n_failed(self) -> int:
        """Number of criteria without a verdict."""
        return sum(verdict.failure is not None for verdict in self.criteria)

    @property
    def rating(self) -> float | None:
        """The rating that is nearest to the expected one; None with a failure."""
        if self.distribution is None:
            return None
        expected, ratings = (
            self.distribution.expected_rating,
            cast(Sequence[float], self.distribution.verdicts),
        )
        return min(ratings, key=lambda rating: abs(rating - expected))

    @property
    def n_calls(self) -> int:
        """Number of verdicts that the judge was asked for."""
        return sum(len(verdict.samples) for verdict in self.criteria)

    @property
    def n_forced(self) -> int:
        """Number of verdicts that were forced."""
        return sum(sample.forced for verdict in self.criteria for sample in verdict.samples)

    @property
    def n_contradicted(self) -> int:
        """Number of verdicts that contradict their critique."""
        return sum(sample.contradicted for verdict in self.criteria for sample in verdict.samples)

    def with_distributions(self, distributions: Sequence[VerdictDistribution | None]) -> RubricJudgment:
        """The judgment with other distributions of its criteria, each over the same scores.

        Args:
            distributions: For each criterion; None for those that failed.

        Raises:
            ValueError: The judgment is a failure.
        """
        if self.distribution is None:
            raise ValueError("a judgment without a verdict has none for other distributions either")
        verdicts = tuple(
            replace(verdict, distribution=own)
            for verdict, own in zip(self.criteria, distributions, strict=True)
        )
        made = _aggregated(verdicts, cast(Sequence[float], self.distribution.verdicts))
        return replace(
            self,
            criteria=verdicts,
            distribution=made.distribution,
            samples=(replace(self.samples[0], distribution=made.distribution),),
            score=made.score,
            spread=made.spread,
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields that `rate` adds to a row, with `criteria`, `score` and `spread`."""
        own = {"criteria": [v.to_dict() for v in self.criteria], "score": self.score, "spread": self.spread}
        return RatingJudgment.to_dict(self) | own


def rubric_judgment(
    rubric: Rubric, judged: Sequence[RatingJudgment], ratings: Sequence[float]
) -> RubricJudgment:
    """The judgment by a rubric, from the judgment of each criterion.

    Args:
        rubric: The rubric.
        judged: For each criterion, in its order, a judgment whose ratings are scores in [0, 1].
        ratings: The judge's ratings, rising.
    """
    first = judged[0]
    verdicts = tuple(
        CriterionVerdict(
            criterion=criterion,
            distribution=own.distribution,
            failure=own.failure,
            critique=own.critique,
            samples=own.samples,
        )
        for criterion, own in zip(rubric.criteria, judged, strict=True)
    )
    failure = _failure(verdicts)
    made = None if failure is not None else _aggregated(verdicts, ratings)
    distribution = None if made is None else made.distribution
    # Criteria of one call share a critique, which is given once.
    critiques = {v.critique: v.name for v in reversed(verdicts) if v.critique}
    critique = "\n\n".join(f"{name}: {text}" for text, name in reversed(critiques.items()))
    return RubricJudgment(
        mode=first.mode,
        distribution=distribution,
        samples=(Sample(critique=critique, distribution=distribution, failure=failure),),
        failure=failure,
        usage=sum((own.usage for own in judged), start=Usage()),
        provenance=replace(first.provenance, cut_chars=_most_cut(judged)),
        criteria=verdicts,
        score=None if made is None else made.score,
        spread=None if made is None else made.spread,
    )


def _aggregated(verdicts: Sequence[CriterionVerdict], ratings: Sequence[float]) -> Aggregate:
    """The score of the criteria that were read."""
    read = [(v.criterion, v.distribution) for v in verdicts if v.distribution is not None]
    return aggregate_criteria(read, ratings)


def _failure(verdicts: Sequence[CriterionVerdict]) -> Failure | None:
    """Why there is no score, or None.

    An essential criterion failed; or every one of those that count for an answer, or of all those that count.
    """
    essential = [v for v in verdicts if v.criterion.essential]
    for verdict in essential:
        if verdict.failure is not None:
            return _of(verdict.failure, f"the essential criterion {verdict.name!r}")
    counting = [v for v in verdicts if v.weight > 0.0] or [v for v in verdicts if v.weight or v in essential]
    failures = [v.failure for v in counting if v.failure is not None]
    if len(failures) < len(counting):
        return None
    common: FailureReason = Counter(f.reason for f in failures).most_common(1)[0][0]
    return _of(next(f for f in failures if f.reason is common), f"all {len(failures)} criteria that count")


def _of(failure: Failure, what: str) -> Failure:
    return replace(failure, detail=f"{what} failed: {failure.detail}")


def _most_cut(judged: Sequence[RatingJudgment]) -> tuple[int, ...]:
    return tuple(max(cut) for cut in zip(*(own.provenance.cut_chars for own in judged), strict=True))
