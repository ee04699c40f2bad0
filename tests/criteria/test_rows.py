# SPDX-License-Identifier: Apache-2.0
"""A column of criteria reaches the judge through rewards, rankings, commands and the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autoj_reward import Judge, JudgeReward, Rubric, label, rank, read_rubric
from autoj_reward.cli.app import app
from autoj_reward.errors import ConfigError
from autoj_reward.testing import ScriptedEngine
from tests.criteria.conftest import COLOURS, GREEN, RED

PROMPTS, GROUP = ["What colour?"], ["It is green.", "It is red."]


@pytest.fixture
def judge(engine: ScriptedEngine) -> Judge:
    return Judge.load("mini", engine=engine, mode="direct")


@pytest.fixture
def commands(engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr("autoj_reward.judge.judge.choose_engine", lambda *_, **__: engine)
    monkeypatch.chdir(tmp_path)

    def run(row: dict[str, Any], *arguments: str) -> list[dict[str, Any]]:
        Path("in.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        command, *further = arguments
        done = CliRunner().invoke(
            app, [command, "in.jsonl", "-o", "out.jsonl", "--no-cache", *further], catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]

    return run


def test_a_reward_reads_a_column_of_criteria(judge: Judge) -> None:
    reward = JudgeReward(judge, scale="unit", rubric_column="rubric", resolution=0.0)
    rewards = reward(prompts=PROMPTS * 2, completions=GROUP, rubric=[COLOURS, json.dumps(COLOURS)])
    assert rewards == pytest.approx([GREEN, RED])
    with pytest.raises(ConfigError, match=r"rubric\[0\]: a rubric must be"):
        reward(prompts=PROMPTS, completions=["a"], rubric=[3])


def test_rank_and_label_by_criteria(judge: Judge) -> None:
    (ranking,) = rank(judge, PROMPTS, [GROUP], rubrics=[COLOURS])
    assert ranking.ranks == [2, 1]
    assert ranking.rewards == pytest.approx([1 + 9 * GREEN, 1 + 9 * RED])
    assert ranking.n_calls == 4
    (group,) = label(judge, PROMPTS, [GROUP], rubrics=[COLOURS])
    assert [(pair.chosen, pair.rejected) for pair in group.pairs] == [(1, 0)]


def test_rate_writes_the_criteria_and_retries_keep_them(commands: Any) -> None:
    row = {"prompt": PROMPTS[0], "completion": GROUP[1], "rubric": COLOURS}
    (out,) = commands(row, "rate")
    assert out["expected_rating"] == pytest.approx(1 + 9 * RED)
    assert [(c["name"], c["score"]) for c in out["criteria"]] == [("It is red.", 0.9), ("It is green.", 0.2)]
    assert commands(row, "rate", "--retry-failed") == [out]


def test_rate_takes_the_criteria_of_another_column_and_of_a_file(commands: Any) -> None:
    row = {"prompt": PROMPTS[0], "completion": GROUP[1], "reward_model": {"rubrics": COLOURS}}
    (out,) = commands(row, "rate", "--column", "rubric=reward_model")
    assert out["score"] == pytest.approx(RED)
    Path("rubric.json").write_text(json.dumps({"criteria": COLOURS[:1]}), encoding="utf-8")
    plain = {"prompt": PROMPTS[0], "completion": GROUP[1]}
    (out,) = commands(plain, "rate", "--criteria", "rubric.json", "--overwrite")
    assert out["score"] == pytest.approx(0.9)


def test_rerank_and_label_write_their_rows_by_criteria(commands: Any) -> None:
    row = {"prompt": PROMPTS[0], "completions": GROUP, "rubric": COLOURS}
    (out,) = commands(row, "rerank", "--critiques", "none")
    assert (out["best"], out["n_calls"]) == (1, 4)
    assert [c["name"] for c in out["ranking"][0]["criteria"]] == ["It is red.", "It is green."]
    (pair,) = commands(row, "label", "--overwrite")
    assert (pair["chosen"], pair["rejected"]) == (GROUP[1], GROUP[0])
    assert [(c["name"], c["score"]) for c in pair["chosen_criteria"]] == [
        ("It is red.", 0.9),
        ("It is green.", 0.2),
    ]
    assert (pair["chosen_score"], pair["rejected_score"]) == (pytest.approx(RED), GREEN)
    marked = commands(row, "label", "--kind", "kto", "--overwrite")
    assert [(one["label"], one["completion_score"]) for one in marked] == [
        (True, pytest.approx(RED)),
        (False, GREEN),
    ]


def test_a_wrong_rubric_is_a_bad_row(commands: Any) -> None:
    Path("in.jsonl").write_text(
        json.dumps({"prompt": "a", "completion": "b", "rubric": [{"points": 1}]}), "utf-8"
    )
    done = CliRunner().invoke(app, ["rate", "in.jsonl", "-o", "out.jsonl", "--no-cache"])
    assert "criteria[0]: has no text" in " ".join(done.output.split())


def test_the_server_takes_criteria(engine: ScriptedEngine) -> None:
    pytest.importorskip("fastapi", reason="needs the reward server: the serve extra")
    from starlette.testclient import TestClient

    from autoj_reward.serve.app import make_app
    from autoj_reward.serve.settings import ServeSettings

    judge = Judge.load("mini", engine=engine, mode="direct")
    made, _ = make_app(judge, ServeSettings())
    with TestClient(made, base_url="http://127.0.0.1") as client:
        row = {"prompt": PROMPTS[0], "completion": GROUP[1], "rubric": COLOURS}
        (answer,) = client.post("/v1/rate", json={"rows": [row], "whole": True}).json()["rows"]
        assert answer["score"] == pytest.approx(RED)
        assert answer["judgment"]["criteria"][0]["criterion"]["text"] == "It is red."
        group = {"prompt": PROMPTS[0], "completions": GROUP, "rubric": COLOURS}
        (ranked,) = client.post("/v1/rank", json={"rows": [group]}).json()["rows"]
        assert ranked["best"] == 1
        wrong = client.post("/v1/rate", json={"rows": [{**row, "rubric": [1]}]})
        assert (wrong.status_code, wrong.json()["error"]["where"]) == (422, "rows[0].rubric")


def test_rays_blocks_have_columns_for_criteria(judge: Judge) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    from autoj_reward.rows.blocks import added_schema, with_fields

    (judgment,) = judge.rate(PROMPTS, GROUP[1:], rubrics=[COLOURS])
    (plain,) = judge.rate(PROMPTS, GROUP[1:])
    table = pa.table({"prompt": PROMPTS * 2})
    made = with_fields(table, [judgment.to_dict(), plain.to_dict()], added_schema("rate", criteria=True))
    rows = made.to_pylist()
    assert rows[0]["criteria"] == judgment.to_dict()["criteria"]
    assert rows[1]["criteria"] is None
    assert "criteria" not in added_schema("rate").names


def test_equal_rubrics_of_a_batch_are_judged_once(judge: Judge, engine: ScriptedEngine) -> None:
    rubric = read_rubric(COLOURS)
    assert isinstance(rubric, Rubric)
    reward = JudgeReward(judge, rubric_column="rubric")
    reward(prompts=PROMPTS * 2, completions=GROUP[:1] * 2, rubric=[COLOURS, rubric])
    assert engine.n_inputs == 2


def test_a_dry_run_counts_every_criterion(
    engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("autoj_reward.judge.judge.choose_engine", lambda *_, **__: engine)
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": "a", "completion": "b", "rubric": rubric} for rubric in (COLOURS, None)]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = CliRunner().invoke(app, ["rate", "in.jsonl", "-o", "out.jsonl", "--no-cache", "--dry-run"])
    assert "2 requests, 3 inputs to the model" in done.stdout
