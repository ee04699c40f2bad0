# SPDX-License-Identifier: Apache-2.0
"""Run a judge on labelled pairs and collect its decisions and scores."""

from __future__ import annotations

from collections.abc import Sequence

from autoj_reward.autoj.pairs import Decision, LabelledPair, Scores
from autoj_reward.judge.judge import Judge
from autoj_reward.judgments import PairJudgment, Preference, RatingJudgment


def compare_pairs(judge: Judge, pairs: Sequence[LabelledPair]) -> list[PairJudgment]:
    """Let a judge compare B pairs: B judgments.

    Raises:
        ConfigError: The judge does not compare.
        EngineError: The engine failed as a whole.
    """
    return judge.compare([p.prompt for p in pairs], [p.first for p in pairs], [p.second for p in pairs])


def rate_both(judge: Judge, pairs: Sequence[LabelledPair]) -> list[RatingJudgment]:
    """Let a judge rate each completion of B pairs by itself: 2B judgments, those of a pair side by side.

    Raises:
        ConfigError: The judge does not rate.
        EngineError: The engine failed as a whole.
    """
    # So that what a prompt's two completions share is computed once.
    prompts = [p.prompt for p in pairs for _ in range(2)]
    return judge.rate(prompts, [text for p in pairs for text in (p.first, p.second)])


def pair_scores(rated: Sequence[RatingJudgment]) -> list[Scores]:
    """The scores of B pairs from the judgments of `rate_both`: expected ratings; None for a failure."""
    rewards = [j.expected_rating for j in rated]
    return list(zip(rewards[::2], rewards[1::2], strict=True))


def decision_of(judgment: PairJudgment, both_orders: bool) -> Decision:
    """What a judgment decides in each order; without `both_orders` in the given order only."""
    orders = judgment.order_preferences
    if judgment.by_rule and judgment.preference is not None and both_orders:
        orders = (judgment.preference, judgment.preference)
    if orders is not None:
        return Decision(
            given=orders[0], swapped=orders[1], averaged=judgment.preference, win_prob=judgment.win_prob
        )
    if any(s.swapped for s in judgment.samples):
        return Decision(given=None, swapped=None)
    return Decision(given=_stated(judgment), win_prob=judgment.win_prob)


def _stated(judgment: PairJudgment) -> Preference | None:
    """One order's decision: what a single critique states, else the most probable preference."""
    if judgment.distribution is None:
        return None
    stated = judgment.samples[0].stated if len(judgment.samples) == 1 else None
    return stated if stated in ("first", "second", "tie") else judgment.preference
