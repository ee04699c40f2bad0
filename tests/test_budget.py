# SPDX-License-Identifier: Apache-2.0
"""A budget in tokens, seconds and money: what counts, when it ends, and what is kept."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoj_reward import Judge, Panel
from autoj_reward.budget import Budget, Spending
from autoj_reward.errors import BudgetSpent, ConfigError
from autoj_reward.judge.presets import load_spec
from autoj_reward.reward.reward import BatchReward
from autoj_reward.testing import ScriptedEngine, make_reading
from autoj_reward.types import JudgeInput, JudgeOutput, Price, Usage

USAGE = Usage(prompt_tokens=100, cached_tokens=40, completion_tokens=10, n_requests=1)


def read(item: JudgeInput) -> JudgeOutput:
    return replace(make_reading(item, {"7": 1.0, "Response 1": 1.0}), usage=USAGE)


def judge(price: Price | None = None, **options: Any) -> Judge:
    """A judge that spends 110 tokens on everything."""
    spec = replace(load_spec("mini"), price=price)
    return Judge.load(spec, engine=ScriptedEngine(read=read), mode="direct", **options)


@pytest.mark.parametrize(
    ("price", "cost"),
    [(Price(input=1.0, output=10.0), 200.0), (Price(input=1.0, output=10.0, cached_input=0.5), 180.0)],
)
def test_prices_are_per_million_tokens(price: Price, cost: float) -> None:
    assert price.of(USAGE) * 1e6 == pytest.approx(cost)


def test_what_judgments_cost_is_counted_and_the_limit_ends_it() -> None:
    with judge(Price(input=1.0, output=10.0)) as own:
        spending = Spending(own, Budget(tokens=300, cost=1.0))
        for n in range(3):
            spending.check("so far")
            spending.add(own.rate(["p"], [f"c{n}"]))
        assert spending.tokens == 330
        assert spending.cost == pytest.approx(600e-6)
        assert spending.used_share == pytest.approx(1.1)
        assert spending.left() == "0 of 300 tokens left, 0.9994 of 1 cost left"
        with pytest.raises(BudgetSpent, match=r"330 of 300 tokens; 3 rows are judged") as caught:
            spending.check("3 rows are judged")
        assert "continues" in str(caught.value)


def test_what_is_spent_goes_along_with_a_pickled_budget(tmp_path: Path) -> None:
    """The engine of a copy counts from 0, and what the first had counted before was taken off."""
    with judge(cache=tmp_path / "cache.sqlite") as own:
        own.rate(["p"], ["before the budget"])
        spending = Spending(own, Budget(tokens=300))
        own.rate(["p"] * 2, ["a", "b"])
        assert spending.tokens == 220
        copy = pickle.loads(pickle.dumps(spending))
        again = pickle.loads(pickle.dumps(copy))
        assert [copy.tokens, again.tokens] == [220, 220]
        assert 0 <= again.seconds < spending.seconds + 60
        again._judges[""].rate(["p"], ["c"])
        assert (again.tokens, spending.tokens) == (330, 220)
        with pytest.raises(BudgetSpent, match="330 of 300"):
            again.check()


def test_answers_from_the_cache_cost_nothing(tmp_path: Path) -> None:
    with judge(cache=tmp_path / "cache.sqlite") as own:
        spending = Spending(own, Budget(tokens=1000))
        for _ in range(3):
            spending.add(own.rate(["p"], ["c"]))
        assert spending.tokens == 110


def test_a_panel_is_priced_by_its_members() -> None:
    panel = Panel([judge(Price(input=1.0, output=10.0)), judge(Price(input=2.0, output=0.0))])
    spending = Spending(panel, Budget(cost=1.0))
    spending.add(panel.rate(["p"], ["c"]))
    assert spending.tokens == 220
    assert spending.cost == pytest.approx(400e-6)
    with pytest.raises(ConfigError, match="has no prices"):
        Spending(Panel([judge(Price(input=1.0, output=1.0)), judge()]), Budget(cost=1.0))


def test_seconds_count_from_the_start_without_waiting() -> None:
    with pytest.raises(BudgetSpent, match="seconds"):
        Spending(judge(), Budget(seconds=1e-9)).check()
    Spending(judge(), Budget(seconds=3600)).check()


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"seconds": -1.0}, {"cost": float("inf")}])
def test_a_limit_is_above_0(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="not above 0"):
        Budget(**wrong)


def test_a_reward_stops_before_the_batch_and_reports_its_share() -> None:
    reward = BatchReward(judge(), budget=Budget(tokens=200))
    _, report = reward.score_batch(["p"], ["a"])
    assert report.metrics["budget_used_share"] == pytest.approx(0.55)
    copy = pickle.loads(pickle.dumps(BatchReward(Judge.load("mini"), budget=Budget(tokens=200))))
    assert copy._spending.budget.tokens == 200
    reward.score_batch(["p"], ["b"])
    with pytest.raises(BudgetSpent, match="220 of 200 tokens"):
        reward.score_batch(["p"], ["c"])
