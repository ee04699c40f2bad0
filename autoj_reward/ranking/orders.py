# SPDX-License-Identifier: Apache-2.0
"""Rankings: the order of a group's completions, with ties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autoj_reward.judgments import Judgment, PairJudgment, RatingJudgment
from autoj_reward.ranking.bradley_terry import cyclic_triads, find_cycles
from autoj_reward.ranking.evidence import Evidence
from autoj_reward.ranking.strategies import Standing, Strategy
from autoj_reward.ranking.tables import ranking_html
from autoj_reward.ranking.tiebreak import DistinctCompletions
from autoj_reward.types import Failure, Usage

_MIDDLE = (0.025, 0.975)
_OF_JUDGMENT = ("rating", "expected_rating", "mass", "entropy", "exactness")
_OF_RUBRICS_AND_PANELS = ("criteria", "score", "spread", "agreement", "members")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One completion of a group.

    Attributes:
        index: Its index in the group.
        judgment: Its rating; None if the strategy did not rate.
        reward: For pointwise strategies the expected (or greedy) rating on the judge's scale, otherwise the
            mean win probability against the rest of the group, in [0, 1], from fitted strengths. None without
            a verdict.
        low: Lower end of a 95% interval: for ratings the middle of the rating's own distribution, for win
            probabilities their standard error. None if the reward is.
        high: Upper end.
        best_prob: Probability of being the best for this judge; None without comparisons.
        failure: Why there is no reward: the failure of its rating, else of a comparison; None with a reward.
    """

    index: int
    judgment: RatingJudgment | None
    reward: float | None = None
    low: float | None = None
    high: float | None = None
    best_prob: float | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """A group's completions, best first; those without a verdict come last.

    Rewards within the resolution of the best among them tie. A hash of prompt and completion orders ties, the
    same in every run and for every order of the group. Equal completions are judged once and follow each
    other.

    Attributes:
        candidates: Best first.
        tied_best: Indices that tie for the first place, ascending; empty if no completion has a verdict.
        strategy: Name of the strategy.
        resolution: Within how much its rewards tie.
        n_calls: Judge calls spent: one per draw of a rating, one per draw and order of a comparison.
        comparisons: Judgments of pairs, by the indices of their first and second completion.
        cycles: Sets of completions that beat each other in a cycle.
        cyclic_triads: Number of cyclic triples, and of triples whose three pairs were all decided.
    """

    candidates: tuple[Candidate, ...]
    tied_best: tuple[int, ...] = ()
    strategy: str = "pointwise"
    resolution: float = 0.0
    n_calls: int = 0
    comparisons: Mapping[tuple[int, int], PairJudgment] = field(default_factory=dict)
    cycles: tuple[tuple[int, ...], ...] = ()
    cyclic_triads: tuple[int, int] = (0, 0)

    @property
    def best(self) -> int | None:
        """Index of the best completion; None without any verdict."""
        first = self.candidates[0]
        return None if first.reward is None else first.index

    @property
    def ranks(self) -> list[int | None]:
        """Each completion's rank from 1, in the group's order; None without a verdict."""
        places = {c.index: None if c.reward is None else p for p, c in enumerate(self.candidates, start=1)}
        return [places[i] for i in range(len(places))]

    @property
    def rewards(self) -> list[float | None]:
        """Each completion's reward, in the group's order; None without a verdict."""
        return [c.reward for c in sorted(self.candidates, key=lambda c: c.index)]

    @property
    def judgments(self) -> list[Judgment]:
        """All judgments made for the ranking, without repetition."""
        rated = {id(c.judgment): c.judgment for c in self.candidates if c.judgment is not None}
        return [*rated.values(), *self.comparisons.values()]

    def entry(self, candidate: Candidate, explanation: RatingJudgment | None = None) -> dict[str, Any]:
        """A candidate as plain values: what `rerank` writes into `ranking`.

        Args:
            candidate: One of the ranking's.
            explanation: A judgment that was made for its critique only.
        """
        judged = {} if candidate.judgment is None else candidate.judgment.to_dict()
        critic = explanation or candidate.judgment
        return {
            "index": candidate.index,
            "reward": candidate.reward,
            "low": candidate.low,
            "high": candidate.high,
            "best_prob": candidate.best_prob,
            **{name: judged.get(name) for name in _OF_JUDGMENT},
            **{name: judged[name] for name in _OF_RUBRICS_AND_PANELS if name in judged},
            "critique": None if critic is None else critic.critique,
            "critique_rating": None if explanation is None else explanation.rating,
            "forced": judged.get("forced", 0),
            "cut_chars": judged.get("cut_chars", 0),
            "flags": judged.get("flags"),
            "failure": None if candidate.failure is None else candidate.failure.to_dict(),
        }

    def to_dict(self) -> dict[str, Any]:
        """As plain values that JSON holds: the entries of `ranking`, best first, and `totals`."""
        entries = [self.entry(candidate) for candidate in self.candidates]
        return {"ranking": entries, "best": self.best, **self.totals()}

    def totals(self) -> dict[str, Any]:
        """What `rerank` writes beside the entries: the strategy, within how much rewards tie, what it spent,
        and the cycles it met.
        """
        usage = self.usage
        return {
            "strategy": self.strategy,
            "resolution": self.resolution,
            "n_calls": self.n_calls,
            "n_tokens": usage.prompt_tokens + usage.completion_tokens,
            "cycles": [list(cycle) for cycle in self.cycles],
        }

    def _repr_html_(self) -> str:
        """A small table for notebooks: rank, index, reward, rating and the beginning of the critique."""
        return ranking_html(self.to_dict())

    def failure(self, index: int) -> Failure | None:
        """Why a completion has no verdict; see `Candidate`."""
        return next(c.failure for c in self.candidates if c.index == index)

    @property
    def usage(self) -> Usage:
        """Tokens of all judgments."""
        return sum((j.usage for j in self.judgments), start=Usage())


def order(standing: Standing, resolution: float) -> list[list[int]]:
    """Blocks of completions that tie, best block first; completions without a reward are left out.

    A block holds all completions of one tier whose rewards are within the resolution of its best.
    """
    tiers, rewards = standing.tiers, standing.rewards
    known = np.flatnonzero(~np.isnan(rewards)).tolist()
    known.sort(key=lambda i: (-tiers[i], -rewards[i], i))
    blocks: list[list[int]] = []
    for i in known:
        best = blocks[-1][0] if blocks else i
        if blocks and tiers[best] == tiers[i] and rewards[best] - rewards[i] <= resolution:
            blocks[-1].append(i)
        else:
            blocks.append([i])
    return [sorted(block) for block in blocks]


def make_ranking(
    strategy: Strategy,
    distinct: DistinctCompletions,
    evidence: Evidence,
    rated: Mapping[int, RatingJudgment],
    compared: Mapping[tuple[int, int], PairJudgment],
    resolution: float,
) -> Ranking:
    """Make a ranking from a strategy's evidence on distinct completions, and their judgments."""
    standing = strategy.standing(evidence)
    blocks = order(standing, resolution)
    ranked = [i for block in blocks for i in block]
    unknown = [i for i in range(evidence.n) if i not in ranked]
    members = distinct.members
    candidates = tuple(
        _candidate(index, i, standing, rated.get(i), [j for pair, j in compared.items() if i in pair])
        for i in ranked + unknown
        for index in members[i]
    )
    beats = evidence.beats(resolution)
    return Ranking(
        candidates=candidates,
        tied_best=tuple(sorted(m for i in (blocks[0] if blocks else []) for m in members[i])),
        strategy=strategy.name,
        resolution=resolution,
        n_calls=evidence.n_calls,
        comparisons={(members[i][0], members[j][0]): judgment for (i, j), judgment in compared.items()},
        cycles=tuple(tuple(sorted(m for i in cycle for m in members[i])) for cycle in find_cycles(beats)),
        cyclic_triads=cyclic_triads(beats),
    )


def _candidate(
    index: int, i: int, standing: Standing, judgment: RatingJudgment | None, compared: Sequence[PairJudgment]
) -> Candidate:
    """The completion at `index` of the group, number i of the distinct ones, which was compared so."""
    low, high = _number(standing.lows[i]), _number(standing.highs[i])
    reward = _number(standing.rewards[i])
    if low is None and reward is not None and judgment is not None:
        low, high = _middle(judgment)
    best_prob = None if standing.best_prob is None else float(standing.best_prob[i])
    failures = (j.failure for j in (judgment, *compared) if j is not None and reward is None)
    return Candidate(index, judgment, reward, low, high, best_prob, next(filter(None, failures), None))


def _middle(judgment: RatingJudgment) -> tuple[float | None, float | None]:
    """The ratings that bound the middle 95% of a rating's distribution."""
    distribution = judgment.distribution
    if distribution is None:
        return None, None
    ratings = sorted(zip(distribution.verdicts, distribution.probs, strict=True), key=lambda vp: vp[0])
    below = np.cumsum([p for _, p in ratings])
    low, high = (min(int(np.searchsorted(below, q - 1e-12)), len(ratings) - 1) for q in _MIDDLE)
    return float(ratings[low][0]), float(ratings[high][0])


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
