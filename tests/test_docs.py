# SPDX-License-Identifier: Apache-2.0
"""The pages that people read: they build, their commands exist, their code runs, and they say what the code says."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

import autoj_reward
from autoj_reward.cli.app import app
from autoj_reward.judge.guard.guard import FLAGS, Guard
from autoj_reward.judge.presets import load_spec, preset_names
from autoj_reward.judge.spec import JudgeSpec, Thinking
from autoj_reward.monitor.monitor import Thresholds
from autoj_reward.types import Sampling
from tests.conftest import REPO

DOCS = sorted((REPO / "docs").glob("*.md"))
CARD = REPO / "autoj_reward" / "engines" / "adapters" / "mini" / "README.md"
PAGES = [*DOCS, REPO / "README.md", REPO / "CONTRIBUTING.md", REPO / "benchmarks" / "LOG.md", CARD]
API = (REPO / "docs" / "api.md").read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return str(path.relative_to(REPO))


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
        alone = getattr(command, "invoke_without_command", False) and (words[1:2] or ["-"])[0].startswith("-")
        if hasattr(command, "commands") and not alone:
            command = command.commands[words[1]]
        known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
        for option in (w.split("=")[0] for w in words if w.startswith("-") and len(w) > 1):
            assert option in known


@pytest.mark.parametrize("name", ["cache", "criteria", "guard", "monitor", "panels"])
@pytest.mark.slow
def test_python_runs(name: str, tmp_path: Path) -> None:
    """The other pages' code is run by the tests of what they describe."""
    for code in blocks(REPO / "docs" / f"{name}.md", "python"):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        for said in re.findall(r"print\(.*?\) +# (.+)", code):
            assert said in done.stdout


def test_every_judge_file_loads(tmp_path: Path) -> None:
    """Blocks without `extends` are parts of a file that extends the general judge."""
    path = tmp_path / "my_judge.toml"
    head = 'extends = "general"\nname = "mine"\nmodel = "org/mine"\n'
    specs = []
    for text in blocks(REPO / "docs" / "judges.md", "toml"):
        path.write_text(text if text.startswith(("extends", "#")) else head + text, encoding="utf-8")
        specs.append(load_spec(str(path)))
    (spec,) = (s for s in specs if s.name == "my-judge")
    assert spec.model == "Qwen/Qwen3-8B"
    assert spec.thinking is not None
    assert spec.rating is not None
    assert spec.rating.verdicts.texts == ("1", "2", "3", "4", "5")


def test_every_key_of_a_judge_file_is_explained() -> None:
    page = (REPO / "docs" / "judges.md").read_text(encoding="utf-8")
    keys = {f.name for record in (JudgeSpec, Sampling, Thinking) for f in fields(record)} - {"direct_wrapper"}

    def collect(table: dict[str, Any]) -> None:
        for key, value in table.items():
            keys.add(key)
            # What is in these tables are names of the judge's own.
            if isinstance(value, dict) and key not in (
                "fields",
                "blocks",
                "written",
                "values",
                "also",
                "engine_options",
            ):
                collect(value)

    folder = REPO / "autoj_reward" / "judge" / "templates"
    for name in preset_names():
        source = tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8"))
        for table in ("wrapper", "translations"):
            inner = source.pop(table, {})
            keys.update([table] if inner else [], [] if table == "translations" else inner)
        keys.discard("enable_thinking")
        collect(source)
    for key in sorted(keys - {"low", "high", "step"}):
        assert f"`{key}`" in page or f"`[{key}]`" in page, key


def test_every_flag_switch_and_threshold_is_explained() -> None:
    guard = (REPO / "docs" / "guard.md").read_text(encoding="utf-8")
    for name in (*FLAGS, *(f.name for f in fields(Guard))):
        assert f"`{name}" in guard or f"{name}=" in guard, name
    monitor = (REPO / "docs" / "monitor.md").read_text(encoding="utf-8")
    for f in fields(Thresholds):
        assert f"`{f.name}`" in monitor
        assert f"{f.default:g}" in monitor  # type: ignore[str-format]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folders = "autoj_reward|benchmarks|docs|examples|integrations|tests"
    for path in re.findall(rf"`((?:{folders})/[\w./-]*[\w/])[ `]", text):
        assert (REPO / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, target


def test_every_public_name_is_in_the_reference() -> None:
    shown = set(re.findall(r"^::: (autoj_reward[\w.]*)$", API, re.MULTILINE))
    missing = [n for n in autoj_reward.__all__ if f"autoj_reward.{n}" not in shown]
    assert missing == []
    assert "autoj_reward.integrations.client.JudgeClient" in shown
    for trainer in ("verl", "openrlhf", "ray"):
        assert f"autoj_reward.integrations.{trainer}" in shown


@pytest.mark.skipif(
    importlib.util.find_spec("material") is None, reason="needs mkdocs-material: the extra `docs`"
)
@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=REPO, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
    for name in autoj_reward.__all__:
        assert f'id="autoj_reward.{name}"' in reference, name
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(
            r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?))"', page.read_text(encoding="utf-8")
        )
        assert loaded == [], page
