# SPDX-License-Identifier: Apache-2.0
"""NeMo-Gym's server class serves the judge: its routes are called over HTTP, with its own models of a rollout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

pytest.importorskip("nemo_gym", reason="needs NeMo-Gym: tests/protocols_env", exc_type=ImportError)

from fastapi.testclient import TestClient
from nemo_gym.server_utils import ServerClient

from autoj_reward.integrations.protocols.nemo_gym import JudgeResourcesServer, JudgeServerConfig
from autoj_reward.judge.judge import Judge

ANSWERS = [
    {"contains": ["Response 1", "Paris"], "reading": {"Response 1": 0.5, "Response 2": 0.3, "Tie": 0.2}},
    {"contains": ["Paris"], "reading": {"9": 0.6, "8": 0.4}},
    {"contains": ["mumble"], "reading": {"5": 0.0001}},
    {"contains": [], "reading": {"5": 0.75, "6": 0.25}},
]
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    path = tmp_path / "recorded.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in ANSWERS), encoding="utf-8")
    return path


@pytest.fixture
def client(answers: Path) -> Iterator[TestClient]:
    config = JudgeServerConfig(
        host="127.0.0.1", port=1, entrypoint="app.py", domain="rlhf", name="judge",
        options={"engine": f"recorded:{answers}", "judge_mode": "direct", "scale": "raw", "resolution": 0},
    )  # fmt: skip
    server = JudgeResourcesServer(config=config, server_client=MagicMock(spec=ServerClient))
    with TestClient(server.setup_webserver()) as client:
        yield client


def response(text: str) -> dict[str, Any]:
    return {
        "id": "r", "created_at": 0.0, "model": "m", "object": "response", "parallel_tool_calls": False,
        "tool_choice": "auto", "tools": [],
        "output": [
            {"id": "t", "type": "reasoning", "summary": [{"type": "summary_text", "text": "I think."}]},
            {"id": "m", "type": "message", "role": "assistant", "status": "completed",
             "content": [{"type": "output_text", "text": text, "annotations": []}]},
        ],
    }  # fmt: skip


def verified(client: TestClient, text: str, **fields: Any) -> dict[str, Any]:
    body = {"responses_create_params": {"input": QUESTION}, "response": response(text), **fields}
    answer = client.post("/verify", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_rollout_is_rated(client: TestClient) -> None:
    found = verified(client, "Paris", verifier_metadata={"id": 7})
    assert found["reward"] == pytest.approx(8.6)
    assert found["verifier_metadata"] == {"id": 7}
    assert found["response"]["output"][1]["content"][0]["text"] == "Paris"
    assert "_ng_failure_class" not in found


def test_a_failure_is_kept_out_of_the_results(client: TestClient) -> None:
    found = verified(client, "mumble")
    assert (found["reward"], found["_ng_failure_class"], found["mask_sample"]) == (0.0, "judge_failed", True)


def test_rollouts_of_a_prompt_are_compared(client: TestClient, answers: Path) -> None:
    body = {"conversation_history": QUESTION, "response_objs": [response("Paris"), response("Berlin")]}
    answer = client.post("/compare", json=body)
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["rewards"]
    judge = Judge.load("mini", mode="direct", engine=f"recorded:{answers}", guard=True)
    (pair,) = judge.compare([QUESTION], ["Paris"], ["Berlin"])
    assert first + second == pytest.approx(1.0)
    assert answer.json()["metrics"]["failure_share"] == 0.0
    assert pair.win_prob == pytest.approx(0.5)
