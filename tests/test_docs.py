# SPDX-License-Identifier: Apache-2.0
"""The pages under docs/: they build, their commands exist, their Python runs, and they say what the code says."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

from autoj_reward.cli.app import app
from autoj_reward.judge.guard import FLAGS, Guard
from autoj_reward.reward.monitor import Thresholds
from tests.conftest import REPO

PAGES = sorted((REPO / "docs").glob("*.md"))


def blocks(path: Path, language: str) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """Lines that call the program, joined where they go on, without comments."""
    lines = text.replace("\\\n", " ").splitlines()
    return [" ".join(line.split("#")[0].split()) for line in lines if line.startswith("autoj-reward ")]


COMMANDS = sorted({line for p in PAGES for b in blocks(p, "bash") for line in commands(b)})


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_their_options_exist(line: str) -> None:
    words = line.replace("[", " ").replace("]", " ").split()[1:]
    for first in words[0].split("|"):
        command: Any = typer.main.get_command(app).commands[first]  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            command = command.commands[words[1]]
        known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
        for option in (w.split("=")[0] for w in words if w.startswith("-") and len(w) > 1):
            assert option in known


@pytest.mark.parametrize("name", ["guard", "monitor"])
def test_python_runs(name: str) -> None:
    """The other pages' code is run by the tests of what they describe."""
    path = REPO / "docs" / f"{name}.md"
    for code in blocks(path, "python"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for said in re.findall(r"print\(.*?\) +# (.+)", code):
            assert said in done.stdout


def test_every_flag_switch_and_threshold_is_explained() -> None:
    guard = (REPO / "docs" / "guard.md").read_text(encoding="utf-8")
    for name in (*FLAGS, *(f.name for f in fields(Guard))):
        assert f"`{name}" in guard or f"{name}=" in guard, name
    monitor = (REPO / "docs" / "monitor.md").read_text(encoding="utf-8")
    for f in fields(Thresholds):
        assert f"`{f.name}`" in monitor
        assert f"{f.default:g}" in monitor  # type: ignore[str-format]


@pytest.mark.skipif(
    importlib.util.find_spec("material") is None, reason="needs mkdocs-material: the extra `docs`"
)
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=REPO, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
    for name in ("Judge", "Guard", "RatingJudgment", "win_prob", "Monitor", "FailureReason"):
        assert f"{name}</" in reference or f".{name}" in reference
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(
            r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?))"', page.read_text(encoding="utf-8")
        )
        assert loaded == [], page
