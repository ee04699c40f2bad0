# SPDX-License-Identifier: Apache-2.0
"""Bring members' verdicts onto one scale, and combine them by a panel's rule."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, cast

from autoj_reward.distributions import PREFERENCES, Exactness, Preference, Verdict, VerdictDistribution

Rule = Literal["mean", "majority", "minimum"]
"""mean: the weighted mean of the members' distributions. majority: each member votes for its most probable
verdict, and a verdict's probability is its weighted share of the votes. minimum: of ratings, the distribution
with the lowest mean; of comparisons, the one with a win probability nearest to one half, and a tie where
members favour different completions. Weights have no effect on a minimum."""

_VALUES: dict[Preference, float] = {"first": 1.0, "second": 0.0, "tie": 0.5}
_EXACTNESS: tuple[Exactness, ...] = ("exact", "bounded", "point")


def on_scale(
    distribution: VerdictDistribution, verdicts: Sequence[Verdict], *, stretch: bool
) -> VerdictDistribution:
    """A distribution over other verdicts, with the same mean.

    Every verdict stands for a number: a rating for itself, first for 1, a tie for one half, second for 0. The
    probability of a number between two of the target's is split between these two in proportion to how near
    they are.

    Args:
        distribution: What is mapped; returned as it is if its verdicts are those.
        verdicts: The target's verdicts, at least two.
        stretch: Map the lowest and highest verdict onto the target's, for ratings on different scales.
            Otherwise numbers stay as they are, cut to the target's range.
    """
    if distribution.verdicts == tuple(verdicts):
        return distribution
    own, target = _numbers(distribution.verdicts), _numbers(verdicts)
    order = sorted(range(len(target)), key=target.__getitem__)
    grid = [target[i] for i in order]
    factor = (grid[-1] - grid[0]) / (max(own) - min(own)) if stretch else 1.0
    probs = [0.0] * len(target)
    for number, prob in zip(own, distribution.probs, strict=True):
        value = grid[0] + (number - min(own)) * factor if stretch else number
        value = min(max(value, grid[0]), grid[-1])
        above = min(max(bisect.bisect_left(grid, value - 1e-9), 1), len(grid) - 1)
        share = min(max((value - grid[above - 1]) / (grid[above] - grid[above - 1]), 0.0), 1.0)
        probs[order[above - 1]] += prob * (1.0 - share)
        probs[order[above]] += prob * share
    return VerdictDistribution(
        verdicts=tuple(verdicts),
        probs=tuple(probs),
        mass=distribution.mass,
        unread_prob=distribution.unread_prob,
        exactness=distribution.exactness,
    )


def combine(
    distributions: Sequence[VerdictDistribution], weights: Sequence[float], rule: Rule, *, comparing: bool
) -> VerdictDistribution:
    """Combine at least one distribution over the same verdicts.

    The mass and the unread probability are weighted means, and the least exact kind is kept.

    Args:
        distributions: One of each member.
        weights: The members' weights, at least 0 and not all 0.
        rule: How.
        comparing: They are of comparisons, whose verdicts may be graded and then are numbers, as ratings are.
    """
    if len(distributions) == 1:
        return distributions[0] if rule != "majority" else _vote(distributions[0])
    total = math.fsum(weights)
    shares = [weight / total for weight in weights]
    if rule == "minimum":
        return _most_even(distributions) if comparing else min(distributions, key=lambda d: d.level)
    counted = distributions if rule == "mean" else [_vote(d) for d in distributions]
    verdicts = counted[0].verdicts
    return VerdictDistribution(
        verdicts=verdicts,
        probs=tuple(_mean([d.probs[i] for d in counted], shares) for i in range(len(verdicts))),
        mass=_mean([d.mass for d in counted], shares),
        unread_prob=_mean([d.unread_prob for d in counted], shares),
        exactness=max((d.exactness for d in counted), key=_EXACTNESS.index),
    )


def by_ratings(first: VerdictDistribution, second: VerdictDistribution) -> VerdictDistribution:
    """A comparison by two ratings, taken as independent: P(first) is the chance of the higher rating.

    Both are over the same ratings.
    """
    wins = ties = 0.0
    for a, p in zip(first.verdicts, first.probs, strict=True):
        for b, q in zip(second.verdicts, second.probs, strict=True):
            wins += p * q if cast(float, a) > cast(float, b) else 0.0
            ties += p * q if a == b else 0.0
    losses = max(0.0, math.fsum(first.probs) * math.fsum(second.probs) - wins - ties)
    return VerdictDistribution(
        verdicts=PREFERENCES,
        probs=(wins, losses, ties),
        mass=min(first.mass, second.mass),
        unread_prob=max(first.unread_prob, second.unread_prob),
        exactness=max(first.exactness, second.exactness, key=_EXACTNESS.index),
    )


def _numbers(verdicts: Sequence[Verdict]) -> list[float]:
    return [_VALUES[v] if isinstance(v, str) else float(v) for v in verdicts]


def _mean(values: Sequence[float], shares: Sequence[float]) -> float:
    return math.fsum(v * s for v, s in zip(values, shares, strict=True))


def _vote(distribution: VerdictDistribution) -> VerdictDistribution:
    """All probability on the most probable verdict, split where several are.

    Of first, second and tie it goes to the preference; a tie that the set does not have is split.
    """
    verdicts, probs = distribution.verdicts, distribution.probs
    if isinstance(verdicts[0], str):
        preferred = distribution.preference
        chosen = [v == preferred for v in verdicts] if preferred in verdicts else [True] * len(verdicts)
    else:
        chosen = [math.isclose(p, max(probs), abs_tol=1e-9) for p in probs]
    return replace(distribution, probs=tuple(c / sum(chosen) for c in chosen))


def _most_even(distributions: Sequence[VerdictDistribution]) -> VerdictDistribution:
    """The comparison nearest to one half; a tie where two favour different completions."""
    wins = [d.win_prob for d in distributions]
    if min(wins) < 0.5 < max(wins):
        even = VerdictDistribution(verdicts=(0.5,), probs=(1.0,), mass=min(d.mass for d in distributions))
        return on_scale(even, distributions[0].verdicts, stretch=False)
    return min(distributions, key=lambda d: abs(d.win_prob - 0.5))
