# SPDX-License-Identifier: Apache-2.0
"""Strategies of best-of-N: which questions to ask, round by round, and the resulting order.

A strategy sees one group. `rounds` yields a round of requests and finds the answers in the evidence when it
continues, so that a caller can put the rounds of many groups into one batch. Pairings are random, seeded by
the texts.

strategy   judge calls for n completions, both orders judged
pointwise  n
all_pairs  n (n - 1)
ring       2 n for each neighbour
knockout   2 (n - 1)
swiss      n for each round, log2 n rounds
budgeted   as set (`budgeted.py`)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, Protocol

import numpy as np

from autoj_reward.errors import ConfigError
from autoj_reward.ranking.bradley_terry import Floats, Ints, Strengths, fit_strengths
from autoj_reward.ranking.evidence import Evidence, Round

Pair = tuple[int, int]

_PRIOR_VARIANCE = 4.0
"""Of strengths where no rating speaks: 95% of completions within 4 log-odds of the mean."""
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Standing:
    """What a strategy makes of a group's evidence. Arrays of n, NaN where nothing is known.

    Attributes:
        rewards: Expected rating on the judge's scale (pointwise), else the mean win probability against
            the rest of the group in [0, 1], from the fitted strengths.
        lows: Lower end of the rewards' 95% interval; NaN where there are no comparisons.
        highs: Upper end.
        tiers: What counts before the reward: higher comes first. Zeros but for a knockout.
        strengths: The fit, or None without comparisons.
        best_prob: Probability of each that it is the best for this judge; None without comparisons.
    """

    rewards: Floats
    lows: Floats
    highs: Floats
    tiers: Ints
    strengths: Strengths | None = None
    best_prob: Floats | None = None


class Strategy(Protocol):
    """A way to find the best of a group."""

    @property
    def name(self) -> str:
        """What options and reports call it."""
        ...

    @property
    def asks(self) -> Literal["ratings", "comparisons", "both"]:
        """What the judge must be able to do."""
        ...

    def rounds(self, evidence: Evidence) -> Iterator[Round]:
        """What to ask, one round after the other; the answers are in the evidence after each."""
        ...

    def standing(self, evidence: Evidence) -> Standing:
        """What the evidence says."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointwise:
    """Rate each completion once; the judge's settings say in how many draws.

    Attributes:
        reading: expected: the mean of the rating's distribution, averaged over the draws. greedy: the
            most probable rating, which ties far more often.
    """

    reading: Literal["expected", "greedy"] = "expected"

    @property
    def name(self) -> str:
        return "pointwise" if self.reading == "expected" else "greedy"

    @property
    def asks(self) -> Literal["ratings", "comparisons", "both"]:
        return "ratings"

    def rounds(self, evidence: Evidence) -> Iterator[Round]:
        yield Round(rate=tuple(range(evidence.n)))

    def standing(self, evidence: Evidence) -> Standing:
        rewards = evidence.expected() if self.reading == "expected" else evidence.greedy()
        nothing = np.full(evidence.n, np.nan)
        return Standing(rewards, nothing, nothing, np.zeros(evidence.n, dtype=np.int64))


class _Tournament:
    """What strategies that only compare have in common: strengths from all that was compared."""

    @property
    def asks(self) -> Literal["ratings", "comparisons", "both"]:
        return "comparisons"

    def standing(self, evidence: Evidence) -> Standing:
        return compared_standing(evidence)


@dataclass(frozen=True, slots=True)
class AllPairs(_Tournament):
    """Compare every pair."""

    name = "all_pairs"

    def rounds(self, evidence: Evidence) -> Iterator[Round]:
        yield Round(compare=tuple(combinations(range(evidence.n), 2)))


@dataclass(frozen=True, slots=True)
class Ring(_Tournament):
    """Put the completions in a ring by their tie-break hashes, and compare each with its next neighbours.

    Attributes:
        neighbours: How many on one side, at least 1.
    """

    neighbours: int = 1
    name = "ring"

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ConfigError(f"neighbours = {self.neighbours} is not at least 1")

    def rounds(self, evidence: Evidence) -> Iterator[Round]:
        n = evidence.n
        steps = range(1, min(self.neighbours, n - 1) + 1)
        yield Round(compare=tuple((i, (i + s) % n) for s in steps for i in range(n)))


@dataclass(frozen=True, slots=True)
class Knockout(_Tournament):
    """Pair at random, and continue with the winners until one is left; with an odd number one has a bye.

    A draw is decided at random. If a comparison has no verdict, the completion that had one before continues;
    of two that never had one both do, once each, so that none is out for meeting one that cannot be judged.
    The order is by rounds survived, then by strength.
    """

    name = "knockout"

    def rounds(self, evidence: Evidence) -> Iterator[Round]:
        for left in self._stages(evidence):
            if len(left) > 1:
                yield Round(compare=_paired(left))

    def standing(self, evidence: Evidence) -> Standing:
        made = compared_standing(evidence)
        survived = np.zeros(evidence.n, dtype=np.int64)
        for n, left in enumerate(self._stages(evidence)):
            survived[left] = n
        return Standing(made.rewards, made.lows, made.highs, survived, made.strengths, made.best_prob)

    def _stages(self, evidence: Evidence) -> Iterator[list[int]]:
        """Who is left before each round and in the end; the next round needs the answers to this one."""
        left = evidence.rng().permutation(evidence.n).tolist()
        heard: set[int] = set()
        spared: set[int] = set()
        yield left
        while len(left) > 1:
            # The one with the bye goes first, so that none has two in a row; two that are both spared go to
            # the two ends, so that they do not meet again.
            firsts, seconds = left[-1:] if len(left) % 2 else [], []
            for pair in _paired(left):
                if evidence.win_prob(*pair) is not None:
                    heard.update(pair)
                known = [i for i in pair if i in heard]
                if len(known) == 1:
                    firsts += known
                elif not known and (fresh := [i for i in pair if i not in spared]):
                    spared.update(fresh)
                    firsts.insert(0, fresh[0])
                    seconds += fresh[1:]
                else:
                    firsts.append(_winner(evidence, pair))
            left = firsts + seconds
            yield left


def _paired(left: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple(zip(left[::2], left[1::2], strict=False))


@dataclass(frozen=True, slots=True)
class Swiss(_Tournament):
    """In each round compare those of like standing that have not met.

    Attributes:
        n_rounds: None for log2 n, rounded up.
    """

    n_rounds: int | None = None
    name = "swiss"

    def __post_init__(self) -> None:
        if self.n_rounds is not None and self.n_rounds < 1:
            raise ConfigError(f"n_rounds = {self.n_rounds} is not at least 1")

    def rounds(self, evidence: Evidence) -> Iterator[Round]:
        n = evidence.n
        places = evidence.rng().permutation(n)
        for _ in range(self.n_rounds or max(1, math.ceil(math.log2(max(n, 2))))):
            points = _points(evidence)
            order = sorted(range(n), key=lambda i: (-points[i], places[i]))
            pairs = _neighbours_that_have_not_met(order, evidence)
            if not pairs:
                return
            yield Round(compare=tuple(pairs))


def compared_standing(evidence: Evidence) -> Standing:
    """Strengths from all comparisons of a group, each with the same prior."""
    n = evidence.n
    pairs, win, tie = evidence.outcomes()
    fit = fit_strengths(pairs, win, tie, prior_mean=np.zeros(n), prior_variance=np.full(n, _PRIOR_VARIANCE))
    return standing_of(evidence, fit)


def standing_of(evidence: Evidence, fit: Strengths) -> Standing:
    """A standing by fitted strengths.

    Completions without any verdict have none, and do not count as the others' opponents.
    """
    unheard = ~evidence.heard_of()
    means, errors = fit.against_group(~unheard)
    rewards = np.where(unheard, np.nan, means)
    best = fit.best_probs(evidence.rng(1))
    return Standing(
        rewards=rewards,
        lows=np.clip(rewards - _Z95 * errors, 0.0, 1.0),
        highs=np.clip(rewards + _Z95 * errors, 0.0, 1.0),
        tiers=np.zeros(evidence.n, dtype=np.int64),
        strengths=fit,
        best_prob=np.where(unheard, 0.0, best),
    )


def _winner(evidence: Evidence, pair: Pair) -> int:
    won = evidence.win_prob(*pair)
    if won is None or abs(won - 0.5) < 1e-9:
        return pair[int(evidence.rng(2 + pair[0] * evidence.n + pair[1]).integers(2))]
    return pair[0] if won > 0.5 else pair[1]


def _points(evidence: Evidence) -> Floats:
    """Sum of win probabilities; a comparison without a verdict is no half point, it does not count."""
    points = np.zeros(evidence.n)
    pairs, win, tie = evidence.outcomes()
    np.add.at(points, pairs[:, 0], win + tie / 2 - 0.5)
    np.add.at(points, pairs[:, 1], 0.5 - win - tie / 2)
    return points


def _neighbours_that_have_not_met(order: list[int], evidence: Evidence) -> list[Pair]:
    """From the top down: each with the next below that it has not met; one that finds none has a bye."""
    free = list(order)
    pairs = []
    while len(free) > 1:
        first = free.pop(0)
        unmet = (o for o in free if (min(first, o), max(first, o)) not in evidence.comparisons)
        if (other := next(unmet, None)) is not None:
            free.remove(other)
            pairs.append((first, other))
    return pairs
