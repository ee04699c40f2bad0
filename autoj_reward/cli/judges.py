# SPDX-License-Identifier: Apache-2.0
"""`judges`: list the presets and what they need."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from autoj_reward.cli.display import table_console
from autoj_reward.cli.options import AsJson
from autoj_reward.console import escape
from autoj_reward.errors import ConfigError
from autoj_reward.json_text import json_text

_FIELDS = (
    "name", "model", "description", "licence", "source", "languages", "context_tokens", "memory_gib",
    "default_mode", "notes",
)  # fmt: skip


def judges(
    as_json: AsJson = False,
    show: Annotated[str | None, typer.Option(metavar="NAME", help="Print a preset's file.")] = None,
) -> None:
    """List the judges that ship with the package, and what they need."""
    if show is not None:
        from autoj_reward.judge.presets import preset_names
        from autoj_reward.judge.spec import read_text

        if show not in preset_names():
            raise ConfigError(f"the preset {show!r} is unknown", hint=", ".join(preset_names()))
        typer.echo(read_text(f"{show}.toml", None).rstrip())
        return
    from autoj_reward.judge.presets import list_presets

    presets = list_presets()
    if as_json:
        records = [
            {name: getattr(p, name) for name in _FIELDS}
            | {"rates": p.rating is not None, "compares": p.comparison is not None}
            for p in presets
        ]
        typer.echo(json_text(records, indent=1))
        return
    console = table_console()
    table = Table()
    for name in ("judge", "what it is", "model", "memory", "context", "mode"):
        table.add_column(name, overflow="fold")
    for p in presets:
        table.add_row(
            escape(p.name),
            escape(p.description),
            escape(p.model),
            f"{p.memory_gib:g} GiB" if p.memory_gib else "the model's",
            f"{p.context_tokens:,}" if p.context_tokens else "the model's",
            p.default_mode,
        )
    console.print(table)
    for p in presets:
        if p.notes:
            console.print(f"[bold]{escape(p.name)}[/bold]: {escape(p.notes)}")
