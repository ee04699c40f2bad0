# SPDX-License-Identifier: Apache-2.0
"""Best-of-N strategies: which ratings and comparisons to ask for, and the resulting order.

A strategy sees one group. `rounds` yields a round of questions and finds the answers in the evidence when it
is resumed, so that a caller can batch the rounds of many groups. Pairings are random, seeded by the texts.

strategy   judge calls for n completions, both orders judged
pointwise  n
all_pairs  n (n - 1)
ring       2 n for each neighbour
knockout   2 (n - 1)
swiss      n for each round, log2 n rounds
budgeted   its budget (`budgeted.py`)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar, Literal, Protocol

import numpy as np

from autoj_reward.errors import ConfigError
from autoj_reward.judgments import is_even
from autoj_reward.ranking.bradley_terry import Floats, Ints, Strengths, fit_strengths
from autoj_reward.ranking.evidence import Evidence, Round

Pair = tuple[int, int]
Asks = Literal["ratings", "comparisons", "both"]
"""What a strategy needs from the judge."""

_PRIOR_VARIANCE = 4.0
"""Prior variance of strengths without ratings: 95% of completions within 4 log-odds of the mean."""
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Standing:
    """A strategy's estimate from a group's evidence. Arrays of n, NaN if unknown.

    Attributes:
        rewards: Expected rating on the judge's scale (pointwise), else the mean win probability against
            the rest of the group in [0, 1], from the fitted strengths.
        lows: Lower end of the rewards' 95% interval; NaN without comparisons.
        highs: Upper end.
        tiers: Ranks before the reward, higher first: rounds survived in a knockout, else 0.
        strengths: The fit, or None without comparisons.
        best_prob: Probability of being the best for this judge; None without comparisons.
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
        """Name in options and reports."""
        ...

    @property
    def asks(self) -> Asks:
        """What the judge must be able to do."""
        ...

    def rounds(self, evidence: Evidence) -> Iterator[Round]:
        """Yield rounds of questions; the caller adds the answers to the evidence after each."""
        ...

    def standing(self, evidence: Evidence) -> Standing:
        """Estimate rewards from the evidence."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointwise:
    """Rate each completion once, in as many draws as the judge is set to.

    Attributes:
        reading: expected: the mean of the rating's distribution, averaged over the draws. greedy: the
            most probable rating, which ties much more often.
    """

    reading: Literal["expected", "greedy"] = "expected"
    asks: ClassVar[Asks] = "ratings"

    @property
    def name(self) -> str:
        return "pointwise" if self.reading == "expected" else "greedy"

    def rounds(self, evidence: Evidence) -> Iterator[Round]:
        yield Round(rate=tuple(range(evidence.n)))

    def standing(self, evidence: Evidence) -> Standing:
        rewards = evidence.expected() if self.reading == "expected" else evidence.greedy()
        unknown = np.full(evidence.n, np.nan)
        return Standing(rewards, unknown, unknown, np.zeros(evidence.n, dtype=np.int64))


class _Tournament:
    """Base of strategies that only compare."""

    asks: ClassVar[Asks] = "comparisons"

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
    """Compare each completion with its neighbours in a ring, ordered by tie-break hashes.

    Attributes:
        neighbours: Neighbours on one side, at least 1.
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
    """Pair at random and continue with the winners until one is left; an odd one has a bye.

    Draws are decided at random. If a comparison has no verdict, the completion that had one before continues;
    if neither had, both do, once each, so that no completion is out only because its opponent cannot be
    judged. The order is by rounds survived, then by strength.
    """

    name = "knockout"

    def rounds(self, evidence: Evidence) -> Iterator[Round]:
        for left in self._stages(evidence):
            if len(left) > 1:
                yield Round(compare=_paired(left))

    def standing(self, evidence: Evidence) -> Standing:
        survived = np.zeros(evidence.n, dtype=np.int64)
        for n, left in enumerate(self._stages(evidence)):
            survived[left] = n
        return replace(compared_standing(evidence), tiers=survived)

    def _stages(self, evidence: Evidence) -> Iterator[list[int]]:
        """The remaining completions before each round and at the end; resume after adding its answers."""
        left = evidence.rng().permutation(evidence.n).tolist()
        heard: set[int] = set()
        spared: set[int] = set()
        yield left
        while len(left) > 1:
            # The one with the bye goes first, so that it has no second one in a row; two that both continue
            # without a verdict go to the two ends, so that they do not meet again.
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
    """Compare, in each round, completions of similar score that have not met.

    Attributes:
        n_rounds: Number of rounds, at least 1; None is log2 n, rounded up.
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
            pairs = _unmet_neighbours(order, evidence)
            if not pairs:
                return
            yield Round(compare=tuple(pairs))


def compared_standing(evidence: Evidence) -> Standing:
    """Fit strengths to all comparisons of a group, with the same prior for each completion."""
    n = evidence.n
    pairs, win, tie = evidence.outcomes()
    fit = fit_strengths(pairs, win, tie, prior_mean=np.zeros(n), prior_variance=np.full(n, _PRIOR_VARIANCE))
    return standing_of(evidence, fit)


def standing_of(evidence: Evidence, fit: Strengths) -> Standing:
    """The standing from fitted strengths; completions without a verdict have none, and do not count as
    opponents. One alone, about which nothing was asked, is even with its equals: 0.5.
    """
    unheard = ~evidence.heard_of() & (evidence.n > 1 or bool(evidence.ratings))
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
    if won is None or is_even(won):
        return pair[int(evidence.rng(2 + pair[0] * evidence.n + pair[1]).integers(2))]
    return pair[0] if won > 0.5 else pair[1]


def _points(evidence: Evidence) -> Floats:
    """Sum of win probabilities minus 0.5 over comparisons with a verdict."""
    points = np.zeros(evidence.n)
    pairs, win, tie = evidence.outcomes()
    np.add.at(points, pairs[:, 0], win + tie / 2 - 0.5)
    np.add.at(points, pairs[:, 1], 0.5 - win - tie / 2)
    return points


def _unmet_neighbours(order: list[int], evidence: Evidence) -> list[Pair]:
    """Pair from the top down, each with the next that it has not met; one without such has a bye."""
    free = list(order)
    pairs = []
    while len(free) > 1:
        first = free.pop(0)
        unmet = (o for o in free if (min(first, o), max(first, o)) not in evidence.comparisons)
        if (other := next(unmet, None)) is not None:
            free.remove(other)
            pairs.append((first, other))
    return pairs
