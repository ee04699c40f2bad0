# SPDX-License-Identifier: Apache-2.0
"""The gap to a gold reward: its alarm rings for drifts, and as rarely as it says for noise."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from autoj_reward import Judge
from autoj_reward.errors import ConfigError
from autoj_reward.monitor.gap import GapMonitor, gap_of_log, score
from autoj_reward.monitor.gold import GoldCheck
from autoj_reward.monitor.monitor import Scored
from autoj_reward.reward.metrics import JudgedRow
from autoj_reward.reward.scale import RewardScale
from tests.quality import QualityEngine


def steps_of(gaps: Any, threshold: float = 5.0) -> list[int]:
    """The steps at which it rings for these gaps."""
    monitor = GapMonitor(threshold=threshold)
    return [n for n, gap in enumerate(gaps, start=1) if monitor.add([float(gap)], [0.0], step=n)]


def test_scores_of_normal_values_are_standard_normal() -> None:
    rng = np.random.default_rng(0)
    for n, within in ((4, 0), (12, 0), (2, 6), (5, 3)):
        # A chi-square variable is the sum of squares that other prompts of the steps give.
        drawn = [
            score(list(x[:-1]), float(x[-1]), (float(rng.chisquare(within)) if within else 0.0, within))
            for x in rng.standard_normal((3000, n))
        ]
        for p in (0.05, 0.5, 0.9, 0.975):
            share = float(np.mean(np.array(drawn) <= NormalDist().inv_cdf(p)))
            assert share == pytest.approx(p, abs=0.03), (n, p)


def test_false_alarms_are_as_rare_as_a_cusum_has_them() -> None:
    """The known average run length at a threshold of 3 is 118 steps; at 5, the default, 930."""
    rng = np.random.default_rng(1)
    n_runs, n_steps = 20, 200
    alarms = sum(len(steps_of(rng.standard_normal(n_steps), 3.0)) for _ in range(n_runs))
    expected = n_runs * n_steps / 118
    assert abs(alarms - expected) < 3 * math.sqrt(expected)


@pytest.mark.parametrize("shift", [0.0, 100.0])
@pytest.mark.parametrize("unit", [1e-3, 1.0])
def test_it_rings_for_a_rise_from_the_first_step_and_for_a_jump_on_any_scale(
    shift: float, unit: float
) -> None:
    rng = np.random.default_rng(2)
    noise = 0.05 * rng.standard_normal(40)
    rise = np.minimum(np.arange(40) / 20, 1.0) * 0.5 + noise
    jump = np.where(np.arange(40) < 20, 0.0, 0.4) + noise
    assert min(steps_of(shift + unit * rise)) <= 20
    assert 21 <= min(steps_of(shift + unit * jump)) <= 25
    assert steps_of(shift - unit * rise) == []


def prompt_steps(rng: Any, gaps: Any, threshold: float = 5.0) -> list[int]:
    """The steps at which it rings for steps of four prompts with two completions each around these gaps."""
    monitor = GapMonitor(threshold=threshold)
    rung = []
    for n, gap in enumerate(gaps, start=1):
        own = np.repeat(gap + 0.3 * rng.standard_normal(4), 2) + 0.1 * rng.standard_normal(8)
        if monitor.add(own.tolist(), [0.0] * 8, step=n, prompts=[0, 0, 1, 1, 2, 2, 3, 3]):
            rung.append(n)
    return rung


def test_with_several_prompts_a_step_it_rings_for_a_jump_at_the_third_step_and_as_rarely() -> None:
    rng = np.random.default_rng(3)
    jump = np.where(np.arange(12) < 2, 0.0, 1.5)
    assert all(3 <= min(prompt_steps(rng, jump)) <= 6 for _ in range(20))
    n_runs, n_steps = 15, 150
    alarms = sum(len(prompt_steps(rng, np.zeros(n_steps), 3.0)) for _ in range(n_runs))
    expected = n_runs * n_steps / 118
    assert abs(alarms - expected) < 3 * math.sqrt(expected)


def test_no_single_step_rings_and_constant_gaps_never_do() -> None:
    assert steps_of([0.1, 0.1, 0.1, 0.1, 9.0, 0.1, 0.1]) == []
    assert steps_of([0.1] * 50) == []


def test_rewards_without_gold_do_not_count() -> None:
    monitor = GapMonitor()
    assert monitor.add([None, 1.0, float("nan")], [0.0, None, 1.0], step=1) == []
    assert monitor.points == []
    monitor.add([1.0, 0.5, None], [0.5, 0.0, 0.0], step=2)
    (point,) = pickle.loads(pickle.dumps(monitor)).points
    assert (point.step, point.n, point.reward, point.gold, point.gap) == (2, 2, 0.75, 0.25, 0.5)
    with pytest.raises(ConfigError, match="2 rewards, 1 gold rewards"):
        monitor.add([1.0, 1.0], [1.0], step=3)
    with pytest.raises(ConfigError, match="above 0"):
        GapMonitor(threshold=0.0)


def rows(texts: list[str], **columns: Any) -> list[JudgedRow]:
    return [
        JudgedRow(
            prompt="p",
            completion=text,
            critique=None,
            raw=float(len(text)),
            reward=None,
            reason=None,
            columns={name: values[i] for name, values in columns.items()},
        )
        for i, text in enumerate(texts)
    ]


def test_an_exact_check_gets_texts_and_columns_like_a_reward(tmp_path: Path) -> None:
    def right(prompts: list[str], completions: list[str], answer: list[str], **_: Any) -> list[float]:
        return [float(c == a) for c, a in zip(completions, answer, strict=True)]

    check = GoldCheck(right, RewardScale(0.0, 10.0), n=8, threshold=5.0, path=tmp_path / "gold.jsonl")
    assert check.check(rows(["aa", "bbbb"], answer=["aa", "b"]), 3) == []
    (point,) = check.monitor.points
    assert (point.reward, point.gold) == (pytest.approx(0.3), 0.5)
    kept = [json.loads(line) for line in (tmp_path / "gold.jsonl").read_text().splitlines()]
    assert sorted((k["completion"], k["reward"], k["gold"], k["step"]) for k in kept) == [
        ("aa", 0.2, 1.0, 3),
        ("bbbb", 0.4, 0.0, 3),
    ]


def test_a_judge_as_gold_gives_ratings_from_0_to_1_and_none_for_failures(tmp_path: Path) -> None:
    judge = Judge.load("mini", engine=QualityEngine(), mode="direct")
    check = GoldCheck(judge, RewardScale(0.0, 10.0), n=8, threshold=5.0, path=tmp_path / "gold.jsonl")
    check.check(rows(["q=10", "q=1", "mumble"], answer=["x"] * 3), 1)
    kept = [json.loads(line) for line in (tmp_path / "gold.jsonl").read_text().splitlines()]
    assert {k["completion"]: k["gold"] for k in kept} == {"q=10": 1.0, "q=1": 0.0, "mumble": None}
    assert check.monitor.points[0].n == 2


def test_samples_are_of_the_stated_size_and_a_wrong_gold_is_refused(tmp_path: Path) -> None:
    scale = RewardScale(0.0, 10.0)
    asked: list[int] = []

    def gold(completions: list[str], **_: Any) -> list[float]:
        asked.append(len(completions))
        return [0.0] * (3 if asked[-1] < 3 else asked[-1])

    check = GoldCheck(gold, scale, n=4, threshold=None, path=tmp_path / "g.jsonl")
    check.check(rows([str(i) for i in range(9)]), 1)
    assert asked == [4]
    with pytest.raises(ConfigError, match="3 rewards for 2"):
        check.check(rows(["a", "b"]), 2)
    with pytest.raises(ConfigError, match="below 1"):
        GoldCheck(gold, scale, n=0, threshold=None, path="g.jsonl")


def test_a_logs_steps_are_its_points() -> None:
    items = [Scored(0.5, "a", step=s, gold=g) for s, g in ((1, 0.5), (1, 0.1), (2, 0.0), (3, None))]
    points, alarms = gap_of_log(items)
    assert [(p.step, p.n, p.gap) for p in points] == [(1, 2, pytest.approx(0.2)), (2, 1, 0.5)]
    assert alarms == []
