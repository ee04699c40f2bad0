# SPDX-License-Identifier: Apache-2.0
"""`judges`: list the presets and what they need, and add prompts that do not ship."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from autoj_reward.cli.display import note, table_console
from autoj_reward.cli.options import AsJson
from autoj_reward.cli.shared.grammar import command, command_group
from autoj_reward.errors import ConfigError
from autoj_reward.json_text import json_text

_FIELDS = (
    "name", "model", "description", "licence", "source", "languages", "context_tokens", "memory_gib",
    "default_mode", "notes",
)  # fmt: skip


app = command_group("", invoke_without_command=True, no_args_is_help=False)


@app.callback()
def judges(
    context: typer.Context,
    as_json: AsJson = False,
    show: Annotated[str | None, typer.Option(metavar="NAME", help="Print a preset's file.")] = None,
) -> None:
    """List the judges that ship with the package, and what they need."""
    from rich.table import Table

    from autoj_reward.console import escape

    if context.invoked_subcommand is not None:
        return
    if show is not None:
        from autoj_reward.judge.presets import preset_names, waiting_presets
        from autoj_reward.judge.spec import read_text

        names = [*preset_names(), *waiting_presets()]
        if show not in names:
            raise ConfigError(f"the preset {show!r} is unknown", hint=", ".join(sorted(names)))
        typer.echo(read_text(f"{show}.toml", None).rstrip())
        return
    from autoj_reward.judge.presets import list_presets, waiting_presets

    presets, waiting = list_presets(), waiting_presets()
    if as_json:
        records = [
            {name: getattr(p, name) for name in _FIELDS}
            | {"rates": p.rating is not None, "compares": p.comparison is not None}
            for p in presets
        ]
        records += [asdict(p) | {"needs_prompt": True} for p in waiting.values()]
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
    for w in waiting.values():
        console.print(
            f"[bold]{escape(w.name)}[/bold]: {escape(w.description)}. Its prompt does not ship: get "
            f"{escape(w.source)}, and run autoj-reward judges add FILE"
        )


@command(app)
def add(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Your copy of the prompt.", show_default=False)
    ],
) -> None:
    """Add the prompt of a preset that ships without it, after a check of its hash."""
    from autoj_reward.judge.added_prompts import add_prompt

    try:
        name, path = add_prompt(file)
    except OSError as error:
        raise ConfigError(
            f"the prompt cannot be kept: {error}",
            hint="set AUTOJ_REWARD_HOME to a folder that can be written",
        ) from error
    note(f"added {name} as {path}")
