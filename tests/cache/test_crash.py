# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

DRILL = Path(__file__).resolve().parents[2] / "benchmarks" / "cache_crash.py"


def test_killed_processes_lose_nothing_that_was_acknowledged() -> None:
    done = subprocess.run(
        [sys.executable, DRILL, "--short"], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["kills"] == 12
    assert figures["records"] > 100
    assert figures["acknowledged"] > figures["acknowledged_inputs"] > 100
    for wrong in ("damaged", "lost", "changed", "asked_again_after_acknowledgement"):
        assert figures[wrong] == 0
    assert figures["errors"] == []
    # A kill loses the chunk in flight, and nothing else is ever paid for twice.
    assert figures["asked_twice_because_of_a_kill"] <= 12 * 16
