# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from autoj_reward import Judge
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.evaluate.batch_orders import check_batch_orders
from autoj_reward.evaluate.gold import READERS, GoldGroup, read_selection
from autoj_reward.evaluate.selection import contenders_of, evaluate_selection
from autoj_reward.statistics import kendall, spearman
from tests.quality import noisy_engine


def groups(n: int = 12, size: int = 8) -> list[GoldGroup]:
    rng = np.random.default_rng(0)
    made = []
    for i in range(n):
        gold = rng.uniform(2, 9, size).round(3)
        made.append(
            GoldGroup(
                prompt=f"Q{i}",
                completions=tuple(f"quality {q} of {c}" for c, q in enumerate(gold)),
                gold=tuple(gold.tolist()),
                systems=tuple(f"s{c}" for c in range(size)),
                logprobs=tuple((-gold).tolist()),
            )
        )
    return made


def test_picks_against_gold_and_against_rules() -> None:
    engine = noisy_engine(noise=0.0)
    with Judge.load("mini", engine=engine, mode="direct") as judge:
        contenders = contenders_of(judge, ["greedy", "pointwise", "knockout", "all_pairs"])
        report = evaluate_selection(
            groups(), contenders, sizes=(2, 8), pairs=[("pointwise", "greedy"), ("pointwise", "random")]
        )
    rows = {(r.n, r.name): r for r in report.rows}
    at = {
        name: rows[8, name] for name in ("pointwise", "all_pairs", "knockout", "random", "oracle", "greedy")
    }
    assert at["pointwise"].gold.value == pytest.approx(at["oracle"].gold.value, abs=0.1)
    assert at["oracle"].gain.value == pytest.approx(1.0)
    assert at["random"].gain.value == pytest.approx(0.0)
    over = at["pointwise"].over_random
    assert over.value == pytest.approx(at["pointwise"].gold.value - at["random"].gold.value)
    assert 0 < over.low < over.value < over.high
    assert (at["random"].over_random.low, at["random"].over_random.high) == (0, 0)
    assert at["pointwise"].kendall is not None
    assert at["pointwise"].kendall.value > 0.95
    assert at["greedy"].ties > at["pointwise"].ties
    assert (at["pointwise"].calls, at["knockout"].calls, at["all_pairs"].calls) == (8, 14, 56)
    assert at["pointwise"].tokens == 800
    assert rows[2, "oracle"].gold.value < at["oracle"].gold.value
    # The least probable is the best here, so the most probable is the worst.
    assert rows[8, "most probable"].gold.value < at["random"].gold.value
    assert rows[8, "best system"].gold.value > at["random"].gold.value
    # All pairs of twelve groups of eight and their ratings, each asked once for all sizes and strategies.
    assert engine.n_inputs == 12 * (8 + 56)
    above_random = next(p for p in report.paired if p["n"] == 8 and p["below"] == "random")
    assert above_random["difference"]["low"] > 0


def test_a_pick_counts_its_expected_gold_over_ties() -> None:
    """A judge that gives every completion the same rating picks at random, whatever stands first."""
    tied = [GoldGroup(prompt="Q", completions=("quality 5", "quality 5 b"), gold=(1.0, 0.0))]
    with Judge.load("mini", engine=noisy_engine(noise=0.0), mode="direct") as judge:
        report = evaluate_selection(tied, contenders_of(judge, ["pointwise"]), sizes=(2,))
    row = next(r for r in report.rows if r.name == "pointwise")
    assert row.gold.value == 0.5
    assert row.ties == 1.0


def test_groups_without_gold_or_too_small_are_counted() -> None:
    some = [*groups(2), GoldGroup(prompt="x", completions=("a", "b"))]
    with Judge.load("mini", engine=noisy_engine(), mode="direct") as judge:
        contenders = contenders_of(judge, ["pointwise"])
        assert evaluate_selection(some, contenders, sizes=(4,)).skipped == 1
        with pytest.raises(DataError, match="gold"):
            evaluate_selection(some[2:], contenders, sizes=(2,))
        with pytest.raises(ConfigError, match="at least 2"):
            evaluate_selection(some, contenders, sizes=(1,))


def test_batch_orders_of_an_engine_without_noise_of_its_own_agree() -> None:
    with Judge.load("mini", engine=noisy_engine(), mode="direct") as judge:
        check = check_batch_orders(judge, groups(3))
    assert check.kendall.value == 1.0
    assert check.largest == 0.0
    assert check.greedy_ties > check.expected_ties


def test_correlations_by_hand() -> None:
    a, b = np.array([1.0, 2.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0, 4.0])
    assert kendall(a, b) == pytest.approx(5 / np.sqrt(5 * 6))
    assert spearman(a, b) == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert np.isnan(kendall(a, np.ones(4)))
    assert spearman(a, -a) == pytest.approx(-1.0)


def test_the_selection_format(tmp_path: Path) -> None:
    path = tmp_path / "selection.jsonl"
    outputs = {"one": {"outputs": ["a", "b"], "gold": [0, 1]}, "two": {"outputs": ["c"]}}
    path.write_text(json.dumps({"scenario": "s", "prompt": "Q", "outputs": outputs}) + "\n")
    one, two = read_selection(path)
    assert (one.completions, one.gold) == (("a", "b"), (0.0, 1.0))
    assert two.gold is None
    outputs["one"]["gold"] = [1]
    path.write_text(json.dumps({"prompt": "Q", "outputs": outputs}) + "\n")
    with pytest.raises(DataError, match="a list of 2"):
        list(read_selection(path))


@pytest.mark.parametrize(
    ("name", "n", "random", "oracle"),
    [
        ("truthfulqa", 16, 0.152, 0.719),
        ("summeval", 16, 4.131, 4.846),
        ("gsm8k", 4, 0.379, 0.673),
        ("humaneval", 32, 0.22, 0.659),
        ("alpacaeval", 32, 0.075, 0.363),
    ],
)
def test_sets_have_the_baselines_that_are_known_of_them(
    data: Path, name: str, n: int, random: float, oracle: float
) -> None:
    """Published sizes of the sets, recounted from the files through our readers."""
    read = [g for g in READERS[name](data) if g.gold is not None and len(g.gold) >= 2]
    full = [g.gold for g in read if g.gold is not None]
    assert np.mean([np.mean(g) for g in full]) == pytest.approx(random, abs=0.012)
    best = np.mean([max(g) for g in full])
    if name != "truthfulqa":
        assert best == pytest.approx(oracle, abs=0.012)
    assert max(len(g) for g in full) >= min(n, 13)


def test_plots_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: the extra `report`")
    from autoj_reward.evaluate.plots import plot_selection

    with Judge.load("mini", engine=noisy_engine(), mode="direct") as judge:
        report = evaluate_selection(groups(4), contenders_of(judge, ["pointwise", "ring"]), sizes=(2, 4))
    for path in plot_selection(report, tmp_path / "plots", title="a set"):
        assert path.read_bytes().startswith(b"\x89PNG")
