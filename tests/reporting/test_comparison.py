# SPDX-License-Identifier: Apache-2.0
"""Two runs on one page: rows are matched by their texts, and figures are counted again here, the slow way."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.reporting.build import build_report
from autoj_reward.reporting.parts import Report
from tests.reporting.test_report import RECORD, checked, group, rated, write


def rates(ratings: dict[str, float | None], **more: Any) -> list[dict[str, Any]]:
    return [rated(rating, prompt=prompt, **more) for prompt, rating in ratings.items()]


def compared(tmp_path: Path, a: list[dict[str, Any]], b: list[dict[str, Any]], **options: Any) -> Report:
    first, second = write(tmp_path / "a.jsonl", a, RECORD), write(tmp_path / "b.jsonl", b, RECORD)
    report = build_report(first, second, **options)
    checked(report)
    return report


def test_rows_are_matched_by_their_texts_in_any_order(tmp_path: Path) -> None:
    a = rates({"p": 2.0, "q": 5.0, "r": 9.0, "only a": 4.0}, kind="x")
    b = rates({"r": 8.0, "q": 5.5, "p": None}, kind="x")
    report = compared(tmp_path, a, b, group="kind")
    facts = report.part("overview").facts
    assert (facts["rows in both"], facts["only in a.jsonl"], facts["only in b.jsonl"]) == ("3", "1", "0")
    assert facts["without a verdict, b.jsonl"] == "1"
    assert facts["mean change of the expected rating"].startswith("-0.250 (")
    assert facts["rank correlation"] == "1.000"
    assert report.part("groups").series == {
        "a.jsonl": [pytest.approx(7.0)], "b.jsonl": [pytest.approx(6.75)],
    }  # fmt: skip
    grid = report.part("crossed")
    cells = {
        (row, column): n
        for row, counts in zip(grid.rows, grid.cells, strict=True)
        for column, n in zip(grid.columns, counts, strict=True)
        if n
    }
    assert cells == {("9", "8"): 1, ("5", "5"): 1}
    # The largest difference first, with both ratings beside the text.
    cases = report.part("differences").cases
    assert [(case.prompt, case.values["difference"]) for case in cases] == [("r", 1.0), ("q", 0.5)]
    assert cases[0].answers[0].facts == {"a.jsonl": "9", "b.jsonl": "8"}
    assert list(cases[0].answers[0].notes) == ["Critique, a.jsonl", "Critique, b.jsonl"]


def test_rows_with_equal_texts_are_matched_once_each(tmp_path: Path) -> None:
    twice = [rated(3.0), rated(4.0)]
    report = compared(tmp_path, twice, [*twice, rated(5.0)])
    facts = report.part("overview").facts
    assert (facts["rows in both"], facts["only in b.jsonl"]) == ("2", "1")
    assert facts["mean change of the expected rating"].startswith("+0.000")


def test_two_rankings(tmp_path: Path) -> None:
    gold = [0.0, 1.0, 0.5]
    report = compared(
        tmp_path,
        [group([3.0, 9.0, 5.0], gold), {**group([1.0, 2.0, 8.0], gold), "prompt": "R"}],
        [group([9.0, 3.0, 5.0], gold), {**group([1.0, 2.0, 7.0], gold), "prompt": "R"}],
        gold="gold",
    )
    assert report.part("overview").facts["same pick"].startswith("50.0%")
    curves = report.part("gold").series
    assert curves["a.jsonl"][-1] == statistics.mean([1.0, 0.5])
    assert curves["b.jsonl"][-1] == statistics.mean([0.0, 0.5])
    # A card shows the two completions that changed most, the list all of them.
    assert [a.title for a in report.part("differences").cases[0].answers] == ["Completion 2", "Completion 1"]
    assert [len(case.answers) for case in report.part("rows").cases] == [3, 3]


def pair(prompt: str, preference: str | None, gold: int) -> dict[str, Any]:
    win = {"first": 0.8, "second": 0.3, "tie": 0.5}.get(preference or "")
    return {
        "prompt": prompt, "first": "a", "second": "b", "preference": preference, "win_prob": win, "tie_prob": 0.1,
        "reward": win, "label": gold, "critique": None, "failure": None if win else {"reason": "unparsed"},
    }  # fmt: skip


def test_two_comparisons(tmp_path: Path) -> None:
    report = compared(
        tmp_path,
        [pair("p", "first", 0), pair("q", "first", 1), pair("r", "tie", 2), pair("s", None, 0)],
        [pair("p", "first", 0), pair("q", "second", 1), pair("r", "first", 2), pair("s", "first", 0)],
        gold="label",
    )
    crossed = report.part("crossed")
    assert crossed.columns == crossed.rows == ["first", "second", "tie", "no verdict"]
    assert crossed.cells == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]
    assert "alike in 33.3% of 3 pairs" in crossed.says
    agreement = report.part("agreement")
    assert agreement.series == {"a.jsonl": [0.5], "b.jsonl": [0.75]}
    assert "2 pairs only b.jsonl has right, 1 only a.jsonl" in agreement.says
    assert [case.kinds for case in report.part("rows").cases] == [
        [], ["disagree"], ["disagree"], ["failed", "disagree"],
    ]  # fmt: skip


def test_two_measurements_have_their_bars_side_by_side(tmp_path: Path) -> None:
    for name, percent in (("e", 50.0), ("f", 60.0)):
        score = {"percent": percent, "low": percent - 2, "high": percent + 2, "n": 10}
        record = {"overall": {"agreement": score}, "groups": {name: {"agreement": score}}}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    part = build_report(str(tmp_path / "e.json"), str(tmp_path / "f.json")).part("agreement")
    assert part.labels == ["Overall", "e", "f"]
    assert part.series == {"e.json": [50.0, 50.0, None], "f.json": [60.0, None, 60.0]}
    assert part.low["f.json"] == [58.0, None, 58.0]


def test_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    rate = write(tmp_path / "a.jsonl", [rated(3.0)])
    (tmp_path / "sub").mkdir()
    same = write(tmp_path / "sub" / "a.jsonl", [rated(3.0)])
    assert f"only in {same}" in build_report(rate, same).part("overview").facts
    with pytest.raises(ConfigError, match="with itself"):
        build_report(rate, rate)
    with pytest.raises(DataError, match="cannot be compared with one of rate"):
        build_report(rate, write(tmp_path / "c.jsonl", [pair("p", "first", 0)]))
    with pytest.raises(DataError, match="no row with the same prompt"):
        build_report(rate, write(tmp_path / "d.jsonl", [rated(3.0, prompt="another")]))
    with pytest.raises(ConfigError, match="cannot be compared"):
        build_report(rate, str(tmp_path / "x.json"))
    label = [{"prompt": "Q", "chosen": "a", "rejected": "b", "margin": 1.0}]
    two = write(tmp_path / "l.jsonl", label), write(tmp_path / "m.jsonl", label)
    with pytest.raises(DataError, match="of label"):
        build_report(*two)


def test_groups_without_a_verdict_are_no_equal_picks(tmp_path: Path) -> None:
    """The first of eight failed rankings counted as a pick, the same in both runs."""
    failed = [{**group([None] * 3, [0.0] * 3), "prompt": f"F{n}"} for n in range(8)]
    a = [*failed, {**group([3.0, 9.0, 5.0], [0.0] * 3), "prompt": "P"}]
    b = [*failed, {**group([9.0, 3.0, 5.0], [0.0] * 3), "prompt": "P"}]
    assert compared(tmp_path, a, b).part("overview").facts["same pick"].endswith("of 1 prompts")
    assert "same pick" not in compared(tmp_path, failed, failed).part("overview").facts
