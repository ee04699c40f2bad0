# SPDX-License-Identifier: Apache-2.0
"""What the pages on ranking and labelling say is what happens."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from autoj_reward.cli.app import app
from tests.conftest import REPO

PAGES = {name: (REPO / "docs" / name).read_text(encoding="utf-8") for name in ("rerank.md", "label.md")}


def blocks(language: str) -> list[str]:
    pattern = rf"^```{language}\n(.*?)^```$"
    return [b for page in PAGES.values() for b in re.findall(pattern, page, re.MULTILINE | re.DOTALL)]


@pytest.mark.parametrize(
    "command",
    sorted({line.split("#")[0].strip() for b in blocks("bash") for line in b.splitlines() if line.strip()}),
)
def test_commands_and_their_options_exist(command: str) -> None:
    words = command.split()
    assert words[0] == "autoj-reward"
    names = [w for w in words[1:3] if re.fullmatch(r"[a-z][a-z-]*", w)]
    shown = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0
    for option in (w for w in words if re.fullmatch(r"--[a-z-]+", w)):
        assert option in shown.output


@pytest.mark.parametrize("code", blocks("python"), ids=list(PAGES))
@pytest.mark.slow
def test_python_code_runs(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("path", sorted({p for page in PAGES.values() for p in re.findall(r"`((?:benchmarks|tests)/[\w./]+)`", page)}))  # fmt: skip
def test_files_that_are_named_are_there(path: str) -> None:
    assert (REPO / path).exists()
