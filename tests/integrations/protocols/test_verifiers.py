# SPDX-License-Identifier: Apache-2.0
"""verifiers loads the judge as a plugin of a task's settings, and scores a rollout with it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verifiers.v1", reason="needs verifiers: tests/protocols_env", exc_type=ImportError)

import verifiers.v1 as vf
from verifiers.v1.configs.judge import resolve_judges
from verifiers.v1.trace import Trace, TraceTask

from autoj_reward.errors import ConfigError
from autoj_reward.integrations.required_reward import NoVerdict

ANSWERS = [
    {"contains": ["Paris"], "reading": {"9": 0.6, "8": 0.4}},
    {"contains": ["mumble"], "reading": {"5": 0.0001}},
    {"contains": [], "reading": {"5": 0.75, "6": 0.25}},
]


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Recorded answers of a judge, and a plugin module as a user writes one."""
    (tmp_path / "my_judge.py").write_text(
        "from autoj_reward.integrations.protocols.verifiers import RewardJudge\n__all__ = ['RewardJudge']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "recorded.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in ANSWERS), encoding="utf-8")
    return path


def scored(answers: Path, completion: str, **settings: Any) -> dict[str, Any]:
    """The rewards that verifiers records for a rollout of a task with the judge among its settings."""
    options = {"engine": f"recorded:{answers}", "judge_mode": "direct", "resolution": 0}
    judges = resolve_judges([{"id": "my_judge", "options": options, **settings}])
    data = vf.TaskData(idx=0, prompt="What is the capital of France?")
    task: Any = vf.Task(data, vf.TaskConfig(judges=judges))
    trace = Trace.model_construct(
        task=TraceTask(type="Task", data=data),
        rewards={},
        metrics={},
        root_reply=completion,
        nodes=[],
        info={},
    )
    asyncio.run(task.score(trace))
    return {name: (reward.score, reward.weight) for name, reward in trace.rewards.items()}


def test_a_rollout_is_judged(answers: Path) -> None:
    assert scored(answers, "Paris") == {"my_judge": (pytest.approx((8.6 - 1) / 9), 1.0)}
    named = scored(answers, "Berlin", name="taste", weight=0.5)
    assert named == {"taste": (pytest.approx((5.25 - 1) / 9), 0.5)}


def test_a_failure_fails_the_scoring_and_not_the_policy(answers: Path) -> None:
    with pytest.raises(vf.TaskError) as raised:
        scored(answers, "mumble")
    assert isinstance(raised.value.__cause__, NoVerdict)


def test_a_missing_field_is_said(answers: Path) -> None:
    with pytest.raises(vf.TaskError) as raised:
        scored(answers, "Paris", answer_field="gold")
    assert isinstance(raised.value.__cause__, ConfigError)
    assert "no field 'gold'" in str(raised.value.__cause__)
