# SPDX-License-Identifier: Apache-2.0
"""The reward server: in this process, and as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import REPO

pytest.importorskip("fastapi", reason="needs the reward server: the serve extra")
pytest.importorskip("uvicorn", reason="needs the reward server: the serve extra")

from starlette.testclient import TestClient

from autoj_reward.engines import Engine
from autoj_reward.judge.judge import Judge
from autoj_reward.serve.app import make_app
from autoj_reward.serve.settings import ServeSettings

ANSWERS = [
    {"contains": ["Paris"], "reading": {"9": 0.6, "8": 0.4}},
    {"contains": ["mumble"], "reading": {"5": 0.0001}},
    {"contains": ["Response 1"], "reading": {"Response 1": 0.5, "Response 2": 0.3, "Tie": 0.2}},
    {"contains": [], "reading": {"5": 0.75, "6": 0.25}},
]
Serve = Callable[..., TestClient]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Answers for a recorded engine."""
    path = tmp_path / "recorded.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in ANSWERS), encoding="utf-8")
    return path


@pytest.fixture
def judge(recorded: Path) -> Judge:
    """The judge that a server answers like."""
    return Judge.load("mini", mode="direct", engine=f"recorded:{recorded}")


@pytest.fixture
def serve(recorded: Path) -> Iterator[Serve]:
    """Start a server in this process; wait until its judge is loaded."""
    with contextlib.ExitStack() as stack:

        def start(engine: Engine | str | None = None, *, wait: bool = True, **settings: Any) -> TestClient:
            judge = Judge.load("mini", mode="direct", engine=engine or f"recorded:{recorded}")
            app, _ = make_app(judge, ServeSettings(**{"drain_seconds": 5.0, **settings}))
            client = stack.enter_context(
                TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
            )
            ends = time.monotonic() + 20
            while wait and client.get("/ready").status_code != 200 and time.monotonic() < ends:
                time.sleep(0.01)
            return client

        yield start


@dataclass
class Process:
    """A server in its own process."""

    url: str
    popen: subprocess.Popen[str]

    def stop(self, timeout: float = 30.0) -> tuple[int, str]:
        """End it with SIGTERM; its exit status, and all it wrote to standard error."""
        self.popen.terminate()
        _, told = self.popen.communicate(timeout=timeout)
        return self.popen.returncode, told


def started(command: list[str], **environment: str) -> Process:
    """Run a command that prints the server's address, and wait until its judge is loaded."""
    popen = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert popen.stdout is not None
    url = popen.stdout.readline().strip()
    assert url.startswith("http://"), popen.communicate()[1]
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/ready", trust_env=False).status_code == 200:
                return Process(url, popen)
        time.sleep(0.05)
    raise AssertionError(popen.communicate()[1])


@pytest.fixture
def process(recorded: Path) -> Iterator[Callable[..., Process]]:
    """Start a server over the paced engine in a process of its own."""
    running: list[Process] = []

    def start(*options: str, **environment: str) -> Process:
        command = [sys.executable, str(REPO / "benchmarks" / "paced_server.py"), str(recorded), *options]
        running.append(started(command, **environment))
        return running[-1]

    yield start
    for one in running:
        if one.popen.poll() is None:
            one.popen.kill()
            one.popen.communicate()
