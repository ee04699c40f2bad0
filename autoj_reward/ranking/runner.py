# SPDX-License-Identifier: Apache-2.0
"""Run a strategy over many groups, each round of all groups in one judge call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judgments import Judgment, PairJudgment, RatingJudgment
from autoj_reward.ranking.evidence import Answers, Compared, Evidence, Rated, Referee, Round
from autoj_reward.ranking.strategies import Strategy
from autoj_reward.types import Request


def run_strategy(strategy: Strategy, seeds: Sequence[tuple[int, int]], referee: Referee) -> list[Evidence]:
    """Run a strategy for B groups at once, given by their number of distinct completions and their seed.

    Returns:
        The evidence of B groups, in the same order.
    """
    evidences = [
        Evidence(n=n, seed=seed, calls_per_comparison=referee.calls_per_comparison) for n, seed in seeds
    ]
    running = {g: strategy.rounds(evidence) for g, evidence in enumerate(evidences)}
    while running:
        asked: list[tuple[int, Round]] = []
        for g in list(running):
            if (wanted := next(running[g], None)) is None:
                del running[g]
            else:
                asked.append((g, evidences[g].new(wanted)))
        for (g, done), answers in zip(asked, referee.answer(asked), strict=True):
            evidences[g].add(done, answers)
    return evidences


@dataclass(slots=True)
class JudgeOracle:
    """A judge that answers rounds and keeps its judgments."""

    judge: Judge
    requests: Sequence[Sequence[Request]]
    """For each group one request per distinct completion."""
    ratings: dict[tuple[int, int], RatingJudgment] = field(default_factory=dict)
    """By group and completion."""
    comparisons: dict[tuple[int, int, int], PairJudgment] = field(default_factory=dict)
    """By group and pair."""

    @property
    def calls_per_comparison(self) -> int:
        settings = self.judge.settings
        return settings.n_samples * (2 if settings.both_orders else 1)

    def answer(self, asked: list[tuple[int, Round]]) -> list[Answers]:
        singles = [(g, i) for g, wanted in asked for i in wanted.rate]
        # Sorted by the first, so that pairs with a common prefix follow each other in the prefix cache.
        pairs = sorted((g, i, j) for g, wanted in asked for i, j in wanted.compare)
        rated = self.judge.rate_requests([self.requests[g][i] for g, i in singles]) if singles else []
        compared = self.judge.compare_requests([self._pair(*pair) for pair in pairs]) if pairs else []
        self.ratings.update(zip(singles, rated, strict=True))
        self.comparisons.update(zip(pairs, compared, strict=True))
        return [self.recall(g, wanted) for g, wanted in asked]

    def recall(self, g: int, wanted: Round) -> Answers:
        """The answers to a round whose judgments are all known."""
        return Answers(
            ratings=tuple(as_rated(self.ratings[g, i]) for i in wanted.rate),
            comparisons=tuple(as_compared(self.comparisons[g, i, j]) for i, j in wanted.compare),
        )

    def _pair(self, g: int, i: int, j: int) -> Request:
        return self.requests[g][i].paired_with(self.requests[g][j])


def as_rated(judgment: RatingJudgment) -> Rated:
    """A rating for strategies, less the guard's penalty."""
    return Rated(judgment.reward, judgment.rating, judgment.n_calls, n_tokens(judgment))


def as_compared(judgment: PairJudgment) -> Compared:
    """A comparison for strategies, with the guard's penalties."""
    win_prob, tie_prob = judgment.reward, judgment.tie_prob
    if win_prob is not None and tie_prob is not None:
        # A penalty can leave less room for ties than the judge gave them.
        tie_prob = min(tie_prob, 2 * win_prob, 2 * (1 - win_prob))
    return Compared(win_prob, tie_prob, judgment.n_calls, n_tokens(judgment))


def n_tokens(judgment: Judgment) -> int:
    """Prompt and completion tokens, cached ones included."""
    return judgment.usage.prompt_tokens + judgment.usage.completion_tokens


def check_judge(judge: Judge, strategy: Strategy) -> None:
    """Check that a judge can answer a strategy's questions.

    Raises:
        ConfigError: The strategy needs ratings or comparisons, and the judge does not give them.
    """
    for kind, task in (("ratings", judge.spec.rating), ("comparisons", judge.spec.comparison)):
        if strategy.asks in (kind, "both") and task is None:
            raise ConfigError(
                f"the strategy {strategy.name} needs {kind}, and judge {judge.spec.name!r} gives none",
                hint="use pointwise with a judge that rates, a tournament with one that compares",
            )
