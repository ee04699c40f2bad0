# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from autoj_reward.cli.app import app
from autoj_reward.errors import DataError
from autoj_reward.evaluate.coherence import Compared, evaluate_coherence, read_compared
from tests.cli.conftest import write_rows


def compared(*rows: tuple[str, str, str | None]) -> list[Compared]:
    return [Compared(prompt="p", first=a, second=b, preference=p) for a, b, p in rows]  # type: ignore[arg-type]


TRIPLES = [
    ("in order", "first", "first", "second", (0, 0, 0)),
    ("a circle", "first", "first", "first", (1, 0, 1)),
    ("a circle the other way", "second", "second", "second", (1, 0, 1)),
    ("all level", "tie", "tie", "tie", (0, 0, 0)),
    ("two ties and a winner", "tie", "tie", "first", (0, 1, 1)),
    ("level, then a circle", "tie", "first", "first", (0, 0, 1)),
    ("two level below one", "first", "tie", "second", (0, 0, 0)),
]


@pytest.mark.parametrize(("ab", "bc", "ca", "found"), [t[1:] for t in TRIPLES], ids=[t[0] for t in TRIPLES])
def test_triples(ab: str, bc: str, ca: str, found: tuple[int, int, int]) -> None:
    report = evaluate_coherence(compared(("a", "b", ab), ("b", "c", bc), ("c", "a", ca)))
    assert (report.cycle.value, report.broken_tie.value, report.intransitive.value) == found
    assert report.intransitive.n == 1


@given(st.lists(st.integers(0, 3), min_size=3, max_size=6))
def test_comparisons_that_follow_from_grades_never_contradict_each_other(grades: list[int]) -> None:
    names = [f"c{i}" for i in range(len(grades))]
    rows = [
        (
            names[i],
            names[j],
            "tie" if grades[i] == grades[j] else "first" if grades[i] > grades[j] else "second",
        )
        for i, j in combinations(range(len(grades)), 2)
    ]
    ratings = {("p", name): float(grade) for name, grade in zip(names, grades, strict=True)}
    report = evaluate_coherence(compared(*rows), ratings)
    assert report.intransitive.value == 0.0
    assert report.conflict.value == report.opposed.value == 0.0


def test_ratings_and_comparisons_that_differ() -> None:
    ratings = {("p", "a"): 5.0, ("p", "b"): 5.2, ("p", "c"): 7.0}
    rows = compared(("a", "b", "first"), ("a", "c", "second"), ("b", "c", "tie"), ("a", "d", "first"))
    exact = evaluate_coherence(rows, ratings)
    assert (exact.conflict.n, exact.conflict.value, exact.opposed.value) == (
        3,
        pytest.approx(2 / 3),
        pytest.approx(1 / 3),
    )
    loose = evaluate_coherence(rows, ratings, margin=0.5)
    assert loose.opposed.value == 0.0


def test_unreadable_comparisons_are_left_out_and_counted() -> None:
    report = evaluate_coherence(compared(("a", "b", None), ("b", "c", "first"), ("c", "a", "first")))
    assert (report.n_unreadable, report.intransitive.n) == (1, 0)
    with pytest.raises(DataError, match="no comparisons"):
        evaluate_coherence([])


def test_the_command_reads_what_compare_and_rate_write(tmp_path: Path) -> None:
    pairs = [("a", "b", "first"), ("b", "c", "first"), ("a", "c", "second")]
    rows = [{"prompt": "p", "first": a, "second": b, "preference": w} for a, b, w in pairs]
    comparisons = write_rows(tmp_path / "c.jsonl", rows)
    ratings = [
        {"prompt": "p", "completion": c, "expected_rating": r}
        for c, r in (("a", 8.0), ("b", 4.0), ("c", None))
    ]
    arguments = ["evaluate", "coherence", "--comparisons", str(comparisons)]
    arguments += ["--ratings", str(write_rows(tmp_path / "r.jsonl", ratings))]
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    report = json.loads(done.stdout)
    assert report["cycle"]["percent"] == 100.0
    assert (report["conflict"]["percent"], report["conflict"]["n"]) == (0.0, 1)
    assert "circles of three" in CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    with pytest.raises(DataError, match=r"x.jsonl:1: field 'preference'"):
        read_compared(str(write_rows(tmp_path / "x.jsonl", [{"prompt": "p", "first": "a", "second": "b"}])))


def test_of_several_comparisons_of_a_pair_the_last_one_counts() -> None:
    ratings = {("p", "a"): 9.0, ("p", "b"): 2.0}
    twice = [
        Compared(prompt="p", first="a", second="b", preference="first"),
        Compared(prompt="p", first="b", second="a", preference="first"),
    ]
    report = evaluate_coherence(twice, ratings)
    assert (report.conflict.n, report.conflict.value) == (1, 1.0)
