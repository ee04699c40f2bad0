# SPDX-License-Identifier: Apache-2.0
"""One rule for what is noise: trainers round to it; rankings, labels and best of N tie within it."""

from __future__ import annotations

import pytest

from autoj_reward import Budgeted, Judge, JudgeReward, LabelSettings, Pointwise, Ring, label, rank
from autoj_reward.ranking.resolution import engine_resolution, ranking_resolution
from tests.quality import QualityEngine

GROUP = [f"q={q} is what it is worth" for q in (7.0, 7.05, 7.5, 3.0)]


@pytest.fixture(params=["float32", "bfloat16"])
def judge(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Judge:
    judge = Judge.load("mini", engine=QualityEngine(), mode="direct")
    monkeypatch.setattr(judge, "_plan", lambda *_, **__: {"dtype": request.param})
    return judge


def test_what_trainers_get_as_equal_ties_in_rankings_and_labels(judge: Judge) -> None:
    step = engine_resolution(judge, pairwise=False)
    assert (judge.dtype, step) in (("float32", 0.001), ("bfloat16", 0.1))
    assert JudgeReward(judge).scale.resolution == step
    [ranking] = rank(judge, ["Q"], [GROUP[:2]])
    assert len(ranking.tied_best) == (1 if step < 0.05 else 2)
    [whole] = rank(judge, ["Q"], [GROUP])
    assert whole.best == 2
    [made] = label(judge, ["Q"], [GROUP[:2]])
    assert (len(made.pairs), dict(made.dropped)) == ((1, {}) if step < 0.05 else (0, {"tie": 1}))
    [exact] = label(judge, ["Q"], [GROUP[:2]], settings=LabelSettings(resolution=0.0))
    assert [(p.chosen, p.rejected) for p in exact.pairs] == [(1, 0)]


def test_strategies_that_compare_tie_by_win_probability(judge: Judge) -> None:
    for strategy, pairwise in ((Pointwise(), False), (Ring(), True), (Budgeted(), True)):
        assert ranking_resolution(judge, strategy) == engine_resolution(judge, pairwise=pairwise)
