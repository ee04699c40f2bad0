# SPDX-License-Identifier: Apache-2.0
"""The order of a group: what a strategy's standing makes of its completions, ties included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from autoj_reward.judgments import Judgment, PairJudgment, RatingJudgment
from autoj_reward.ranking.bradley_terry import cyclic_triads, find_cycles
from autoj_reward.ranking.evidence import Evidence
from autoj_reward.ranking.strategies import Standing, Strategy
from autoj_reward.ranking.tiebreak import DistinctCompletions
from autoj_reward.types import Failure, Usage

RESOLUTION = 1e-4
"""Rewards closer than this tie. Ten times what two engines differ by in float32; in bfloat16 they differ by
up to 0.06."""


_MIDDLE = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One completion of a group.

    Attributes:
        index: Its place in its group.
        judgment: Its rating; None where the strategy did not rate.
        reward: With pointwise strategies the expected (or greedy) rating on the judge's scale; with those
            that compare, the mean win probability against the rest of the group, in [0, 1], by the fitted
            strengths. None without any verdict.
        low: Lower end of an interval of 95%: of a rating the middle of its own distribution, which says how
            sure the judge is; of a win probability the error that the comparisons leave. None with reward.
        high: Its upper end.
        best_prob: Probability that it is the best for this judge; None where nothing was compared.
    """

    index: int
    judgment: RatingJudgment | None
    reward: float | None = None
    low: float | None = None
    high: float | None = None
    best_prob: float | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """A group's completions, best first; those without a verdict come last.

    Rewards within the resolution of the best among them tie. Ties are ordered by a hash of prompt and
    completion: the same in every run, whatever the order of the group. Completions of equal text are judged
    once and are next to each other.

    Attributes:
        candidates: Best first.
        tied_best: Indices that tie for the first place, ascending; empty where nothing has a verdict.
        strategy: How they were ordered.
        n_calls: Judge calls spent: one for each draw of a rating, one for each draw and order of a
            comparison.
        comparisons: Judgments of pairs, by the indices of their first and second completion.
        cycles: Sets of completions that beat each other in a circle.
        cyclic_triads: How many triples go in a circle, of how many whose three pairs were all decided.
    """

    candidates: tuple[Candidate, ...]
    tied_best: tuple[int, ...] = ()
    strategy: str = "pointwise"
    n_calls: int = 0
    comparisons: Mapping[tuple[int, int], PairJudgment] = field(default_factory=dict)
    cycles: tuple[tuple[int, ...], ...] = ()
    cyclic_triads: tuple[int, int] = (0, 0)

    @property
    def best(self) -> int | None:
        """Index of the best completion; None if none has a verdict."""
        first = self.candidates[0]
        return None if first.reward is None else first.index

    @property
    def ranks(self) -> list[int | None]:
        """For each completion, in the group's order, its place from 1; None without a verdict."""
        places = {c.index: None if c.reward is None else p for p, c in enumerate(self.candidates, start=1)}
        return [places[i] for i in range(len(places))]

    @property
    def rewards(self) -> list[float | None]:
        """For each completion, in the group's order, its reward; None without a verdict."""
        return [c.reward for c in sorted(self.candidates, key=lambda c: c.index)]

    @property
    def judgments(self) -> list[Judgment]:
        """Every judgment made for the ranking, once."""
        rated = {id(c.judgment): c.judgment for c in self.candidates if c.judgment is not None}
        return [*rated.values(), *self.comparisons.values()]

    def failure(self, index: int) -> Failure | None:
        """Why a completion has no verdict: its rating's failure, else that of a comparison; None with one."""
        candidate = next(c for c in self.candidates if c.index == index)
        if candidate.reward is not None:
            return None
        own = [candidate.judgment] if candidate.judgment is not None else []
        copies = [pair for pair in self.comparisons if index in pair]
        failures = [j.failure for j in (*own, *(self.comparisons[p] for p in copies)) if j.failure]
        return failures[0] if failures else None

    @property
    def usage(self) -> Usage:
        """Tokens of all judgments."""
        return sum((j.usage for j in self.judgments), start=Usage())


def order(standing: Standing, resolution: float) -> list[list[int]]:
    """Entrants in blocks of those that tie, best block first; those without a reward are in none.

    A block is led by its best, and holds all of its tier whose rewards are within the resolution of it.
    """
    known = np.flatnonzero(~np.isnan(standing.rewards)).tolist()
    known.sort(key=lambda i: (-standing.tiers[i], -standing.rewards[i], i))
    blocks: list[list[int]] = []
    for i in known:
        leads = blocks and blocks[-1][0]
        if (
            blocks
            and standing.tiers[leads] == standing.tiers[i]
            and standing.rewards[leads] - standing.rewards[i] <= resolution
        ):
            blocks[-1].append(i)
        else:
            blocks.append([i])
    return [sorted(block) for block in blocks]


def tied_best(standing: Standing, resolution: float) -> list[int]:
    """Entrants that tie for the first place."""
    blocks = order(standing, resolution)
    return blocks[0] if blocks else []


def make_ranking(
    strategy: Strategy,
    entrants: DistinctCompletions,
    evidence: Evidence,
    rated: Mapping[int, RatingJudgment],
    compared: Mapping[tuple[int, int], PairJudgment],
    resolution: float,
) -> Ranking:
    """A group's ranking from what a strategy learned: its distinct completions, and their judgments."""
    standing = strategy.standing(evidence)
    blocks = order(standing, resolution)
    last = sorted(set(range(evidence.n)) - {i for block in blocks for i in block})
    members = entrants.members
    candidates = tuple(
        _candidate(index, i, standing, rated.get(i))
        for i in [i for block in blocks for i in block] + last
        for index in members[i]
    )
    beats = evidence.beats(resolution)
    return Ranking(
        candidates=candidates,
        tied_best=tuple(sorted(m for i in (blocks[0] if blocks else []) for m in members[i])),
        strategy=strategy.name,
        n_calls=evidence.n_calls,
        comparisons={(members[i][0], members[j][0]): judgment for (i, j), judgment in compared.items()},
        cycles=tuple(tuple(sorted(m for i in cycle for m in members[i])) for cycle in find_cycles(beats)),
        cyclic_triads=cyclic_triads(beats),
    )


def _candidate(index: int, i: int, standing: Standing, judgment: RatingJudgment | None) -> Candidate:
    low, high = _number(standing.lows[i]), _number(standing.highs[i])
    reward = _number(standing.rewards[i])
    if low is None and reward is not None and judgment is not None:
        low, high = _middle(judgment)
    best_prob = None if standing.best_prob is None else float(standing.best_prob[i])
    return Candidate(index, judgment, reward, low, high, best_prob)


def _middle(judgment: RatingJudgment) -> tuple[float | None, float | None]:
    """Between which ratings the middle 95% of a rating's distribution lies."""
    distribution = judgment.distribution
    if distribution is None:
        return None, None
    ratings = sorted(zip(distribution.verdicts, distribution.probs, strict=True), key=lambda vp: vp[0])
    below = np.cumsum([p for _, p in ratings])
    low, high = (min(int(np.searchsorted(below, q - 1e-12)), len(ratings) - 1) for q in _MIDDLE)
    return float(ratings[low][0]), float(ratings[high][0])


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
