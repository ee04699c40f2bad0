# SPDX-License-Identifier: Apache-2.0
"""A reward server in a process of its own, and the judge that it has to agree with."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the reward server: the serve extra")

from autoj_reward.judge.judge import Judge
from tests.conftest import REPO
from tests.serve.conftest import ANSWERS, Process, started

TOKEN = "0123456789abcdef-token"


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("answers") / "recorded.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in ANSWERS), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def server(answers: Path) -> Iterator[Process]:
    """Asks for a token; clients find it in the environment, as trainers would."""
    script = str(REPO / "benchmarks" / "paced_server.py")
    process = started([sys.executable, script, str(answers), "--seconds", "0.002"], AUTOJ_REWARD_TOKEN=TOKEN)
    yield process
    process.stop()


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOJ_REWARD_TOKEN", TOKEN)


@pytest.fixture
def judge(answers: Path) -> Judge:
    return Judge.load("mini", mode="direct", engine=f"recorded:{answers}")
