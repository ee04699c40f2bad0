# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

DRILL = Path(__file__).resolve().parents[2] / "benchmarks" / "output_drill.py"


def test_two_writers_and_kills_leave_what_one_undisturbed_run_leaves() -> None:
    done = subprocess.run(
        [sys.executable, DRILL, "--rounds", "2", "--rows", "40", "--dry"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["rounds"] == 2
    assert {name: n for name, n in figures.items() if name.startswith("wrong") and n} == {}
