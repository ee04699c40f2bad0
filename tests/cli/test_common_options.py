# SPDX-License-Identifier: Apache-2.0
"""Options, formats, exit status and summary that commands have in common."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoj_reward.cli.shared.judging import input_rows
from autoj_reward.errors import ConfigError
from tests.cli.conftest import Run, read_rows, write_rows

PAIR = {"prompt": "Is it right?", "first": "Yes.", "second": "No.", "preference": "first"}
CHOSEN = {"prompt": "Is it right?", "chosen": "Yes.", "rejected": "No."}
CASE = {"scenario": "open_question", "prompt": "Capital of France?", "response": "Rome. mumble"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOJ_REWARD_CACHE", str(tmp_path / "judgments.sqlite"))


@pytest.mark.parametrize(
    "command",
    [
        ["pairwise", "pairs.jsonl"],
        ["pairwise", "pairs.jsonl", "--by-rating"],
        ["critique", "cases.jsonl", "--critiques", "critiques.jsonl", "--reference", "others.jsonl"],
        ["benchmark", "judgebench", "bench.jsonl", "-o", "judged.jsonl"],
    ],
    ids=["pairwise", "by-rating", "critique", "benchmark"],
)
def test_evaluate_prints_its_figures_and_exits_with_3_if_judgments_failed(
    run: Run, tmp_path: Path, command: list[str]
) -> None:
    """The recorded judge finds no verdict where a text mumbles."""
    write_rows(tmp_path / "pairs.jsonl", [PAIR, {**PAIR, "prompt": "mumble", "first": "x", "second": "y"}])
    write_rows(tmp_path / "cases.jsonl", [CASE, CASE])
    write_rows(tmp_path / "critiques.jsonl", [{"output": "Rating: [[2]]"}] * 2)
    write_rows(tmp_path / "others.jsonl", [{"output": "Rating: [[3]]"}] * 2)
    item = {"source": "mmlu-pro-law", "label": "A>B", "response_A": "x", "response_B": "y"}
    questions = ["Capital of France?", "mumble"]
    bench = [{**item, "pair_id": str(n), "question": q} for n, q in enumerate(questions)]
    write_rows(tmp_path / "bench.jsonl", bench)
    result = run("evaluate", *command)
    assert result.exit_code == 3, result.stderr
    assert "percent" in result.stdout
    assert "exit status is 3 (0 with --allow-failures)" in result.stderr
    allowed = run("evaluate", *command, "--allow-failures")
    assert allowed.exit_code == 0, allowed.stderr
    assert allowed.stdout == result.stdout


def test_limit_takes_the_first_rows_of_coherence_monitor_and_rescore(run: Run, tmp_path: Path) -> None:
    rows = [{"prompt": "Q", "completion": f"Paris {n}"} for n in range(3)]
    write_rows(tmp_path / "in.jsonl", rows)
    assert run("rate", "in.jsonl", "-o", "rated.jsonl").exit_code == 0
    rescored = run("rescore", "rated.jsonl", "-o", "new.jsonl", "--limit", "2", judge=False)
    assert [row["completion"] for row in read_rows(tmp_path / "new.jsonl")] == ["Paris 0", "Paris 1"]
    assert "rescore: 2 judgments\n  output    new.jsonl\n  next      autoj-reward report" in rescored.stderr
    write_rows(tmp_path / "log.jsonl", [{"completion": f"a {n}", "reward": 1.0} for n in range(20)])
    monitored = run("monitor", "log.jsonl", "--limit", "9", "--json", judge=False)
    assert [w["n"] for w in json.loads(monitored.stdout)["windows"]] == [9]
    write_rows(tmp_path / "compared.jsonl", [PAIR, {**PAIR, "preference": None}])
    whole = run("evaluate", "coherence", "compared.jsonl", judge=False)
    assert "evaluate coherence: 2 comparisons\n  failed    1 without a verdict\n" in whole.stderr
    first = run("evaluate", "coherence", "compared.jsonl", "--limit", "1", judge=False)
    assert "evaluate coherence: 1 comparisons\n" in first.stderr
    assert run("evaluate", "coherence", "compared.jsonl", "--quiet", judge=False).stderr == ""


def test_build_train_and_the_cache_are_quiet_if_asked_to_be(run: Run, tmp_path: Path) -> None:
    row = {"question": "Q", "completion": "A", "rating": 9, "critique": "Right.", "scenario": "open_question"}
    write_rows(tmp_path / "in.jsonl", [row])
    build = ["data", "build-train", "in.jsonl", "-o", "train.jsonl", "--column", "prompt=question"]
    assert "1 training rows" in run(*build, judge=False).stderr
    assert run(*build, "--quiet", judge=False).stderr == ""
    assert "Q" in read_rows(tmp_path / "train.jsonl")[0]["usermsg"]
    assert run("data", "validate", "train.jsonl", "--quiet", judge=False).output == ""
    run("rate", "in.jsonl", "-o", "rated.jsonl", "--column", "prompt=question")
    commands = [
        ["verify"],
        ["prune", "--older-than", "1d"],
        ["export", "out.parquet"],
        ["import", "out.parquet"],
    ]
    for command in commands:
        assert run("cache", *command, judge=False).stdout
        assert run("cache", *command, "--quiet", judge=False).output == ""


def test_calibrate_and_probe_read_published_formats(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path / "dpo.jsonl", [CHOSEN] * 20)
    result = run("calibrate", "dpo.jsonl")
    assert "[comparison]" in result.stdout
    assert "dpo.jsonl is read as" in result.stderr
    alpaca = write_rows(tmp_path / "sft.jsonl", [{"instruction": "Q", "input": "", "output": "A"}])
    ((line, row),) = input_rows(str(alpaca), ("rate",))
    assert (line, row["prompt"], row["completion"]) == (1, "Q", "A")
    assert "--format instruction-output" in capsys.readouterr().err
    named = [*input_rows(str(alpaca), ("rate",), column=["prompt=instruction", "completion=output"])]
    assert (named[0][1]["prompt"], named[0][1]["completion"]) == ("Q", "A")
    with pytest.raises(ConfigError):
        [*input_rows(str(tmp_path / "dpo.jsonl"), ("rate",))]
