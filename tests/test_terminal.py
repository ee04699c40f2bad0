# SPDX-License-Identifier: Apache-2.0
"""Text of others reaches a terminal as text: no escape sequence, no change of direction, no markup."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import pickle
import pty
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from rich.table import Table

from autoj_reward.cli import display
from autoj_reward.errors import DataError, EngineRejected
from autoj_reward.evaluate.report import ReportTable
from autoj_reward.reporting.escaping import shown
from tests.hostile import hostile_text

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = "a\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnp.exe\u2066\r\x00\x7f\ud800[bold]b[/bold]"


def obeyed(text: str) -> list[str]:
    """What a terminal would act on, and not show."""
    return [c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")] + [
        c
        for c in text
        if unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    ]


def test_the_words_of_an_error_can_be_printed() -> None:
    for error in (
        EngineRejected(f"the server said: {HOSTILE}", hint=HOSTILE),
        DataError(HOSTILE, path=f"{HOSTILE}.jsonl", line=3, field=HOSTILE),
    ):
        assert obeyed(str(error)) == []
        assert "[bold]b[/bold]" in str(error)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_notes_and_problems_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    display.note(f"the model {HOSTILE} is left out")
    display.print_problems([DataError(HOSTILE, path="in.jsonl", line=1)])
    written = capsys.readouterr().err
    assert obeyed(written) == []
    assert "\\x1b[2J" in written


def test_tables_show_foreign_text_letter_by_letter(capsys: pytest.CaptureFixture[str]) -> None:
    table = ReportTable(title=HOSTILE, columns=[HOSTILE, "n"], sections=[[[HOSTILE, "1"]]], notes=[HOSTILE])
    display.print_tables([table])
    display.print_tables([table], markdown=True)
    written = capsys.readouterr().out
    assert obeyed(written) == []
    assert written.count("[bold]b[/bold]") >= 4


def test_a_console_obeys_no_text_even_if_it_is_not_escaped() -> None:
    from autoj_reward.console import Console

    for forced in (False, True):
        file = io.StringIO()
        console = Console(file=file, width=200, force_terminal=forced, color_system=None)
        table = Table(title=HOSTILE, caption=HOSTILE)
        table.add_column(HOSTILE)
        table.add_row(HOSTILE.replace("[", "("))
        console.print(table)
        console.print(HOSTILE, soft_wrap=True)
        assert obeyed(file.getvalue().replace("\x1b[0m", "").replace("\x1b[1m", "")) == []


def test_log_records_can_be_printed(caplog: pytest.LogCaptureFixture) -> None:
    import autoj_reward  # noqa: F401 - its loggers are what is tested

    with caplog.at_level(logging.WARNING, "autoj_reward"):
        logging.getLogger("autoj_reward").warning("%s is left out: %d", HOSTILE, 3)
    assert obeyed(caplog.messages[0]) == []
    assert caplog.messages[0].endswith(": 3")


@given(text=hostile_text)
def test_a_page_shows_foreign_text_and_obeys_none(text: str) -> None:
    assert obeyed(shown(text)) == []
    assert "<" not in shown(text)


@given(text=hostile_text)
def test_any_text_becomes_printable_once_and_stays_so(text: str) -> None:
    from autoj_reward.terminal import printable

    safe = printable(text)
    assert obeyed(safe) == []
    assert printable(safe) == safe
    safe.encode()


@pytest.mark.parametrize(
    "text", ["مرحبا \u200fC++\u200e", "क्\u200dष", "👨‍👩‍👧", "e\u0301", "a\tb\nc", "naïve 中文"]
)
def test_honest_text_of_any_script_stays(text: str) -> None:
    from autoj_reward.terminal import printable

    assert printable(text) == text


def test_only_the_safe_console_and_its_escape_are_used() -> None:
    """A console of rich's own would pass escape sequences on."""
    for folder in ("autoj_reward", "integrations"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and path.name != "console.py":
                    assert node.module not in ("rich.console", "rich.markup") or {
                        a.name for a in node.names
                    } <= {
                        "Group",
                        "RenderableType",
                    }, path


@pytest.mark.slow
def test_a_commands_error_on_a_terminal_holds_no_escape_sequence(tmp_path: Path) -> None:
    """A field's name comes from the file, and the message quotes it."""
    rows = tmp_path / "in.jsonl"
    rows.write_text(json.dumps({"prompt": "Q", "completion": {"\x1b[31m": "\x9b2J"}}) + "\n")
    judge = tmp_path / "judge.toml"
    judge.write_text('name = "m"\nmodel = "m"\n"\\u001b[2J" = 1\n')
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "autoj_reward.cli", "rate", str(rows), "-o", str(tmp_path / "o.jsonl"), "--judge", str(judge)],
        stdout=theirs, stderr=theirs, check=False,
    )  # fmt: skip
    os.close(theirs)
    written = os.read(ours, 1 << 16).decode("utf-8", "replace")
    os.close(ours)
    assert done.returncode == 2
    assert "x1b[2J is not a setting" in written
    assert obeyed(written.replace("\r\n", "\n")) == []
