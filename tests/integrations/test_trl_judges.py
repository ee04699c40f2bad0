# SPDX-License-Identifier: Apache-2.0
"""Code written for TRL's judges gets the same results, without their bugs."""

from __future__ import annotations

import math
from typing import Any

import pytest

from autoj_reward import ConfigError, Judge
from autoj_reward.integrations.trl_judges import PairwiseJudge, RankJudge
from tests.quality import QualityEngine, win_prob


def judge(**options: Any) -> Judge:
    return Judge.load("mini", mode="direct", engine=QualityEngine(), **options)


PROMPTS = ["A", "B", "C"]
PAIRS = [["q=3", "q=7"], ["q=7", "q=3"], ["q=5", "mumble"]]


@pytest.mark.parametrize("both_orders", [True, False])
@pytest.mark.parametrize("shuffle_order", [True, False])
def test_pairs(both_orders: bool, shuffle_order: bool) -> None:
    pairwise = PairwiseJudge(judge(both_orders=both_orders))
    # A shuffled failure was once 1 - (-1) = 2.
    assert pairwise.judge(PROMPTS, PAIRS, shuffle_order) == [1, 0, -1]
    scores = pairwise.judge(PROMPTS, PAIRS, shuffle_order, return_scores=True)
    assert scores[:2] == pytest.approx([win_prob(3, 7), win_prob(7, 3)])
    assert math.isnan(scores[2])


def test_one_order_is_shuffled_by_the_texts() -> None:
    shown = []
    for shuffle in (True, False):
        engine = QualityEngine()
        one_order = PairwiseJudge(Judge.load("mini", mode="direct", engine=engine, both_orders=False))
        one_order.judge([str(n) for n in range(40)], [["q=3", "q=7"]] * 40, shuffle_order=shuffle)
        shown.append(sum(texts[1] == "q=3" for texts in engine.asked))
    assert 8 < shown[0] < 32
    assert shown[1] == 40


def test_ties_are_not_always_the_first() -> None:
    pairs = [[f"q=5 {n}", f"q=5 -{n}"] for n in range(60)]
    chosen = PairwiseJudge(judge()).judge(["P"] * 60, pairs)
    assert 12 < sum(chosen) < 48


def test_ranks() -> None:
    ranks = RankJudge(judge()).judge(
        ["A", "A", "B"], [["q=3", "q=9", "q=6"], ["q=1", "q=2"], ["mumble", "q=4", "q=4.5", "q=2"]]
    )
    assert ranks == [[1, 2, 0], [1, 0], [2, 1, 3, 0]]


def test_wrong_shapes() -> None:
    with pytest.raises(ConfigError, match="completions of prompt 0 must be a list of two"):
        PairwiseJudge(judge()).judge(["A"], [["q=1"]])
    with pytest.raises(ConfigError, match="2 prompts and 1 lists"):
        PairwiseJudge(judge()).judge(["A", "B"], [["q=1", "q=2"]])
    with pytest.raises(ConfigError, match="must be a list of one or more"):
        RankJudge(judge()).judge(["A"], ["q=1"])
