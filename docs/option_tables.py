# SPDX-License-Identifier: Apache-2.0
"""MkDocs hook: fill `docs/commands.md` with a table of every command's options, from the program itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

MARK = "<!-- options -->"


def commands(group: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its full name, such as `evaluate pairwise`."""
    if group is None:
        from autoj_reward.cli.app import app

        group = typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        if not hasattr(command, "commands") or command.invoke_without_command:
            yield f"{prefix}{name}", command


def option_tables() -> str:
    """A heading, the first line of the help and a table for each command."""
    parts = []
    for name, command in commands():
        context = typer.Context(command)
        rows = [p.get_help_record(context) for p in command.params if not getattr(p, "hidden", False)]
        lines = [f"| `{_cell(row[0])}` | {_cell(row[1])} |" for row in rows if row]
        summary = (command.help or "").partition("\n")[0]
        parts += [f"### {name}", "", summary, "", "| option | meaning |", "|---|---|", *lines, ""]
    return "\n".join(parts)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Replace the mark in the page of the commands."""
    return markdown.replace(MARK, option_tables()) if page.file.src_uri == "commands.md" else markdown


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
