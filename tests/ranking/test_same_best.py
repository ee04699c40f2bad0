# SPDX-License-Identifier: Apache-2.0
"""Every command chooses the same best completion, equal texts tie, and a budget includes comparisons."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest

from autoj_reward import Judge, best_of_n, rank
from autoj_reward.autoj.pairs import read_decisions
from autoj_reward.ranking.budgeted import Budgeted
from autoj_reward.ranking.label import label, label_compared
from autoj_reward.ranking.pair_rules import LabelSettings
from autoj_reward.ranking.registry import STRATEGY_NAMES, choose_strategy
from autoj_reward.rescore.cache import with_aggregation
from autoj_reward.types import Request
from tests.quality import noisy_engine


def groups(n_groups: int, n: int) -> list[list[str]]:
    rng = random.Random(3)
    return [[f"quality {rng.uniform(4, 6):.3f}, {i}" for i in range(n)] for _ in range(n_groups)]


@pytest.mark.parametrize("policy", ["best_worst", "best_random"])
@pytest.mark.parametrize("name", STRATEGY_NAMES)
def test_label_chooses_the_completion_that_rank_puts_first(name: str, policy: str) -> None:
    """A knockout's first is by rounds; label once took the one with the highest fitted reward."""
    made = groups(40, 8)
    prompts = [f"Q{i}" for i in range(len(made))]
    with Judge.load("mini", engine=noisy_engine(noise=1.5), mode="direct") as judge:
        strategy = choose_strategy(name)
        rankings = rank(judge, prompts, made, strategy=strategy)
        kept = LabelSettings(orders_agree=False, pairs=policy)  # type: ignore[arg-type]
        labelled = label(judge, prompts, made, strategy=strategy, settings=kept)
    chosen = [done.pairs[0].chosen if done.pairs else None for done in labelled]
    assert sum(c is not None for c in chosen) >= 20
    assert [c for c in chosen if c is not None] == [
        r.best for r, c in zip(rankings, chosen, strict=True) if c is not None
    ]
    if name == "knockout":
        # Some of them are not those with the highest reward, or this would show nothing.
        assert any(r.best != max(range(8), key=lambda i: r.rewards[i] or 0.0) for r in rankings)
        assert all(pair.margin >= 0 for done in labelled for pair in done.pairs)


@pytest.mark.parametrize("guard", [None, True], ids=["plain", "guarded"])
@pytest.mark.parametrize("both_orders", [True, False])
def test_equal_texts_tie_and_no_judge_is_asked(guard: bool | None, both_orders: bool) -> None:
    """The judge prefers the first slot: "Paris." against itself was decided, and flipped."""
    engine = noisy_engine()
    with Judge.load("mini", engine=engine, mode="direct", guard=guard, both_orders=both_orders) as judge:
        message = [{"role": "assistant", "content": "Paris."}]
        same, laid_out, different = judge.compare(
            ["Where?"] * 3, ["Paris.", "Paris.", "quality 5"], ["Paris.", message, "quality 7"]
        )
        assert engine.n_inputs == (2 if both_orders else 1)
        mixed = judge.judge_requests(
            [Request(prompt="Q", completions=("a", "a")), Request(prompt="Q", completions=("a",))]
        )
    for judgment in (same, laid_out, mixed[0]):
        assert judgment.distribution is not None
        assert (judgment.distribution.win_prob, judgment.distribution.tie_prob) == (0.5, 1.0)
        assert judgment.distribution.mode == "tie"
        assert judgment.by_rule
        assert judgment.failure is None
        assert judgment.samples == ()
    assert (same.preference, same.win_prob, same.tie_prob, same.flipped) == ("tie", 0.5, 1.0, None)
    assert not different.by_rule
    assert with_aggregation(same, "vote") == same
    row = same.to_dict()
    assert (row["preference"], row["flipped"], row["failure"]) == ("tie", None, None)


def test_equal_texts_are_no_pair_of_labels() -> None:
    engine = noisy_engine()
    with Judge.load("mini", engine=engine, mode="direct") as judge:
        (done,) = label_compared(judge, [Request(prompt="Q", completions=("Paris.", "Paris."))])
    assert (done.pairs, dict(done.dropped), engine.n_inputs) == ((), {"identical": 1}, 0)


def test_a_tie_by_rule_is_a_decision_of_both_orders_in_an_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "compared.jsonl"
    path.write_text(
        '{"order_preferences": ["first", "tie"], "preference": "first", "win_prob": 0.7}\n'
        '{"order_preferences": null, "preference": "tie", "win_prob": 0.5}\n'
        '{"order_preferences": null, "preference": null, "win_prob": null}\n'
    )
    _, ruled, failed = read_decisions(path)
    assert (ruled.given, ruled.swapped, ruled.averaged) == ("tie", "tie", "tie")
    assert (failed.given, failed.swapped, failed.averaged) == (None, None, None)


@pytest.mark.parametrize("n", range(2, 17))
def test_the_default_budget_compares_in_groups_of_every_size(n: int) -> None:
    """Up to ten completions it paid for the ratings alone, and said nothing."""
    with Judge.load("mini", engine=noisy_engine(), mode="direct") as judge:
        (ranking,) = rank(judge, ["Q"], groups(1, n), strategy=Budgeted())
    assert ranking.comparisons
    assert ranking.n_calls <= max(n * (n - 1) // 8 * 2, n + 2 * max(1, n // 4))


@pytest.mark.parametrize("budget", [{"calls": 9}, {"tokens": 900}], ids=["calls", "tokens"])
def test_a_budget_that_pays_for_ratings_alone_says_so(
    budget: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    with Judge.load("mini", engine=noisy_engine(), mode="direct") as judge, caplog.at_level(logging.WARNING):
        (ranking,) = rank(judge, ["Q"], groups(1, 8), strategy=Budgeted(**budget))  # type: ignore[arg-type]
        assert not ranking.comparisons
        assert "leaves no call for comparisons" in caplog.text
        caplog.clear()
        rank(judge, ["Q"], groups(1, 8), strategy=Budgeted(calls=20))
        best_of_n(judge, ["Q"], groups(1, 8), strategy=Budgeted(confidence=0.51))
    assert "comparison" not in caplog.text
