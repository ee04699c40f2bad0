# SPDX-License-Identifier: Apache-2.0
"""Strategies through the whole pipeline, on an engine that reads a completion's quality."""

from __future__ import annotations

import random

import numpy as np
import pytest

from autoj_reward import Judge, best_of_n, rank
from autoj_reward.criteria.rubric import Criterion, Rubric
from autoj_reward.errors import ConfigError
from autoj_reward.ranking.budgeted import Budgeted
from autoj_reward.ranking.evidence import Answers, Compared, Evidence, Rated, Round
from autoj_reward.ranking.orders import order
from autoj_reward.ranking.rank import rank_judged
from autoj_reward.ranking.registry import STRATEGY_NAMES, choose_strategy
from autoj_reward.ranking.runner import run_strategy
from autoj_reward.ranking.strategies import AllPairs, Knockout, Pointwise, Ring, Standing, Strategy, Swiss
from autoj_reward.testing import ScriptedEngine, rendered_text
from autoj_reward.types import Failure, FailureReason, JudgeInput
from tests.quality import noisy_engine

ALL = [choose_strategy(name) for name in STRATEGY_NAMES] + [
    Budgeted(allocation="halving"),
    Budgeted(confidence=0.9),
    Ring(neighbours=3),
]
IDS = [*STRATEGY_NAMES, "halving", "confidence", "ring of 3"]


def group(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [f"An answer of quality {rng.uniform(2, 9):.3f}, number {i}." for i in range(n)]


@pytest.mark.parametrize("strategy", ALL, ids=IDS)
def test_permuting_the_candidates_permutes_the_ranking_and_nothing_else(
    judge: Judge, strategy: Strategy
) -> None:
    completions = group(9)
    shuffled = completions.copy()
    random.Random(1).shuffle(shuffled)
    one, other = rank(judge, ["Q", "Q"], [completions, shuffled], strategy=strategy)
    assert [completions[c.index] for c in one.candidates] == [shuffled[c.index] for c in other.candidates]
    for a, b in zip(one.candidates, other.candidates, strict=True):
        assert (a.reward, a.low, a.high, a.best_prob) == (b.reward, b.low, b.high, b.best_prob)
    assert one.n_calls == other.n_calls
    assert {completions[i] for i in one.tied_best} == {shuffled[i] for i in other.tied_best}


@pytest.mark.parametrize("strategy", ALL, ids=IDS)
def test_groups_of_unequal_size_down_to_one(judge: Judge, strategy: Strategy) -> None:
    groups = [group(n, seed=n) for n in (1, 2, 3, 7)]
    rankings = rank(judge, ["Q"] * 4, groups, strategy=strategy)
    for completions, ranking in zip(groups, rankings, strict=True):
        assert sorted(c.index for c in ranking.candidates) == list(range(len(completions)))
        if len(completions) > 1:
            assert ranking.best is not None
    assert [len(r.ranks) for r in rankings] == [1, 2, 3, 7]


@pytest.mark.parametrize("strategy", ALL, ids=IDS)
def test_without_noise_the_best_wins(strategy: Strategy) -> None:
    completions = [f"quality {q}" for q in (3, 9, 4.5, 6, 1.5, 7.5)]
    with Judge.load("mini", engine=noisy_engine(noise=0.0), mode="direct") as judge:
        (ranking,) = rank(judge, ["Q"], [completions], strategy=strategy)
    if strategy.name not in ("ring", "swiss"):
        assert ranking.best == 1
    assert ranking.n_calls == sum(len(j.samples) for j in ranking.judgments)


@pytest.mark.parametrize(
    ("name", "calls"),
    [("pointwise", 8), ("all_pairs", 56), ("ring", 16), ("knockout", 14), ("swiss", 24)],
)
def test_calls(judge: Judge, engine: ScriptedEngine, name: str, calls: int) -> None:
    (ranking,) = rank(judge, ["Q"], [group(8)], strategy=choose_strategy(name))
    assert ranking.n_calls == calls == engine.n_inputs


def test_a_budget_is_kept_and_all_groups_of_a_round_go_in_one_batch(
    judge: Judge, engine: ScriptedEngine
) -> None:
    rankings = rank(judge, ["Q", "R", "S"], [group(16, s) for s in range(3)], strategy=Budgeted(calls=40))
    assert [r.n_calls for r in rankings] == [40, 40, 40]
    assert len(engine.calls[0]) == 48
    assert len(engine.calls) <= 7
    (default,) = rank(judge, ["Q"], [group(32)], strategy=Budgeted())
    assert default.n_calls == 124


def test_the_default_budget_leaves_comparisons_whatever_a_rating_costs() -> None:
    """A rating by five criteria is five calls: the ratings alone spent the budget, and nothing was compared."""

    def read(item: JudgeInput) -> dict[str, float]:
        assert item.readout is not None
        choices, n = item.readout.continuations, len(rendered_text(item))
        return {choices[0]: 0.4 + n % 7 / 50, choices[-1]: 0.4}

    judge = Judge.load("general", engine=ScriptedEngine(read=read), mode="direct")
    five = Rubric(criteria=tuple(Criterion(text=f"Is it {n}?") for n in range(5)))
    completions = [f"answer {'x' * n}" for n in range(8)]
    for rubric, calls in ((None, 8 + 4), (five, 40 + 4)):
        (ranking,) = rank(judge, ["Q"], [completions], strategy=Budgeted(), rubrics=[rubric])
        assert (ranking.n_calls, len(ranking.comparisons)) == (calls, 2)


def test_a_token_budget_is_kept(judge: Judge) -> None:
    """Each input is 100 tokens: 12 ratings leave room for four comparisons in both orders."""
    (ranking,) = rank(judge, ["Q"], [group(12)], strategy=Budgeted(tokens=2_100))
    assert ranking.usage.prompt_tokens <= 2_100
    assert 2 <= len(ranking.comparisons) <= 4


def test_confidence_stops_when_it_is_sure() -> None:
    clear = ["quality 9.5", *(f"quality {q}" for q in (1.0, 1.1, 1.2, 1.3, 1.4))]
    close = [f"quality {q}" for q in (5.0, 5.02, 5.04, 5.06, 5.08, 5.1)]
    with Judge.load("mini", engine=noisy_engine(noise=0.0), mode="direct") as judge:
        sure, open_ = rank(judge, ["Q", "Q"], [clear, close], strategy=Budgeted(confidence=0.9))
    assert sure.candidates[0].best_prob is not None
    assert sure.candidates[0].best_prob >= 0.9
    assert sure.n_calls < open_.n_calls == 6 + 30


def test_copies_are_judged_once_and_share_their_place(judge: Judge, engine: ScriptedEngine) -> None:
    completions = ["quality 4", "quality 8", "quality 4", "quality 8"]
    (ranking,) = rank(judge, ["Q"], [completions], strategy=choose_strategy("all_pairs"))
    assert engine.n_inputs == 2
    assert [c.index for c in ranking.candidates] == [1, 3, 0, 2]
    assert ranking.tied_best == (1, 3)
    assert ranking.rewards[1] == ranking.rewards[3]


@pytest.mark.parametrize("strategy", ALL, ids=IDS)
def test_a_failed_completion_is_ranked_last_without_a_reward(judge: Judge, strategy: Strategy) -> None:
    """Wherever the lot puts it: in a knockout it once took along who met it first."""
    completions = [*group(5), "unreadable quality 10"]
    prompts = [f"Q{n}" for n in range(20)]
    for ranking in rank(judge, prompts, [completions] * len(prompts), strategy=strategy):
        assert ranking.candidates[-1].index == 5
        assert [c.reward is None for c in ranking.candidates] == [False] * 5 + [True]
        assert ranking.ranks[5] is None
        failure = ranking.failure(5)
        assert failure is not None
        assert failure.detail == "refused"
    assert best_of_n(judge, ["Q"], [completions], n_best=9, strategy=strategy)[0].count(completions[5]) == 0


@pytest.mark.parametrize("strategy", ALL, ids=IDS)
def test_a_group_without_any_verdict_has_no_best(judge: Judge, strategy: Strategy) -> None:
    (ranking,) = rank(judge, ["Q"], [["unreadable a", "unreadable b"]], strategy=strategy)
    assert ranking.best is None
    assert ranking.tied_best == ()
    assert best_of_n(judge, ["Q"], [["unreadable a", "unreadable b"]], strategy=strategy) == [[]]


@pytest.mark.parametrize("strategy", [Knockout(), AllPairs(), Swiss(), Ring(), Budgeted(), Pointwise()])
def test_one_distinct_completion_is_the_best_of_its_group(judge: Judge, strategy: Strategy) -> None:
    """Tournaments compare nothing there, and lost the group."""
    assert best_of_n(judge, ["Q", "Q"], [["7"], ["42", "42"]], strategy=strategy) == [["7"], ["42"]]
    (ranking,) = rank(judge, ["Q"], [["42", "42"]], strategy=strategy)
    assert None not in ranking.rewards
    assert ranking.tied_best == (0, 1)


@pytest.mark.parametrize("strategy", [Knockout(), AllPairs(), Budgeted(), Pointwise()])
def test_a_copy_has_the_failure_of_the_completion_that_was_judged(strategy: Strategy) -> None:
    down = Failure(reason=FailureReason.ENGINE, detail="down")
    judge = Judge.load("mini", engine=ScriptedEngine(read=down), mode="direct")
    (ranking,) = rank(judge, ["Q"], [["x", "x", "y"]], strategy=strategy)
    assert [ranking.failure(i) for i in range(3)] == [down] * 3
    assert all(entry["failure"]["detail"] == "down" for entry in ranking.to_dict()["ranking"])


def test_intervals_hold_the_reward(judge: Judge) -> None:
    for name in ("pointwise", "all_pairs", "budgeted"):
        (ranking,) = rank(judge, ["Q"], [group(8)], strategy=choose_strategy(name))
        for c in ranking.candidates:
            assert c.low is not None
            assert c.high is not None
            assert c.reward is not None
            assert c.low <= c.reward <= c.high


def test_rewards_within_the_resolution_tie_whatever_their_index(judge: Judge) -> None:
    judged = judge.rate(["Q"] * 3, ["quality 5", "quality 5.00001", "quality 8"])
    texts = ["one", "two", "three"]
    engine_free = rank_judged("Q", texts, judged, resolution=10.0)
    assert engine_free.tied_best == (0, 1, 2)
    turned = rank_judged("Q", texts[::-1], judged[::-1], resolution=10.0)
    assert [texts[c.index] for c in engine_free.candidates] == [
        texts[::-1][c.index] for c in turned.candidates
    ]


def test_blocks_of_ties_are_led_by_their_best() -> None:
    rewards = np.array([1.0, 0.95, 0.91, np.nan, 0.5])
    nothing = np.full(5, np.nan)
    standing = Standing(rewards, nothing, nothing, np.zeros(5, dtype=np.int64))
    assert order(standing, 0.06) == [[0, 1], [2], [4]]
    tiers = Standing(rewards, nothing, nothing, np.array([0, 0, 1, 0, 1]))
    assert order(tiers, 0.06) == [[2], [4], [0, 1]]


class Circle:
    """A referee for whom 0 beats 1 beats 2 beats 0, and all beat 3."""

    calls_per_comparison = 2

    def answer(self, asked: list[tuple[int, Round]]) -> list[Answers]:
        wins = {(0, 1): 0.9, (1, 2): 0.9, (0, 2): 0.1, (0, 3): 0.9, (1, 3): 0.9, (2, 3): 0.9}
        return [
            Answers(
                tuple(Rated(5.0, 5.0) for _ in wanted.rate),
                tuple(Compared(wins[p], 0.0) for p in wanted.compare),
            )
            for _, wanted in asked
        ]


def test_swiss_pairs_equal_scores_and_no_pair_twice() -> None:
    (evidence,) = run_strategy(Swiss(n_rounds=3), [(4, 7)], Circle())
    assert len(evidence.comparisons) == 6


def test_a_pair_is_asked_once_however_often_a_strategy_wants_it() -> None:
    evidence = Evidence(n=3, seed=0)
    evidence.add(Round(compare=((0, 1),)), Answers(comparisons=(Compared(None),)))
    assert evidence.new(Round(compare=((1, 0), (0, 2), (2, 0)))) == Round(compare=((0, 2),))
    assert evidence.win_prob(0, 1) is None


@pytest.mark.parametrize("n", [2, 3, 5, 6, 7, 8])
def test_a_knockout_asks_for_each_but_the_winner(n: int) -> None:
    class Larger:
        calls_per_comparison = 2

        def answer(self, asked: list[tuple[int, Round]]) -> list[Answers]:
            return [
                Answers(comparisons=tuple(Compared(float(i > j)) for i, j in w.compare)) for _, w in asked
            ]

    (evidence,) = run_strategy(Knockout(), [(n, 3)], Larger())
    assert len(evidence.comparisons) == n - 1
    standing = Knockout().standing(evidence)
    assert order(standing, 0.0)[0] == [n - 1]


@pytest.mark.parametrize(
    ("name", "budget", "expected"),
    [
        ("all-pairs", None, "all_pairs"),
        ("budgeted", "124", "budgeted"),
        ("budgeted", "tokens=5000, confidence=0.9", "budgeted"),
        ("greedy", None, "greedy"),
    ],
)
def test_strategies_by_name(name: str, budget: str | None, expected: str) -> None:
    assert choose_strategy(name, budget).name == expected


@pytest.mark.parametrize(
    ("name", "budget", "message"),
    [
        ("bubble", None, "no strategy 'bubble'"),
        ("swiss", "10", "is for the strategy budgeted"),
        ("budgeted", "many", "cannot be read at 'many'"),
        ("budgeted", "calls=1,steps=3", "cannot be read at 'steps=3'"),
        ("budgeted", "confidence=1.5", "not in"),
        ("budgeted", "0", "not at least 1"),
    ],
)
def test_unknown_strategies_and_budgets_are_refused(name: str, budget: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_strategy(name, budget)


def test_a_judge_that_cannot_compare_is_refused_before_it_is_asked(engine: ScriptedEngine) -> None:
    from dataclasses import replace

    with Judge.load("mini", engine=engine, mode="direct") as judge:
        rater = Judge(replace(judge.spec, comparison=None), judge.settings, engine)
        with pytest.raises(ConfigError, match="needs comparisons"):
            rank(rater, ["Q"], [group(3)], strategy=choose_strategy("ring"))
    assert engine.n_inputs == 0


def test_greedy_ratings_tie_where_expected_ones_do_not(judge: Judge) -> None:
    completions = [f"quality {q}" for q in (6.0, 6.1, 6.2, 2.0)]
    greedy, expected = (
        rank(judge, ["Q"], [completions], strategy=Pointwise(reading=r), resolution=1e-4)[0]
        for r in ("greedy", "expected")
    )
    assert len(greedy.tied_best) >= len(expected.tied_best) == 1
