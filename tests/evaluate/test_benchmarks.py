# SPDX-License-Identifier: Apache-2.0
"""Every benchmark on made samples in its published format, by a judge that knows what each completion is worth."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autoj_reward.cli.app import app
from autoj_reward.errors import ConfigError, DataError, EngineUnavailable
from autoj_reward.evaluate.benchmarks.benchmark import BENCHMARKS, evaluate_benchmark
from autoj_reward.evaluate.benchmarks.figures import ties_score
from autoj_reward.evaluate.benchmarks.items import JudgedItem
from autoj_reward.evaluate.benchmarks.source import BenchmarkRows
from autoj_reward.evaluate.benchmarks.task import benchmark_task
from autoj_reward.judge.judge import Judge
from autoj_reward.rows.run import RowRun
from autoj_reward.statistics import cohen_kappa, mean_of_shares
from autoj_reward.testing import ScriptedEngine
from tests.evaluate import published
from tests.quality import QualityEngine


@pytest.fixture
def files(tmp_path: Path) -> dict[str, list[str]]:
    folder = tmp_path / "published"
    folder.mkdir()
    return published.write_all(folder)


def items_of(name: str, files: dict[str, list[str]]) -> BenchmarkRows:
    return BenchmarkRows(files[name], BENCHMARKS[name].read, split_of=lambda _: "train")


def judged(
    name: str, files: dict[str, list[str]], target: Path, *, by: Any = None, engine: Any = None
) -> dict[str, Any]:
    """A benchmark's report, judged by what completions say they are worth."""
    with Judge.load("mini", engine=engine or QualityEngine(), mode="direct") as judge:
        task = benchmark_task(judge, name=name, by=by or BENCHMARKS[name].by)
        run = RowRun(items_of(name, files), task, str(target), judge)
        run.check()
        run.run()
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    return evaluate_benchmark(name, rows).as_dict()


def accuracies(report: dict[str, Any], part: str) -> dict[str, float]:
    return {name: figure["accuracy"]["percent"] for name, figure in report[part].items()}


def test_rewardbench_2_shares_ties_for_the_first_place(files: dict[str, list[str]], tmp_path: Path) -> None:
    report = judged("rewardbench-2", files, tmp_path / "out.jsonl")
    # Ties: accurate ref 2 of 3, tied 2 of 3; in prompt 1 alone the gap is wider than the spread.
    margins = [math.tanh(5 / 1 - 1), math.tanh(1 / 3 - 1), math.tanh(-2 / 6 - 1)]
    ties = 0.3 * 2 / 3 + 0.3 * 2 / 3 + 0.2 * 2 / 3 + 0.2 * 1 / 3 + 0.01 * sum(margins) / 3
    assert accuracies(report, "subsets") == {
        "Factuality": 50.0,
        "Precise IF": 50.0,
        "Math": pytest.approx(100 / 3, abs=0.01),
        "Safety": 100.0,
        "Focus": 0.0,
        "Ties": pytest.approx(100 * ties, abs=0.01),
    }
    overall = (50 + 50 + 100 / 3 + 100 + 0 + 100 * ties) / 6
    assert accuracies(report, "headline") == {"overall": pytest.approx(overall, abs=0.01)}


def test_rewardbench_2_by_comparisons_rates_the_ties(files: dict[str, list[str]], tmp_path: Path) -> None:
    engine = QualityEngine()
    report = judged("rewardbench-2", files, tmp_path / "out.jsonl", by="comparison", engine=engine)
    by_rating = judged("rewardbench-2", files, tmp_path / "rated.jsonl")
    assert accuracies(report, "subsets") == accuracies(by_rating, "subsets")
    rated = {texts for texts in engine.texts if len(texts) == 2}
    assert {prompt for prompt, _ in rated} == {"Name a colour."}


def test_a_missing_subset_leaves_the_overall_score_out(tmp_path: Path) -> None:
    rows = [row for row in published.REWARDBENCH_2 if row["subset"] != "Focus"]
    path = published.write_array(tmp_path / "some.json", rows)
    report = judged("rewardbench-2", {"rewardbench-2": [str(path)]}, tmp_path / "out.jsonl")
    assert (report["headline"], report["missing"]) == ({}, ["Focus"])


def test_the_score_of_ties_where_right_completions_are_level() -> None:
    def item(id_: str, right: list[float | None], wrong: list[float | None]) -> JudgedItem:
        gold = [1.0] * len(right) + [0.0] * len(wrong)
        return JudgedItem({"id": id_, "gold": gold, "scores": [*right, *wrong]})

    level = [item("ref:1", [9.0], [2.0]), item("tied:1", [9.0, 9.0], [2.0])]
    assert ties_score(level) == pytest.approx(1.01)
    unread = [item("ref:1", [9.0], [2.0]), item("tied:1", [9.0, None], [2.0])]
    assert ties_score(unread) == pytest.approx(0.3 - 0.01)
    assert math.isnan(ties_score([item("ref:1", [9.0], [2.0])]))


def test_judgebench_by_source(files: dict[str, list[str]], tmp_path: Path) -> None:
    report = judged("judgebench", files, tmp_path / "out.jsonl")
    assert accuracies(report, "subsets") == {
        "mmlu-pro": 50.0, "livebench-reasoning": 100.0, "livebench-math": 100.0, "livecodebench": 100.0,
    }  # fmt: skip
    overall = report["headline"]["overall"]
    assert overall["accuracy"]["percent"] == overall["agreement"]["percent"] == 80.0
    # Labels A, A, B, A, B and decisions A, B, B, A, B: chance agrees in (3 * 2 + 2 * 3) / 25.
    assert overall["kappa"] == pytest.approx((0.8 - 12 / 25) / (1 - 12 / 25), abs=1e-4)


def test_judgebench_counts_two_orders_as_two_games() -> None:
    def row(games: list[Any], win_prob: float) -> dict[str, Any]:
        return {
            "id": "1", "subsets": ["mmlu-pro"], "gold": [1.0, 0.0], "pairs": [[0, 1]], "scores": None,
            "win_probs": [win_prob], "decisions": [games],
        }  # fmt: skip

    rows = [
        row(["first", "first"], 0.9), row(["first", "tie"], 0.4), row(["first", None], 0.4),
        row(["first", "second"], 0.9), row(["tie", "tie"], 0.9), row([None, None], 0.9),
    ]  # fmt: skip
    report = evaluate_benchmark("judgebench", rows).as_dict()
    assert report["headline"]["overall"]["accuracy"]["percent"] == 50.0


@pytest.mark.parametrize("by", ["rating", "comparison"])
def test_rm_bench_by_domain_and_by_style(files: dict[str, list[str]], tmp_path: Path, by: str) -> None:
    report = judged("rm-bench", files, tmp_path / "out.jsonl", by=by)
    # Of nine cells chosen at 4, 6, 8 is above rejected at 3, 5, 7 in six, and in all three of the diagonal.
    assert accuracies(report, "subsets") == {
        "chat": 100.0, "code": 66.67, "math": 0.0, "safety": pytest.approx(100 * 5 / 6, abs=0.01),
    }  # fmt: skip
    assert accuracies(report, "headline") == {
        "overall": 62.5,
        "easy": pytest.approx(100 * (1 + 1 + 0 + 1) / 4, abs=0.01),
        "normal": pytest.approx(100 * (1 + 1 + 0 + 1) / 4, abs=0.01),
        "hard": pytest.approx(100 * (1 + 0 + 0 + 0.5) / 4, abs=0.01),
    }


def test_rm_bench_takes_the_domain_from_the_name_of_a_file(tmp_path: Path) -> None:
    rows = [{k: v for k, v in published.RM_BENCH[0].items() if k != "domain"}]
    path = published.write_array(tmp_path / "safety-refuse_filtered.json", rows)
    (_, row), *_ = items_of("rm-bench", {"rm-bench": [str(path)]}).rows()
    assert row["subsets"] == ["safety"]  # type: ignore[index]


@pytest.mark.parametrize("by", ["rating", "comparison"])
def test_rmb_pairs_and_best_of_n(files: dict[str, list[str]], tmp_path: Path, by: str) -> None:
    report = judged("rmb", files, tmp_path / "out.jsonl", by=by)
    found = accuracies(report, "subsets")
    sets = {
        "best of n, helpfulness": 100.0, "pairs, helpfulness": 50.0,
        "best of n, harmlessness": 66.67, "pairs, harmlessness": 100.0,
    }  # fmt: skip
    assert {name: found[name] for name in sets} == sets
    assert found["pairs, helpfulness: Code"] == 0.0
    assert found["best of n, harmlessness: multi"] == 100.0
    assert accuracies(report, "headline") == {
        "overall": pytest.approx((100 + 50 + 200 / 3 + 100) / 4, abs=0.01)
    }


@pytest.mark.parametrize("by", ["rating", "comparison"])
def test_ppe_preferences_and_correctness(files: dict[str, list[str]], tmp_path: Path, by: str) -> None:
    report = judged("ppe", files, tmp_path / "out.jsonl", by=by)
    # Rows on which people tied do not count.
    assert accuracies(report, "headline") == {
        "human preference": 66.67,
        "correctness": pytest.approx((100 + 50 + 0 + 75 + 100) / 5, abs=0.01),
    }
    found = accuracies(report, "subsets")
    assert found["correctness: MATH"] == 50.0
    assert found["human preference: English"] == 50.0
    assert found["human preference: hard prompts"] == found["human preference: code"] == 100.0


def test_a_pair_without_a_verdict_counts_as_wrong(tmp_path: Path) -> None:
    rows = [dict(row, response_A="mumble") for row in published.JUDGEBENCH[:1]] + published.JUDGEBENCH[3:]
    path = published.write_array(tmp_path / "some.json", rows)
    report = judged("judgebench", {"judgebench": [str(path)]}, tmp_path / "out.jsonl")
    assert report["n_unreadable"] == 1
    assert accuracies(report, "subsets")["mmlu-pro"] == 0.0


@pytest.mark.parametrize("favourite", ["Response 1", "Response 2"])
def test_a_favourite_position_gains_nothing_where_files_name_the_better_one_first(
    tmp_path: Path, favourite: str
) -> None:
    rows = [
        dict(published.RMB[0], pair_uid=str(n), chosen={"llm_name": "m", "answer": f"Answer {n}"})
        for n in range(200)
    ]
    path = published.write_array(tmp_path / "pairs.json", rows)
    with Judge.load(
        "mini", engine=ScriptedEngine(read={favourite: 1.0}), mode="direct", both_orders=False
    ) as judge:
        run = RowRun(
            items_of("rmb", {"rmb": [str(path)]}),
            benchmark_task(judge, name="rmb", by="comparison"),
            str(tmp_path / "out.jsonl"),
            judge,
        )
        run.check()
        run.run()
    judged_rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    figure = evaluate_benchmark("rmb", judged_rows).as_dict()["subsets"]["pairs, helpfulness"]
    assert 35.0 < figure["accuracy"]["percent"] < 65.0
    assert abs(figure["kappa"]) < 0.01


WRONG: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("rewardbench-2", published.REWARDBENCH_2[0], {"chosen": "text"}, "chosen"),
    ("rewardbench-2", published.REWARDBENCH_2[0], {"chosen": ["a", "b"]}, "chosen"),
    ("rewardbench-2", published.REWARDBENCH_2[-1], {"id": "3"}, "id"),
    ("judgebench", published.JUDGEBENCH[0], {"label": "A=B"}, "label"),
    ("judgebench", published.JUDGEBENCH[0], {"question": None}, "question"),
    ("rm-bench", published.RM_BENCH[0], {"rejected": ["a", "b"]}, "rejected"),
    ("rm-bench", published.RM_BENCH[0], {"domain": "poetry"}, "domain"),
    ("rmb", published.RMB[0], {"category_path": "Helpfulness/Chat"}, "category_path"),
    ("rmb", published.RMB[0], {"conversation_input": []}, "conversation_input"),
    ("rmb", published.RMB[-1], {"loser_list": []}, "loser_list"),
    ("rmb", published.RMB[0], {"chosen": "text"}, "chosen"),
    ("ppe", published.PPE_HUMAN[0], {"winner": "model_c"}, "winner"),
    ("ppe", published.ppe_correctness((1, 2, 3, 4))[0], {"scores": None}, "scores"),
    (
        "ppe",
        published.ppe_correctness((1, 2, 3, 4))[0],
        {"sampled_conflict_pairs": [[0, 9]]},
        "sampled_conflict_pairs",
    ),
]


@pytest.mark.parametrize(("name", "row", "change", "field"), WRONG)
def test_a_wrong_row_is_named_by_file_line_and_field(
    tmp_path: Path, name: str, row: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    path = published.write_array(tmp_path / "some.json", [row, {**row, **change}])
    (_, good), (_, bad) = items_of(name, {name: [str(path)]}).rows()
    assert isinstance(good, dict)
    assert isinstance(bad, DataError)
    assert (bad.path, bad.line, bad.field) == (str(path), 2, field)


def test_an_interrupted_run_continues(files: dict[str, list[str]], tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    with Judge.load("mini", engine=QualityEngine(dies="q=8"), mode="direct") as judge:
        run = RowRun(
            items_of("rm-bench", files),
            benchmark_task(judge, name="rm-bench", by="rating"),
            str(target),
            judge,
        )
        run.check()
        with pytest.raises(EngineUnavailable):
            run.run()
    assert accuracies(judged("rm-bench", files, target), "headline")["overall"] == 62.5


def test_kappa() -> None:
    # Cohen 1960's measure on a table of two raters: 20 and 15 on the diagonal, 5 and 10 beside it.
    one = ["yes"] * 20 + ["yes"] * 5 + ["no"] * 10 + ["no"] * 15
    other = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(one, other) == pytest.approx(0.4)
    assert cohen_kappa(["a", "b"], ["b", "a"]) == -1.0
    assert cohen_kappa([None, "a"], ["a", "b"]) < 0.0
    assert math.isnan(cohen_kappa(["a", "a"], ["a", "a"]))
    assert math.isnan(cohen_kappa([], []))


def test_the_mean_of_groups_counts_each_the_same() -> None:
    found = mean_of_shares([[1.0] * 100, [0.0, 1.0] * 5])
    assert (found.value, found.n) == (0.75, 110)
    assert 0.5 < found.low < 0.75 < found.high < 1.0


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text(json.dumps({"contains": [], "reading": {"Response 1": 1.0}}) + "\n")

    def call(*arguments: str) -> Any:
        options = ["--engine", f"recorded:{recorded}", "--no-cache", "--quiet"]
        return CliRunner().invoke(
            app, ["evaluate", "benchmark", *arguments, *options], catch_exceptions=False
        )

    return call


def test_the_command_prints_keeps_and_reports(files: dict[str, list[str]], run: Any, tmp_path: Path) -> None:
    arguments = ["judgebench", "--data", *files["judgebench"], "-o", "out.jsonl"]
    plan = run(*arguments, "--dry-run")
    assert "10 inputs to the model" in plan.stderr
    assert not (tmp_path / "out.jsonl").exists()
    table = run(*arguments)
    assert "livecodebench" in table.stdout
    # The finished file is scored again.
    report = json.loads(run(*arguments, "--json").stdout)
    assert report["n_items"] == 5
    (tmp_path / "figures.json").write_text(json.dumps(report))
    made = CliRunner().invoke(app, ["report", "figures.json", "--json"], catch_exceptions=False)
    parts = {part["id"]: part for part in json.loads(made.stdout)["parts"]}
    assert parts["accuracy"]["labels"][0] == "overall"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nothing"], "no benchmark 'nothing'"),
        (["judgebench", "--column", "prompt=question"], "fixed fields"),
    ],
)
def test_wrong_options_are_said(
    files: dict[str, list[str]], run: Any, options: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(*options, "--data", *files["judgebench"], "-o", "out.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_embedded_judge_takes_every_benchmark(
    name: str, files: dict[str, list[str]], tmp_path: Path
) -> None:
    with Judge.load("mini", mode="direct") as judge:
        task = benchmark_task(judge, name=name, by=BENCHMARKS[name].by)
        run = RowRun(items_of(name, files), task, str(tmp_path / "out.jsonl"), judge)
        run.check()
        run.run()
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    report = evaluate_benchmark(name, rows)
    assert report.n_unreadable == 0
    assert report.results.headline
    assert all(-0.01 <= f.accuracy.value <= 1.01 for f in report.results.headline)
