# SPDX-License-Identifier: Apache-2.0
"""A trainer that is killed while it trains leaves no process of its judge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.conftest import REPO
from tests.engines.local_server.test_engine import marked

pytest.importorskip("trl", reason="needs TRL: ./setup mini trl")

pytestmark = pytest.mark.slow


def test_a_killed_trainer_leaves_no_process_after_30_seconds(tiny_policy: Path, tmp_path: Path) -> None:
    marker = f"AUTOJ_REWARD_TEST={uuid.uuid4()}"
    name, _, value = marker.partition("=")
    environment = {
        **os.environ,
        name: value,
        "AUTOJ_REWARD_RUNTIME": str(tmp_path / "runtime"),
        "PYTHONPATH": os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integrations.killed_trainer", str(tiny_policy), str(tmp_path)],
        cwd=REPO, env=environment, stdout=subprocess.PIPE, text=True,
    ) as trainer:  # fmt: skip
        try:
            assert trainer.stdout is not None
            heard: dict[str, int] = {}
            while heard.get("calls", 0) < 2:
                line = trainer.stdout.readline()
                assert line, "the trainer ended by itself"
                heard = json.loads(line) if line.startswith("{") else heard
            assert heard["owner"] == trainer.pid
            # The trainer, and at least a supervisor and a server.
            assert len(marked(marker)) >= 3
            os.kill(trainer.pid, signal.SIGKILL)
            end = time.monotonic() + 30
            trainer.wait()
            while marked(marker) and time.monotonic() < end:
                time.sleep(0.1)
            assert not marked(marker)
        finally:
            trainer.kill()
            for pid in marked(marker):
                os.kill(pid, signal.SIGKILL)
