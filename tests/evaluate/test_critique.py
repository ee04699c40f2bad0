# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from autoj_reward.autoj.critiques import CritiqueCase, read_outcomes
from autoj_reward.cli.app import app
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.evaluate.critique import comparing_spec, evaluate_critiques, reference_first
from autoj_reward.judge.presets import load_spec
from tests.cli.conftest import read_rows, write_rows
from tests.hostile import hostile_text


def evaluate(*arguments: str) -> str:
    return CliRunner().invoke(app, ["evaluate", "critique", *arguments], catch_exceptions=False).stdout


def percents(shares: dict[str, dict[str, float]]) -> tuple[float, ...]:
    return tuple(shares[name]["percent"] for name in ("win", "tie", "lose"))


def test_the_published_comparison_gives_the_published_shares(data: Path) -> None:
    folder = data / "auto-j" / "data"
    arguments = ["--data", str(folder / "test" / "testdata_critique.jsonl")]
    arguments += ["--comparisons", str(folder / "outputs" / "gpt-4-Eval_auto-j_vs_chatgpt.jsonl")]
    report = json.loads(evaluate(*arguments, "--json"))
    assert percents(report["overall"]) == (73.71, 2.16, 24.14)
    assert report["overall"]["n"] == 232
    assert len(report["groups"]) == 8
    wins = sum(round(g["win"]["percent"] * g["n"] / 100) for g in report["groups"].values())
    assert wins == round(0.7371 * 232)
    # What the 232 critiques say by themselves, as published.
    critiques = report["critiques"]
    assert critiques["ratings"] == {"6": 96, "4": 58, "5": 47, "3": 15, "7": 7, "2": 7, "1": 1}
    assert critiques["n_unrated"] == 1
    assert round(critiques["tie_percent"]) == 28
    assert round(critiques["mean_words"]) == 305
    assert "73.71" in evaluate(*arguments, "--markdown")


CASES = [CritiqueCase(prompt=f"p{i}", completion=f"c{i}", group="Code") for i in range(4)]


def test_an_unreadable_comparison_is_neither_win_tie_nor_lose() -> None:
    report = evaluate_critiques(CASES, ["win", "tie", "lose", None])
    assert (report.overall.win.value, report.overall.tie.value, report.overall.lose.value) == (0.25,) * 3
    assert report.n_unreadable == 1


def test_the_longer_critique_is_a_baseline() -> None:
    report = evaluate_critiques(
        CASES,
        ["win", "lose", "win", "tie"],
        critiques=["long", "long", "s", "long"],
        references=["s", "s", "long", "s"],
    )
    assert report.longer_wins is not None
    assert (report.longer_wins.value, report.longer_wins.n) == (pytest.approx(1 / 3), 3)


OUTCOMES = [
    ("A: first", False, "win"), ("A: first", True, "lose"), ("B: second", False, "lose"),
    ("B: second", True, "win"), ("C: neither", True, "tie"), ("  A", False, "win"),
    ("Both are fine", False, None), ("", False, None), ("Able critics", False, None),
]  # fmt: skip


@pytest.mark.parametrize(("output", "exchange", "outcome"), OUTCOMES)
def test_choices_are_mapped_back(tmp_path: Path, output: str, exchange: bool, outcome: str | None) -> None:
    row = {"output": output, "meta": {"exchange": exchange}}
    assert read_outcomes(write_rows(tmp_path / "c.jsonl", [row])) == [outcome]


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"output": "A"}, "meta.exchange"),
        ({"output": "A", "meta": {"exchange": 1}}, "meta.exchange"),
        ({"meta": {"exchange": True}}, "output"),
        ({"outcome": "won"}, "outcome"),
    ],
)
def test_a_wrong_comparison_is_named(tmp_path: Path, row: dict[str, object], field: str) -> None:
    with pytest.raises(DataError, match=f"c.jsonl:1: field '{field}'"):
        read_outcomes(write_rows(tmp_path / "c.jsonl", [row]))


@given(hostile_text, hostile_text, st.integers(0, 3))
def test_the_order_follows_from_texts_and_seed(ours: str, theirs: str, seed: int) -> None:
    """A new order in each run moved the result of six equal runs by four points elsewhere."""
    case = CASES[0]
    assert reference_first(case, ours, theirs, seed=seed) == reference_first(case, ours, theirs, seed=seed)


def test_the_order_is_a_fair_coin_and_another_seed_another_one() -> None:
    drawn = [reference_first(CASES[0], f"a{i}", f"b{i}", seed=0) for i in range(1000)]
    assert 430 < sum(drawn) < 570
    assert drawn != [reference_first(CASES[0], f"a{i}", f"b{i}", seed=1) for i in range(1000)]


def test_the_comparing_judge_shows_request_answer_and_both_critiques() -> None:
    for name in ("general", "mini", "autoj-13b"):
        spec = comparing_spec(load_spec(name))
        assert spec.comparison is not None
        texts = {"prompt": "P{first}", "reference": "A", "first": "C1", "second": "C2"}
        filled = spec.comparison.template.fill(texts)
        assert [s.text for s in filled if not s.trusted] == ["P{first}", "A", "C1", "C2"]
        assert spec.fingerprint != load_spec(name).fingerprint


ANSWERS = [
    {"contains": ["[BEGIN CRITIQUE 1]\ngood"], "reading": {"Critique 1": 0.7, "Critique 2": 0.2, "Tie": 0.1}},
    {"contains": ["[BEGIN CRITIQUE 2]\ngood"], "reading": {"Critique 1": 0.2, "Critique 2": 0.6, "Tie": 0.2}},
    {"contains": ["Be a strict"], "reading": {"5": 1.0}},
    {"contains": [], "text": "good critique. Rating: [[6]]"},
]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    rows = [{"scenario": "chitchat", "prompt": f"p{i}", "response": f"r{i}"} for i in range(12)]
    return {
        "data": str(write_rows(tmp_path / "data.jsonl", rows)),
        "good": str(write_rows(tmp_path / "good.jsonl", [{"output": f"good {i}"} for i in range(12)])),
        "poor": str(write_rows(tmp_path / "poor.jsonl", [{"output": f"poor {i}"} for i in range(12)])),
        "engine": f"recorded:{write_rows(tmp_path / 'answers.jsonl', ANSWERS)}",
    }


def test_a_judge_compares_critiques_in_an_order_of_their_own(tmp_path: Path, files: dict[str, str]) -> None:
    out = tmp_path / "out.jsonl"
    arguments = [
        "--data",
        files["data"],
        "--judge",
        "general",
        "--mode",
        "direct",
        "--engine",
        files["engine"],
    ]
    better = json.loads(
        evaluate(
            *arguments, "--critiques", files["good"], "--reference", files["poor"], "--json", "-o", str(out)
        )
    )
    assert percents(better["overall"]) == (100.0, 0.0, 0.0)
    assert len({row["reference_first"] for row in read_rows(out)}) == 2  # both orders occur
    worse = json.loads(
        evaluate(
            *arguments, "--critiques", files["poor"], "--reference", files["good"], "--both-orders", "--json"
        )
    )
    assert percents(worse["overall"]) == (0.0, 0.0, 100.0)
    assert worse["flips"]["percent"] == 0.0
    again = json.loads(evaluate("--data", files["data"], "--comparisons", str(out), "--json"))
    assert again["overall"] == better["overall"]


def test_critiques_are_written_by_a_critic(files: dict[str, str]) -> None:
    shown = evaluate(
        "--data", files["data"], "--critic", "general", "--critic-engine", files["engine"],
        "--reference", files["poor"], "--judge", "general", "--mode", "direct", "--engine", files["engine"],
        "--json",
    )  # fmt: skip
    report = json.loads(shown)
    assert percents(report["overall"]) == (100.0, 0.0, 0.0)
    assert report["critiques"]["ratings"] == {"6": 12}


def test_missing_critiques_and_references_are_named(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to evaluate"):
        evaluate("--data", files["data"])
    with pytest.raises(ConfigError, match="holds no critiques"):
        evaluate("--data", files["data"], "--reference", files["poor"])
    short = write_rows(tmp_path / "short.jsonl", [{"output": "x"}])
    with pytest.raises(DataError, match="12 cases and 1 references"):
        evaluate("--data", files["data"], "--critiques", files["good"], "--reference", str(short))
