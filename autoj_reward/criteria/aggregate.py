# SPDX-License-Identifier: Apache-2.0
"""Aggregate the verdicts on a rubric's criteria into one score, with its distribution.

With weights w, expected scores e in [0, 1] and W the sum of the weights above 0, the score is

    clip(sum(w e) / W, 0, 1) * gate,

where the gate is the least probability, over essential criteria, that the answer meets one (has a verdict in
the upper half of its choices; of a pitfall, in the lower half). Without weights above 0, W is the sum of
their sizes and the score is counted down from 1.

The distribution has that mean. Its spread is the one of verdicts that rise and fall together: the judge read
one text, and criteria repeat each other. That is the widest spread that the criteria allow, and a criterion
given twice with half its weight does not change it. The part of the probability that gates and clipping take
away falls on the lowest score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoj_reward.criteria.rubric import Criterion
from autoj_reward.distributions import VerdictDistribution, least_exact

Read = tuple[Criterion, VerdictDistribution]
"""A criterion, and the distribution of its score in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The aggregated score of an answer.

    Attributes:
        score: In [0, 1].
        spread: Standard deviation of the score, in [0, 0.5].
        distribution: Over the judge's ratings, 0 being the lowest and 1 the highest; its mean is the score.
    """

    score: float
    spread: float
    distribution: VerdictDistribution


def aggregate_criteria(read: Sequence[Read], ratings: Sequence[float]) -> Aggregate:
    """Aggregate the criteria that were read.

    Args:
        read: At least one, essential or with a weight.
        ratings: The judge's ratings, rising.
    """
    score = expected_score(read)
    atoms = _together(read)
    reached = math.fsum(value * prob for value, prob in atoms)
    share = min(1.0, score / reached) if reached > 0.0 else 0.0
    atoms = [(value, prob * share) for value, prob in atoms] + [(0.0, 1.0 - share)]
    variance = math.fsum(prob * (value - score) ** 2 for value, prob in atoms)
    distributions = [distribution for _, distribution in read]
    return Aggregate(
        score=score,
        spread=math.sqrt(variance),
        distribution=VerdictDistribution(
            verdicts=tuple(ratings),
            probs=_on_scale(atoms, ratings),
            mass=min(d.mass for d in distributions),
            unread_prob=max(d.unread_prob for d in distributions),
            exactness=least_exact(distributions),
        ),
    )


def expected_score(read: Sequence[Read]) -> float:
    """The score in [0, 1]; see the top of this file."""
    start, total = _base(read)
    score = start + math.fsum(c.weight * d.expected_rating for c, d in read) / total
    gate = min((_met_prob(c, d) for c, d in read if c.essential), default=1.0)
    return min(max(score, 0.0), 1.0) * gate


def _base(read: Sequence[Read]) -> tuple[float, float]:
    """What the score starts from, and the weight that it is divided by."""
    above = math.fsum(c.weight for c, _ in read if c.weight > 0.0)
    if above > 0.0:
        return 0.0, above
    return 1.0, math.fsum(abs(c.weight) for c, _ in read) or 1.0


def _met_prob(criterion: Criterion, distribution: VerdictDistribution) -> float:
    """Probability that an answer meets an essential criterion, or avoids an essential pitfall."""
    upper = math.fsum(
        prob
        for score, prob in zip(distribution.verdicts, distribution.probs, strict=True)
        if float(score) >= 0.5
    )
    return min(1.0, 1.0 - upper if criterion.weight < 0.0 else upper)


def _together(read: Sequence[Read]) -> list[tuple[float, float]]:
    """Scores before gates, clipped, with their probabilities, of verdicts that rise and fall together."""
    start, total = _base(read)
    steps = [_steps(criterion, distribution) for criterion, distribution in read if criterion.weight]
    ends = sorted({end for own in steps for end, _ in own} | {1.0})
    atoms, places, before = [], [0] * len(steps), 0.0
    for end in ends:
        for n, own in enumerate(steps):
            while places[n] < len(own) - 1 and own[places[n]][0] <= before:
                places[n] += 1
        value = start + math.fsum(own[place][1] for own, place in zip(steps, places, strict=True)) / total
        atoms.append((min(max(value, 0.0), 1.0), end - before))
        before = end
    return atoms


def _steps(criterion: Criterion, distribution: VerdictDistribution) -> list[tuple[float, float]]:
    """A criterion's contribution from the lowest up: cumulated probability, and weighted score."""
    parts = sorted(
        (criterion.weight * float(score), prob)
        for score, prob in zip(distribution.verdicts, distribution.probs, strict=True)
    )
    cumulated, steps = 0.0, []
    for value, prob in parts:
        cumulated += prob
        steps.append((min(cumulated, 1.0), value))
    return steps


def _on_scale(atoms: Sequence[tuple[float, float]], ratings: Sequence[float]) -> tuple[float, ...]:
    """Probabilities of the ratings: each score is shared by its two neighbours, which keeps the mean."""
    low, high = ratings[0], ratings[-1]
    probs = [0.0] * len(ratings)
    for value, prob in atoms:
        rating = low + value * (high - low)
        above = next((n for n, r in enumerate(ratings) if r >= rating), len(ratings) - 1)
        if above == 0 or ratings[above] <= rating:
            probs[above] += prob
            continue
        share = (rating - ratings[above - 1]) / (ratings[above] - ratings[above - 1])
        probs[above - 1] += prob * (1.0 - share)
        probs[above] += prob * share
    return tuple(probs)
