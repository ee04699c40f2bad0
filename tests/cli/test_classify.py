# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoj_reward.errors import ConfigError
from tests.cli.conftest import Run, read_rows, write_rows

pytest.importorskip("sklearn", reason="needs the scenarios extra")

GENERATED = [
    {"contains": ["haiku"], "reading": {"creative_writing": 0.7, "default": 0.1}},
    {"contains": ["mumble"], "reading": {"chitchat": 0.3, "default": 0.2, "planning": 0.2}},
    {"contains": ["nothing"], "reading": {}},
]


def test_classify_adds_to_rows_and_goes_on(run: Run, tmp_path: Path) -> None:
    rows = [
        {"id": n, "prompt": p} for n, p in enumerate(["a haiku", [{"role": "user", "content": "mumble"}], ""])
    ]
    write_rows(tmp_path / "in.jsonl", rows)
    engine = f"recorded:{write_rows(tmp_path / 'answers.jsonl', GENERATED)}"
    options = ["--classifier", "autoj-scenario-classifier", "--engine", engine]
    run("classify", "in.jsonl", "-o", "out.jsonl", *options, judge=False)
    out = read_rows(tmp_path / "out.jsonl")
    assert [row["scenario"] for row in out] == ["creative_writing", "chitchat", "default"]
    assert [row["scenario_group"] for row in out] == ["Creative Writing", "General Communication", "Other"]
    assert out[2]["scenario_problem"]
    assert [row["id"] for row in out] == [0, 1, 2]
    again = run("classify", "in.jsonl", "-o", "out.jsonl", *options, judge=False)
    assert "is finished" in again.stderr
    with pytest.raises(ConfigError, match="classifier 'unheard-of' is unknown"):
        run("classify", "in.jsonl", "-o", "x.jsonl", "--classifier", "unheard-of", judge=False)
    with pytest.raises(ConfigError, match="no engine"):
        run("classify", "in.jsonl", "-o", "x.jsonl", "--engine", engine, judge=False)


def test_auto_js_own_rows_are_classified(run: Run, tmp_path: Path) -> None:
    rows = [{"category": "writing_email", "instruction": "Write an email to my boss", "input": "I am ill."}]
    write_rows(tmp_path / "in.jsonl", rows)
    run("classify", "in.jsonl", "-o", "out.jsonl", "--format", "autoj-classifier", "-q", judge=False)
    (row,) = read_rows(tmp_path / "out.jsonl")
    assert row["scenario"] == "writing_email"
    assert row["prompt"] == "Write an email to my boss I am ill."
    scored = run(
        "evaluate", "scenario", "--data", "in.jsonl", "--predictions", "out.jsonl", "--json", judge=False
    )
    assert json.loads(scored.stdout)["overall"]["percent"] == 100.0


def test_answers_that_cannot_be_read_are_in_the_exit_status(run: Run, tmp_path: Path) -> None:
    row = {"category": "writing_email", "instruction": "Write an email", "input": ""}
    write_rows(tmp_path / "in.jsonl", [row])
    (tmp_path / "says.jsonl").write_text('{"contains": [], "text": "no scenario"}\n', encoding="utf-8")
    arguments = ["evaluate", "scenario", "in.jsonl", "--classifier", "autoj-scenario-classifier"]
    arguments += ["--engine", f"recorded:{tmp_path / 'says.jsonl'}"]
    done = run(*arguments, judge=False)
    assert done.exit_code == 3
    assert "1 judgments failed, so the exit status is 3" in done.stderr
    assert run(*arguments, "--allow-failures", judge=False).exit_code == 0


def test_the_published_test_rows(run: Run, data: Path) -> None:
    folder = data / "auto-j" / "other_resources" / "scenario_classifier_data"
    arguments = ["evaluate", "scenario", "--data", str(folder / "testdata.jsonl")]
    report = json.loads(run(*arguments, "--json", judge=False).stdout)
    overall = report["overall"]
    assert overall["n"] == 623
    assert overall["low"] < overall["percent"] < overall["high"]
    # The rule that always answers what is most frequent, and what docs/scenarios.md states.
    assert report["baselines"]["always 'default'"]["percent"] == 12.68
    assert overall["percent"] == PUBLISHED_ACCURACY
    assert len(report["groups"]) == 9
    assert "Overall" in run(*arguments, "--markdown", judge=False).stdout


PUBLISHED_ACCURACY = 49.76


def test_criteria_become_the_rubric(run: Run, tmp_path: Path) -> None:
    entry = "own:\n  {}:\n    content: {}\n    weight: 4\n    type: style\n"
    folder = tmp_path / "sets"
    folder.mkdir()
    (folder / "writing_email.yaml").write_text(entry.format("polite", "It greets."), encoding="utf-8")
    (folder / "chitchat.yaml").write_text(entry.format("warm", "It is warm."), encoding="utf-8")
    answers = [
        {"contains": ["[BEGIN STANDARD]", "- own [1]"], "reading": {"4": 1.0}},
        {"contains": ["[BEGIN STANDARD]\nStyle", "- polite [4]: It greets."], "reading": {"9": 1.0}},
        {"contains": ["[BEGIN STANDARD]\nStyle", "- warm [4]: It is warm."], "reading": {"7": 1.0}},
        {"contains": [], "reading": {"2": 1.0}},
    ]
    engine = f"recorded:{write_rows(tmp_path / 'answers.jsonl', answers)}"
    rows = [
        {"prompt": "Write an email to my boss that I am ill", "completion": "Dear boss"},
        {"prompt": "Write an email to my boss that I am ill", "completion": "Hi", "scenario": "chitchat"},
        {"prompt": "Hello", "completion": "Hi", "scenario": "default"},
        {"prompt": "Hello", "completion": "Hi", "scenario": "chitchat", "rubric": "- own [1]"},
    ]
    write_rows(tmp_path / "in.jsonl", rows)
    options = ["--judge", "general", "--mode", "direct", "--engine", engine, "-q"]
    run("rate", "in.jsonl", "-o", "out.jsonl", *options, "--criteria", "sets", judge=False)
    assert [row["rating"] for row in read_rows(tmp_path / "out.jsonl")] == [9, 7, 2, 4]
    (folder / "chitchat.yaml").write_text(entry.format("cold", "It is cold."), encoding="utf-8")
    with pytest.raises(ConfigError, match="another criteria"):
        run("rate", "in.jsonl", "-o", "out.jsonl", *options, "--criteria", "sets", judge=False)
    with pytest.raises(ConfigError, match="takes no rubric"):
        run(
            "rate",
            "in.jsonl",
            "-o",
            "o.jsonl",
            "--judge",
            "autoj-13b",
            *options[2:],
            "--criteria",
            "sets",
            judge=False,
        )
    with pytest.raises(ConfigError, match="without --criteria"):
        run("rate", "in.jsonl", "-o", "o.jsonl", *options, "--criteria-root", "sets", judge=False)


@pytest.mark.slow
def test_scenarios_are_listed_and_criteria_printed_by_type(run: Run, data: Path) -> None:
    assert "Code: code_correction_rewriting" in run("scenarios", judge=False).stdout
    shown = run("scenarios", "--criteria", str(data / "auto-j"), "--name", "chitchat", judge=False).stdout
    assert shown.startswith("# chitchat\n\nBasic (weight")
    every = json.loads(run("scenarios", "--criteria", str(data / "auto-j"), "--json", judge=False).stdout)
    assert len(every) == 58
    with pytest.raises(ConfigError, match="no criteria of 'none'"):
        run("scenarios", "--criteria", str(data / "auto-j"), "--name", "none", judge=False)
