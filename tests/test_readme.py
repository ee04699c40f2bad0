# SPDX-License-Identifier: Apache-2.0
"""The README stays short, its commands exist, and its code runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO

README = (REPO / "README.md").read_text(encoding="utf-8")
CI = (REPO / ".ci" / "run").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_it_is_read_in_a_minute() -> None:
    assert len(README.splitlines()) <= 130
    assert len(README.split()) <= 1500


def test_the_first_two_commands_are_what_ci_runs() -> None:
    first, second = (block.strip() for block in blocks("bash")[:2])
    assert (first, second) == ("./quickstart", "./test")
    for command in (first, second):
        assert f"\n{command}\n" in CI
        assert os.access(REPO / command, os.X_OK)


def test_every_command_has_a_line() -> None:
    from autoj_reward.cli.app import app

    names = {
        c.name or str(c.callback.__name__).replace("_", "-") for c in app.registered_commands if c.callback
    }
    names |= {str(group.name) for group in app.registered_groups}
    shown = {line.split()[1] for line in blocks("bash")[2].splitlines()}
    assert shown == names


def test_every_extra_is_named() -> None:
    import tomllib

    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in set(project["optional-dependencies"]) - {"docs"}:
        assert f"`{extra}`" in README, extra


@pytest.mark.slow
def test_python_code_runs(tmp_path: Path) -> None:
    _, code = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rating, win_prob, best = done.stdout.strip().splitlines()
    assert 1.0 <= float(rating) <= 10.0
    assert 0.5 < float(win_prob) <= 1.0
    assert best == "13 is a prime above ten."
