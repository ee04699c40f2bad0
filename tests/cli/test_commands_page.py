# SPDX-License-Identifier: Apache-2.0
"""docs/commands.md: its commands do what it says, and it has every command and option."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import Result

from autoj_reward.errors import AutojRewardError
from tests.cli.conftest import RATINGS, Run, write_rows
from tests.conftest import REPO

PAGE = (REPO / "docs" / "commands.md").read_text(encoding="utf-8")


def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("option_tables", REPO / "docs" / "option_tables.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


COMMANDS = dict(hook().commands())
# They run until they are stopped, or need a network, a prompt or a full cache: tests of their own run them.
NOT_SHOWN = {"judges add", *(f"cache {name}" for name in ("verify", "prune", "export", "import", "merge"))}


def shown() -> list[tuple[str, list[str]]]:
    """Command lines of the page with the output lines below them."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ autoj-reward "):
                found.append((line.removeprefix("$ autoj-reward "), []))
            else:
                found[-1][1].append(line)
    return found


def name_of(line: str) -> str:
    return next(name for name in sorted(COMMANDS, key=len, reverse=True) if f"{line} ".startswith(f"{name} "))


def output_of(result: Result) -> str:
    """What the user sees; the program's entry point prints the package's errors."""
    error = f"error: {result.exception}" if isinstance(result.exception, AutojRewardError) else ""
    return result.stdout + result.stderr + error


def test_the_commands_do_what_the_page_says(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUTOJ_REWARD_TOKEN", raising=False)
    comparisons_first = sorted(RATINGS, key=lambda answer: answer["contains"] != ["Response 1"])
    write_rows(tmp_path / "recorded.jsonl", comparisons_first)
    for name, text in re.findall(r'^```json title="(.+?)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(text, encoding="utf-8")
    for line, expected in shown():
        # A classifier and the servers have another engine option.
        judges = {p.name for p in COMMANDS[name_of(line)].params} >= {"judge", "engine"}
        result = run(*shlex.split(line), judge=judges and not line.startswith("serve"), catch_exceptions=True)
        seen = output_of(result)
        fails = expected[0].lower().startswith("error: ")
        assert (result.exit_code == 0) != fails, f"{line}\n{seen}"
        for wanted in expected:
            pattern = re.escape(wanted).replace(re.escape("..."), ".*")
            assert re.search(f"^{pattern}", seen, re.MULTILINE), f"{line}\n{wanted}\n{seen}"


def test_every_command_is_shown_with_an_error() -> None:
    names = {name_of(line) for line, _ in shown()}
    assert names == COMMANDS.keys() - NOT_SHOWN


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
