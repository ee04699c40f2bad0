# SPDX-License-Identifier: Apache-2.0
"""Criteria and members of a panel on the page: figures are counted again here from the rows."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.reporting.breakdown.heat_map import HeatMap
from autoj_reward.reporting.build import build_report
from autoj_reward.reporting.page import page
from tests.reporting.test_report import RECORD, checked, group, rated, write

FAILED = {"reason": "low_mass", "detail": "x"}


def criterion(name: str, score: float | None, weight: float = 1.0, **more: Any) -> dict[str, Any]:
    failure = FAILED if score is None else None
    return {
        "name": name, "weight": weight, "essential": False, "score": score, "mass": 0.9, "critique": None,
        "failure": failure, **more,
    }  # fmt: skip


def by_criteria(*criteria: dict[str, Any], score: float | None = 0.5, **more: Any) -> dict[str, Any]:
    rating = None if score is None else 1.0 + 9.0 * score
    return rated(rating, criteria=list(criteria), score=score, spread=0.1, **more)


def member(name: str, value: float | None, weight: float = 1.0) -> dict[str, Any]:
    failure = FAILED if value is None else None
    return {"name": name, "weight": weight, "value": value, "mass": 0.9, "judge_id": name, "failure": failure}


def by_panel(a: float | None, b: float | None, **more: Any) -> dict[str, Any]:
    known = [v for v in (a, b) if v is not None]
    agreement = 1.0 - abs(known[0] - known[1]) / 9.0 if len(known) == 2 else None
    members = [member("first judge", a), member("second judge", b, 2.0)]
    return rated(statistics.mean(known), members=members, agreement=agreement, **more)


CRITERIA = [
    by_criteria(criterion("Time", 0.9, 3.0, essential=True), criterion("Off topic", 0.1, -2.0), score=0.8),
    by_criteria(criterion("Time", 0.4, 3.0, essential=True), criterion("Off topic", None, -2.0), score=0.4),
    by_criteria(criterion("Time", None, 2.0, essential=True), criterion("Off topic", 0.7, -2.0), score=None),
    by_criteria(criterion("Clear", 0.25), criterion("Clear", 0.75), score=0.5),
    rated(5.0),
]  # fmt: skip
PANEL = [by_panel(2.0, 4.0), by_panel(9.0, 8.0), by_panel(None, 5.0), by_panel(6.0, 6.0), rated(5.0)]


def cells(part: HeatMap) -> dict[tuple[str, str], tuple[float | None, str | None]]:
    """The value and the failure of each cell by row and column."""
    return {
        (row.label, column.name): (cell.value, cell.failure)
        for row in part.rows
        for column, cell in zip(part.columns, row.cells, strict=True)
    }


def test_criteria_are_counted_from_the_rows(tmp_path: Path) -> None:
    report = build_report(write(tmp_path / "r.jsonl", CRITERIA, RECORD))
    bars, map_ = report.part("criteria"), report.part("criteria-map")
    assert bars.labels == ["Time", "Off topic (pitfall)", "Clear", "Clear (2)"]
    assert bars.series["score"] == [pytest.approx(v) for v in (0.65, 0.4, 0.25, 0.75)]
    assert bars.n == [2, 2, 1, 1]
    assert "4 judgments by 4 criteria: 8 verdicts, 2 without a score" in bars.says
    assert [(c.name, c.note, c.against) for c in map_.columns] == [
        ("score", "", False), ("Time", "weights 2 to 3, essential", False),
        ("Off topic", "pitfall, weight -2", True), ("Clear", "weight 1", False), ("Clear (2)", "weight 1", False),
    ]  # fmt: skip
    found = cells(map_)
    assert found["Line 1", "Time"] == (0.9, None)
    assert found["Line 2", "Off topic"] == found["Line 3", "Time"] == (None, "low_mass")
    assert found["Line 3", "score"] == (None, "truncated")
    assert found["Line 4", "Time"] == (None, None)
    assert found["Line 4", "Clear (2)"] == (0.75, None)
    assert map_.foot["mean"] == ["", "0.65", "0.40", "0.25", "0.75"]
    assert map_.foot["failed"] == ["", "1 of 3", "1 of 3", "0 of 1", "0 of 1"]
    checked(report)


def labelled(chosen: int, rejected: int, first: float, second: float) -> dict[str, Any]:
    """A pair of a group on line 7 of the input."""
    return {
        "prompt": "Q", "chosen": f"answer {chosen}", "rejected": [{"role": "assistant", "content": "bad"}],
        "margin": 1.0, "win_prob": 0.8, "chosen_criteria": [criterion("Time", first)], "chosen_score": first,
        "rejected_criteria": [criterion("Time", second)], "rejected_score": second,
        "source": {"line": 7, "chosen_index": chosen, "rejected_index": rejected},
    }  # fmt: skip


def test_the_criteria_of_labelled_pairs_are_counted_once_for_each_completion(tmp_path: Path) -> None:
    rows = [
        labelled(2, 0, 0.9, 0.1),
        labelled(2, 1, 0.9, 0.3),
        {"prompt": "Q", "chosen": "a", "rejected": "b"},
    ]
    rows[2] |= {"margin": 0.5, "win_prob": 0.7}
    report = build_report(write(tmp_path / "l.jsonl", rows))
    bars, map_ = report.part("criteria"), report.part("criteria-map")
    assert bars.series["score"] == [pytest.approx((0.9 + 0.1 + 0.3) / 3)]
    assert "3 judgments by 1 criteria" in bars.says
    assert [(row.label, row.line, row.text) for row in map_.rows] == [
        ("Line 1, chosen", 1, "answer 2"), ("Line 1, rejected", 1, "bad"), ("Line 2, rejected", 2, "bad"),
    ]  # fmt: skip
    assert cells(map_)["Line 2, rejected", "score"] == (0.3, None)
    checked(report)


def test_labelled_completions_have_their_criteria_in_the_map(tmp_path: Path) -> None:
    row = {
        "prompt": "Q", "completion": "A", "label": False,
        "completion_criteria": [criterion("Time", None), criterion("Rude", 0.9, -1.0)], "completion_score": 0.0,
        "source": {"line": 1, "chosen_index": 1, "rejected_index": 0},
    }  # fmt: skip
    report = build_report(write(tmp_path / "l.jsonl", [row]))
    found = cells(report.part("criteria-map"))
    assert found["Line 1, undesirable", "Time"] == (None, "low_mass")
    assert found["Line 1, undesirable", "score"] == (0.0, None)


def test_a_failed_criterion_looks_unlike_a_low_one(tmp_path: Path) -> None:
    row = by_criteria(criterion("Low", 0.0), criterion("Failed", None), criterion("Pitfall", 1.0, -1.0))
    html = page(build_report(write(tmp_path / "r.jsonl", [row])))
    assert '<td class="h" style="--v:0.00">0.00</td>' in html
    assert '<td class="failed">failed<small>low_mass</small></td>' in html
    assert '<td class="h against" style="--v:1.00">1.00</td>' in html


def test_members_are_counted_from_the_rows(tmp_path: Path) -> None:
    report = build_report(write(tmp_path / "r.jsonl", PANEL, RECORD))
    table, distances = report.part("members"), report.part("member-distances")
    named = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [(row["member"], row["weight"], row["judgments"]) for row in named] == [
        ("first judge", "1", 4), ("second judge", "2", 4),
    ]  # fmt: skip
    assert [(row["no verdict"], row["left out"]) for row in named] == [(1, 1), (0, 0)]
    assert [row["mean expected rating"] for row in named] == [pytest.approx(17 / 3), pytest.approx(23 / 4)]
    # To the panel: -1, 0.5, 0 of the first; 1, -0.5, 0, 0 of the second.
    assert [row["mean less the panel"] for row in named] == [pytest.approx(-0.5 / 3), pytest.approx(0.5 / 4)]
    assert [row["mean distance to the panel"] for row in named] == [
        pytest.approx(0.5),
        pytest.approx(1.5 / 4),
    ]
    assert "left out where the panel has one from the others: 1 of 8 verdicts" in table.says
    assert distances.labels == [
        "first judge and second judge", "first judge and the panel", "second judge and the panel",
    ]  # fmt: skip
    assert distances.series["distance"] == [pytest.approx(v) for v in (1.0, 0.5, 1.5 / 4)]
    agreements = [row["agreement"] for row in PANEL if row.get("agreement") is not None]
    assert f"mean {statistics.mean(agreements):.3f}" in report.part("panel-agreement").says
    found = cells(report.part("members-map"))
    assert found["Line 1", "panel"] == (3.0, None)
    assert found["Line 1", "second judge"] == (4.0, None)
    assert found["Line 3", "first judge"] == (None, "low_mass")
    assert found["Line 3", "agreement"] == (None, None)
    # The judgments that the members dispute, the least agreed first.
    assert [case.line for case in report.part("disputed").cases] == [1, 2]
    checked(report)


def test_a_panel_of_comparisons_has_win_probabilities(tmp_path: Path) -> None:
    row = {
        "prompt": "Q", "first": "a", "second": "b", "preference": "first", "win_prob": 0.7, "reward": 0.7,
        "members": [member("x", 0.9), member("y", 0.5)], "agreement": 0.6, "critique": None, "failure": None,
    }  # fmt: skip
    report = build_report(write(tmp_path / "c.jsonl", [row]))
    assert [c.axis for c in report.part("members-map").columns] == [None, (0.0, 1.0), (0.0, 1.0), None]
    (table,) = report.part("rows").cases[0].tables
    assert cells(table)["Comparison", "x"] == (0.9, None)


def ranked(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """A group with criteria and members in each entry of its ranking."""
    row = group([statistics.mean(pair) for pair in zip(first, second, strict=True)], [])
    for entry in row["ranking"]:
        a, b = first[entry["index"]], second[entry["index"]]
        made = by_panel(a, b) | by_criteria(criterion("Time", a / 10), score=a / 10)
        entry |= {name: made[name] for name in ("criteria", "score", "members", "agreement")}
    return row


def test_a_ranking_shows_criteria_and_members_side_by_side(tmp_path: Path) -> None:
    report = build_report(write(tmp_path / "k.jsonl", [ranked([2.0, 9.0], [4.0, 8.0])], RECORD))
    (case,) = report.part("rows").cases
    criteria, members = case.tables
    assert [row.label for row in criteria.rows] == [answer.title for answer in case.answers]
    assert cells(criteria)["1. completion 2", "Time"] == (0.9, None)
    assert cells(members)["2. completion 1", "second judge"] == (4.0, None)
    assert case.values["agreement"] == pytest.approx(1 - 2 / 9)
    assert [row.text for row in report.part("criteria-map").rows] == ["c1", "c0"]
    assert [row.label for row in report.part("criteria-map").rows] == [
        "Line 1, completion 2", "Line 1, completion 1",
    ]  # fmt: skip
    assert [len(case.tables) for case in report.part("picks").cases] == [2]


def test_criteria_of_a_panel_are_those_of_its_members(tmp_path: Path) -> None:
    row = by_panel(2.0, 4.0)
    row["members"][0] |= {"criteria": [criterion("Time", 0.2), criterion("Clear", None)], "score": 0.2}
    row["members"][1] |= {"criteria": [criterion("Time", 0.6), criterion("Clear", 1.0)], "score": 0.8}
    changed = json.loads(json.dumps(row))
    changed["members"][1]["criteria"][0]["score"] = 0.7
    first, second = write(tmp_path / "a.jsonl", [row]), write(tmp_path / "b.jsonl", [changed])
    report = build_report(first)
    assert report.part("criteria").series["score"] == [pytest.approx(0.4), 1.0]
    found = cells(report.part("criteria-map"))
    assert found["Line 1, first judge", "Clear"] == (None, "low_mass")
    assert found["Line 1, second judge", "score"] == (0.8, None)
    (case,) = report.part("rows").cases
    assert [row.label for row in case.tables[0].rows] == [
        "Completion, first judge",
        "Completion, second judge",
    ]
    assert case.kinds == ["incomplete"]
    assert build_report(first, second).part("criteria").series == {
        "a.jsonl": [pytest.approx(0.4), 1.0], "b.jsonl": [pytest.approx(0.45), 1.0],
    }  # fmt: skip
    checked(report)


def test_a_large_run_shows_a_sample_that_can_be_browsed(tmp_path: Path) -> None:
    rows = [by_criteria(criterion(f"C{n % 20}", n / 100), prompt=f"Q{n}") for n in range(100)]
    rows += [by_criteria(criterion("often", 0.5), prompt=f"R{n}") for n in range(100)]
    path = write(tmp_path / "r.jsonl", rows)
    report = build_report(path, most_rows=60)
    part = report.part("criteria-map")
    lines = [row.line for row in part.rows]
    assert lines == list(range(1, 201, 5))
    assert set(lines) <= {case.line for case in report.part("rows").cases}
    assert len(part.columns) == 13
    assert part.columns[1].name == "often"
    assert part.says.endswith("The 12 that most judgments have, of 21.")
    html = page(report)
    assert all(f'<a href="#rows-line-{line}">' in html and f'id="rows-line-{line}"' in html for line in lines)
    assert 'href="#rows-line-' not in page(build_report(path, most_rows=0))


def test_failures_are_a_kind_of_row(tmp_path: Path) -> None:
    report = build_report(write(tmp_path / "r.jsonl", [*CRITERIA, *PANEL]))
    kinds = [case.kinds for case in report.part("rows").cases]
    assert [n for n, own in enumerate(kinds, start=1) if "incomplete" in own] == [2, 3, 8]


@pytest.mark.parametrize("value", [None, "text", ["a"], [{"name": "a", "weight": 1}], {"criteria": []}, 3])
def test_an_own_field_of_the_input_is_no_judgment(tmp_path: Path, value: Any) -> None:
    report = build_report(write(tmp_path / "r.jsonl", [rated(3.0, criteria=value, members=value, score="?")]))
    assert not {"criteria", "members", "members-map"} & {part.id for part in report.parts}


def test_two_runs_compare_criteria_and_agreement(tmp_path: Path) -> None:
    a = [row | {"prompt": f"Q{n}"} for n, row in enumerate([*CRITERIA, *PANEL])]
    b = json.loads(json.dumps(a))
    b[0]["criteria"][0]["score"], b[1]["criteria"][1] = 0.1, criterion("Off topic", 0.9, -2.0)
    b[3]["criteria"] = b[3]["criteria"][:1]
    b[5]["agreement"] = 0.5
    first, second = write(tmp_path / "a.jsonl", a, RECORD), write(tmp_path / "b.jsonl", b, RECORD)
    report = build_report(first, second)
    bars = report.part("criteria")
    # Only what both read: the pitfall of the second row failed in the first run.
    assert bars.labels == ["Time", "Off topic (pitfall)", "Clear"]
    assert bars.series == {
        "a.jsonl": [pytest.approx(v) for v in (0.65, 0.4, 0.25)],
        "b.jsonl": [pytest.approx(v) for v in (0.25, 0.4, 0.25)],
    }
    assert "b.jsonl less a.jsonl is largest of Time: -0.400" in bars.says
    agreement = report.part("panel-agreement")
    known = [row["agreement"] for row in a if row.get("agreement") is not None]
    assert f"a.jsonl {statistics.mean(known):.3f}" in agreement.says
    assert f"b.jsonl less a.jsonl {(0.5 - known[0]) / 3:+.3f}" in agreement.says
    assert sum(agreement.series["a.jsonl"]) == sum(agreement.series["b.jsonl"]) == 3
    tables = {case.line: case.tables for case in report.part("rows").cases}
    assert [row.label for row in tables[1][0].rows] == ["a.jsonl", "b.jsonl"]
    assert cells(tables[1][0])["b.jsonl", "Time"] == (0.1, None)
    checked(report)
    plain = build_report(write(tmp_path / "c.jsonl", [rated(5.0)]), write(tmp_path / "d.jsonl", [rated(6.0)]))
    assert not {"criteria", "panel-agreement"} & {part.id for part in plain.parts}
