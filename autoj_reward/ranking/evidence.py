# SPDX-License-Identifier: Apache-2.0
"""A strategy's questions about one group, and the answers so far.

A strategy sees a group's distinct completions in the order of their tie-break hashes, so results do not
depend on the order of the group.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from autoj_reward.ranking.bradley_terry import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class Rated:
    """A rating as a strategy sees it; None with a failure.

    `expected` has the guard's penalty subtracted, `greedy` has not.
    """

    expected: float | None
    greedy: float | None = None
    n_calls: int = 1
    n_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison as a strategy sees it; `win_prob` is the first's, None with a failure."""

    win_prob: float | None
    tie_prob: float | None = None
    n_calls: int = 2
    n_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """Questions asked at once: completions to rate, and pairs (i, j) with i < j to compare."""

    rate: tuple[int, ...] = ()
    compare: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to a round, in its order."""

    ratings: tuple[Rated, ...] = ()
    comparisons: tuple[Compared, ...] = ()


class Referee(Protocol):
    """Answers rounds: a judge, recorded judgments, or a simulation."""

    @property
    def calls_per_comparison(self) -> int:
        """Judge calls of a comparison: its draws times its orders.

        A call is one input of the judge. `Usage.n_requests` counts the engine's requests, which may be more.
        """
        ...

    def answer(self, asked: list[tuple[int, Round]]) -> list[Answers]:
        """Answer one round for each of several groups, given by their numbers, in one batch."""
        ...


@dataclass(slots=True)
class Evidence:
    """Ratings and comparisons of a group of n completions.

    Attributes:
        n: Number of completions.
        seed: Hash of the group's texts, independent of their order.
        calls_per_comparison: Judge calls of a comparison.
        ratings: Ratings by completion.
        comparisons: Comparisons by pair (i, j), i < j.
        n_calls: Judge calls spent.
        n_tokens: Prompt and completion tokens spent.
    """

    n: int
    seed: int
    calls_per_comparison: int = 2
    ratings: dict[int, Rated] = field(default_factory=dict)
    comparisons: dict[tuple[int, int], Compared] = field(default_factory=dict)
    n_calls: int = 0
    n_tokens: int = 0

    def rng(self, purpose: int = 0) -> np.random.Generator:
        """A random generator that is the same in every run over the same completions."""
        return np.random.default_rng([self.seed, purpose])

    def new(self, asked: Round) -> Round:
        """The round without questions that were asked before."""
        return Round(
            rate=tuple(dict.fromkeys(i for i in asked.rate if i not in self.ratings)),
            compare=tuple(dict.fromkeys(p for p in map(_sorted, asked.compare) if p not in self.comparisons)),
        )

    def add(self, asked: Round, answers: Answers) -> None:
        """Add the answers to a round."""
        self.ratings.update(zip(asked.rate, answers.ratings, strict=True))
        self.comparisons.update(zip(asked.compare, answers.comparisons, strict=True))
        given: tuple[Rated | Compared, ...] = (*answers.ratings, *answers.comparisons)
        for answer in given:
            self.n_calls += answer.n_calls
            self.n_tokens += answer.n_tokens

    def expected(self) -> Floats:
        """(n,) expected ratings; NaN if unknown."""
        return self._rated({i: rated.expected for i, rated in self.ratings.items()})

    def greedy(self) -> Floats:
        """(n,) greedy ratings; NaN if unknown."""
        return self._rated({i: rated.greedy for i, rated in self.ratings.items()})

    def _rated(self, values: dict[int, float | None]) -> Floats:
        # None becomes NaN.
        return np.array([values.get(i) for i in range(self.n)], dtype=np.float64)

    def outcomes(self) -> tuple[Ints, Floats, Floats]:
        """Comparisons with a verdict: (m, 2) pairs, (m,) win and (m,) tie probabilities."""
        known = sorted((p, c) for p, c in self.comparisons.items() if c.win_prob is not None)
        pairs = np.array([p for p, _ in known], dtype=np.int64).reshape(-1, 2)
        tie = np.array([c.tie_prob or 0.0 for _, c in known])
        win = np.array([c.win_prob for _, c in known], dtype=np.float64) - tie / 2
        return pairs, win, tie

    def win_prob(self, i: int, j: int) -> float | None:
        """The judge's probability that i beats j; None without a verdict."""
        compared = self.comparisons.get(_sorted((i, j)))
        if compared is None or compared.win_prob is None:
            return None
        return compared.win_prob if i < j else 1.0 - compared.win_prob

    def heard_of(self) -> Bools:
        """(n,) whether a completion has any verdict."""
        heard = ~np.isnan(self.expected())
        pairs, _, _ = self.outcomes()
        heard[pairs.ravel()] = True
        return heard

    def beats(self, resolution: float) -> Bools:
        """(n, n) whether i beat j by more than the resolution."""
        pairs, win, tie = self.outcomes()
        net = win + tie / 2 - 0.5
        won = np.zeros((self.n, self.n), dtype=bool)
        for (i, j), by in zip(pairs, net, strict=True):
            won[i, j], won[j, i] = by > resolution, by < -resolution
        return won


def _sorted(pair: tuple[int, int]) -> tuple[int, int]:
    return pair if pair[0] < pair[1] else (pair[1], pair[0])
