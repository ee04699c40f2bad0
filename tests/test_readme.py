# SPDX-License-Identifier: Apache-2.0
"""What the README says is what happens: its commands exist, its code runs, its judge loads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autoj_reward.judge.presets import load_spec
from tests.conftest import REPO

README = (REPO / "README.md").read_text(encoding="utf-8")
CI = (REPO / ".ci" / "run").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


COMMANDS = sorted({line.split("#")[0].strip() for b in blocks("bash")[2:] for line in b.splitlines() if line})


def test_the_first_two_commands_are_what_ci_runs() -> None:
    first, second = (block.strip() for block in blocks("bash")[:2])
    assert (first, second) == ("./quickstart", "./test")
    for command in (first, second):
        assert f"\n{command}\n" in CI
        assert os.access(REPO / command, os.X_OK)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_and_their_options_exist(command: str) -> None:
    words = command.split()
    assert words[0] == "autoj-reward"
    names = words[1:3] if words[1] in ("evaluate", "cache", "data") else words[1:2]
    shown = subprocess.run(
        [sys.executable, "-m", "autoj_reward.cli", *names, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    for option in (w for w in words if re.fullmatch(r"--[a-z-]+", w)):
        assert option in shown.stdout


def test_python_code_runs() -> None:
    code, trainer = blocks("python")
    compile(trainer, "README.md", "exec")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *ratings, comparison, best = done.stdout.strip().splitlines()
    assert [line.split()[-1] for line in ratings] == ["None", "None"]
    assert 0.0 <= float(comparison.split()[0]) <= 1.0
    assert best in code


def test_the_judge_file_loads(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    path = tmp_path / "my_judge.toml"
    path.write_text(text, encoding="utf-8")
    spec = load_spec(str(path))
    assert spec.model == "Qwen/Qwen3-8B"
    assert spec.thinking is not None
    assert spec.rating is not None
    assert spec.rating.verdicts.texts == ("1", "2", "3", "4", "5")


@pytest.mark.parametrize("path", re.findall(r"`((?:benchmarks|examples|tests)/[\w./]+)`", README))
def test_files_that_are_named_are_there(path: str) -> None:
    assert (REPO / path).exists()
