# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from autoj_reward.autoj.pairs import LabelledPair, Scores
from autoj_reward.cli.app import app
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.evaluate.scalar import THRESHOLDS, decide, search_threshold
from tests.cli.conftest import write_rows

LABELS = ("first", "second", "tie")


def pairs(labels: list[str]) -> list[LabelledPair]:
    return [
        LabelledPair(prompt=f"p{i}", first="a", second="b", preference=label, scenario="", group="")  # type: ignore[arg-type]
        for i, label in enumerate(labels)
    ]


@pytest.mark.parametrize(
    ("scores", "threshold", "decision"),
    [
        ((1.0, 0.5), 0.0, "first"),
        ((0.5, 1.0), 0.0, "second"),
        ((0.5, 0.5), 0.0, "tie"),
        ((1.0, 0.5), 0.5, "first"),
        ((1.0, 0.5), 0.51, "tie"),
        ((None, 0.5), 2.0, None),
    ],
)
def test_a_difference_below_the_threshold_is_a_tie(
    scores: Scores, threshold: float, decision: str | None
) -> None:
    assert decide(scores, threshold) == decision


def test_thresholds_run_from_0_to_2_by_a_hundredth() -> None:
    assert (THRESHOLDS[0], THRESHOLDS[1], THRESHOLDS[35], THRESHOLDS[-1], len(THRESHOLDS)) == (
        0.0, 0.01, 0.35, 2.0, 201
    )  # fmt: skip


def test_the_search_finds_a_threshold_that_parts_ties_from_wins() -> None:
    labels = ["tie", "first", "second", "tie", "first"] * 20
    scores: list[Scores] = [(1.3, 1.0), (2.0, 1.0), (1.0, 1.8), (1.0, 1.0), (3.0, 1.0)] * 20
    found = search_threshold(pairs(labels), scores)
    assert found.threshold == 0.31  # the smallest above 0.3
    assert found.best.value == found.cross_validated.value == 1.0
    assert set(found.fold_thresholds) == {0.31}


@given(
    st.lists(st.tuples(st.sampled_from(LABELS), st.floats(-3, 3), st.floats(-3, 3)), min_size=4, max_size=30)
)
def test_the_threshold_found_is_the_best_there_is(rows: list[tuple[str, float, float]]) -> None:
    labelled, scores = pairs([r[0] for r in rows]), [(r[1], r[2]) for r in rows]
    found = search_threshold(labelled, scores, n_folds=4)
    accuracies = [
        sum(decide(s, t) == p.preference for p, s in zip(labelled, scores, strict=True)) for t in THRESHOLDS
    ]
    assert round(found.best.value * len(rows)) == max(accuracies)
    assert accuracies[THRESHOLDS.index(found.threshold)] == max(accuracies)
    assert found.cross_validated.value <= found.best.value + 1e-9  # it never saw its pairs


def test_noise_looks_better_by_search_than_by_cross_validation() -> None:
    """The published way scores the threshold on the pairs that it was chosen on."""
    import random

    rng = random.Random(3)
    labels = [rng.choice(LABELS) for _ in range(300)]
    scores: list[Scores] = [(rng.random(), rng.random()) for _ in range(300)]
    found = search_threshold(pairs(labels), scores)
    assert found.cross_validated.value < found.best.value


def test_rows_of_one_prompt_share_a_fold() -> None:
    same = [
        LabelledPair(prompt="p", first="a", second="b", preference="tie", scenario="", group="")
        for _ in range(4)
    ]
    with pytest.raises(DataError, match="one prompt"):
        search_threshold(same, [(0.0, 1.0)] * 4)
    with pytest.raises(ConfigError, match="folds"):
        search_threshold(pairs(["tie"] * 4), [(0.0, 1.0)] * 4, n_folds=1)
    with pytest.raises(DataError, match="4 pairs and 1 rows"):
        search_threshold(pairs(["tie"] * 4), [(0.0, 1.0)])


def pair_file(tmp_path: Path, labels: list[int]) -> Path:
    rows = [
        {"label": n, "prompt": f"p{i}", "response 1": "aa", "response 2": "b"} for i, n in enumerate(labels)
    ]
    return write_rows(tmp_path / "pairs.jsonl", rows)


def evaluate(*arguments: str) -> str:
    return CliRunner().invoke(app, ["evaluate", "pairwise", *arguments], catch_exceptions=False).stdout


def test_scores_are_evaluated_by_the_command(tmp_path: Path) -> None:
    data = pair_file(tmp_path, [0, 1, 2, 0] * 5)
    scores = write_rows(
        tmp_path / "scores.jsonl", [{"scores": s} for s in ([2, 1], [0, 1.5], [0.1, 0], [None, 1])] * 5
    )
    arguments = ("--data", str(data), "--predictions", str(scores), "--folds", "5")
    report = json.loads(evaluate(*arguments, "--json"))
    assert report["overall"]["one_order"]["percent"] == 75.0
    assert report["tie_threshold"]["threshold"] == 0.11
    assert report["tie_threshold"]["n_unreadable"] == report["n_unreadable"] == 5
    assert report["baselines"]["longer completion"]["one_order"]["percent"] == 50.0
    assert report["overall"]["agreement"] is None
    assert "chosen on other folds" in evaluate(*arguments)
    markdown = evaluate(*arguments, "--markdown")
    assert "| Overall | 20 | - | 0.67 | - | 75.00 |" in markdown
    assert "longer completion" in markdown


@pytest.mark.parametrize("scores", [[1], [1, "2"], [True, 1], None, "12", [float("nan"), 1]], ids=repr)
def test_wrong_scores_are_named(tmp_path: Path, scores: object) -> None:
    data = pair_file(tmp_path, [0, 1])
    path = write_rows(tmp_path / "s.jsonl", [{"scores": [1, 2]}, {"scores": scores}])
    with pytest.raises(DataError, match=r"s.jsonl:2: field 'scores'"):
        evaluate("--data", str(data), "--predictions", str(path))


def test_another_judge_is_tested_on_the_same_pairs(tmp_path: Path) -> None:
    data = pair_file(tmp_path, [0] * 10)
    one = write_rows(tmp_path / "one.jsonl", [{"output": 0}] * 10)
    other = write_rows(tmp_path / "other.jsonl", [{"output": 0}] * 4 + [{"output": 1}] * 6)
    arguments = ("--data", str(data), "--predictions", str(one), "--against", str(other))
    test = json.loads(evaluate(*arguments, "--json"))["against"]["one_order"]
    assert (test["only_first"], test["only_second"]) == (6, 0)
    assert test["difference"]["percent"] == 60.0
    assert test["p_value"] == pytest.approx(2 / 2**6)
    assert "only other" in evaluate(*arguments)


ANSWERS = [
    {"contains": ["[Response 1]: aa"], "reading": {"Response 1": 0.8, "Response 2": 0.2}},
    {"contains": ["[Response 1]: b"], "reading": {"Response 1": 0.3, "Response 2": 0.7}},
    {"contains": ["[Response]: aa"], "reading": {"8": 1.0}},
    {"contains": ["[Response]: b"], "reading": {"6": 1.0}},
]


@pytest.fixture
def judge(tmp_path: Path) -> list[str]:
    answers = write_rows(tmp_path / "answers.jsonl", ANSWERS)
    return ["--judge", "autoj-13b", "--mode", "direct", "--engine", f"recorded:{answers}"]


def test_a_judge_decides_and_its_decisions_are_kept(tmp_path: Path, judge: list[str]) -> None:
    data = str(pair_file(tmp_path, [0, 0, 2, 1]))
    out = str(tmp_path / "out.jsonl")
    judged = json.loads(evaluate("--data", data, *judge, "-o", out, "--json"))
    assert (
        judged["overall"]["agreement"]["percent"] == judged["overall"]["consistency"]["percent"] / 2 == 50.0
    )
    assert judged.pop("about")["judge"]["judge"] == "autoj-13b"
    assert judged["calibration"]["n"] == 3
    assert judged["calibration"]["error"] == pytest.approx(abs(0.75 - 2 / 3))
    again = json.loads(evaluate("--data", data, "--predictions", out, "--json"))
    assert again.pop("about")["judge"] == f"decisions of {out}"
    assert again == judged
    one = json.loads(evaluate("--data", data, *judge, "--one-order", "--limit", "3", "--json"))
    assert (one["overall"]["n"], one["overall"]["one_order"]["percent"], one["overall"]["agreement"]) == (
        3, 66.67, None
    )  # fmt: skip


def test_a_judges_ratings_are_scores(tmp_path: Path, judge: list[str]) -> None:
    data = str(pair_file(tmp_path, [0, 0, 2, 1]))
    report = json.loads(evaluate("--data", data, *judge, "--by-rating", "--folds", "2", "--json"))
    assert report["overall"]["one_order"]["percent"] == 50.0
    assert report["tie_threshold"]["n_unreadable"] == 0
    with pytest.raises(ConfigError, match="--by-rating has no effect with other"):
        evaluate("--data", data, "--predictions", data, "--by-rating")
