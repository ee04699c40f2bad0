# SPDX-License-Identifier: Apache-2.0
"""Criteria that a judge writes: parsing, duplicates, failures, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autoj_reward import FailureReason, Judge, Request
from autoj_reward.cli.app import app
from autoj_reward.judge.criteria.writing import WrittenRubric, write_rubrics
from autoj_reward.testing import ScriptedEngine, rendered_text
from autoj_reward.types import JudgeInput, JudgeOutput

GOOD = '[{"text": "Is red.", "weight": 2, "essential": true}, {"text": "is  RED", "weight": 1}, {"text": "Is long.", "weight": -1}]'


def written(text: str | JudgeOutput) -> WrittenRubric:
    judge = Judge.load("small", engine=ScriptedEngine(write=text), mode="critique")
    return write_rubrics(judge, [Request(prompt="Colour?", completions=())])[0]


@pytest.mark.parametrize(
    "text", [GOOD, f"Here [as asked]:\n```json\n{GOOD}\n```", f"Sure.\n{GOOD}\nDone [1]."]
)
def test_criteria_are_found_and_kept_once(text: str) -> None:
    found = written(text)
    assert found.rubric is not None
    assert [(c.text, c.weight, c.essential) for c in found.rubric.criteria] == [
        ("Is red.", 2, True),
        ("Is long.", -1, False),
    ]


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("I cannot.", "holds no JSON list"),
        ('[{"weight": 3}]', "has no text"),
        ('[{"text": "a", "weight": "much"}]', "must be a number"),
        ("[[[", "holds no JSON list"),
    ],
)
def test_an_output_without_criteria_is_a_failure(text: str, detail: str) -> None:
    found = written(text)
    assert found.rubric is None
    assert found.failure is not None
    assert found.failure.reason is FailureReason.NO_VERDICT
    assert detail in found.failure.detail
    assert found.failure.raw_text == text


def test_a_list_that_was_cut_is_truncated() -> None:
    found = written(JudgeOutput(text=GOOD[:40], finish_reason="length"))
    assert found.failure is not None
    assert found.failure.reason is FailureReason.TRUNCATED


def test_equal_prompts_are_asked_once_and_references_are_shown() -> None:
    engine = ScriptedEngine(write=GOOD)
    judge = Judge.load("small", engine=engine, mode="critique")
    requests = [Request(prompt="Colour?", completions=(), reference=r) for r in (None, None, "It is red.")]
    assert len(write_rubrics(judge, requests)) == 3
    assert engine.n_inputs == 2
    assert "[REFERENCE ANSWER]\nIt is red." in rendered_text(engine.calls[0][1])


def test_the_command_writes_a_rubric_column_that_rate_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(item: JudgeInput) -> str:
        return GOOD if "Colour?" in rendered_text(item) else "I cannot."

    engine = ScriptedEngine(write=write, read={"Yes": 1.0})
    monkeypatch.setattr("autoj_reward.judge.judge.choose_engine", lambda *_, **__: engine)
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": p, "completion": "Red."} for p in ("Colour?", "Size?")]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = ["rubrics", "make", "in.jsonl", "-o", "out.jsonl", "--judge", "small", "--no-cache"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 3
    one, other = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (one["n_criteria"], one["failure"]) == (2, None)
    assert (other["rubric"], other["failure"]["reason"]) == (None, "no_verdict")
    assert (one["completion"], one["rubric"][0]["essential"]) == ("Red.", True)
    n_before = engine.n_inputs
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 3
    assert engine.n_inputs == n_before
    rate = [
        "rate",
        "out.jsonl",
        "-o",
        "rated.jsonl",
        "--judge",
        "small",
        "--mode",
        "direct",
        "--no-cache",
        "--limit",
        "1",
    ]
    assert CliRunner().invoke(app, rate, catch_exceptions=False).exit_code == 0
    (rated,) = [json.loads(line) for line in Path("rated.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rated["score"] == pytest.approx(0.5)
