# SPDX-License-Identifier: Apache-2.0
"""`data`: fetch published files, validate your own, build training rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from autoj_reward.cli import display
from autoj_reward.cli.options import AsJson, Columns, JudgeName, Quiet, key_values
from autoj_reward.cli.shared.grammar import command, command_group
from autoj_reward.errors import DataError
from autoj_reward.json_text import json_text

app = command_group("Fetch published data, check files, build training rows.")
_MOST_SHOWN = 20


@command(app)
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What: autoj.", show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Where; files keep their paths.")
    ] = Path("auto-j"),
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Only files that fit (testdata_*). Repeatable."),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="A mirror: URL/PATH instead of the origin.")
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", help="List the files, and fetch nothing.")] = False,
    quiet: Quiet = False,
) -> None:
    """Fetch published files of one commit, checked against their git blob ids; run it again to resume."""
    from autoj_reward.autoj.fetch import Fetched, load_catalogue
    from autoj_reward.autoj.fetch import fetch as fetch_files

    catalogue = load_catalogue(name)
    if list_only:
        for file in catalogue.chosen(only or ()):
            size = "?" if file.n_bytes is None else f"{file.n_bytes:,}"
            typer.echo(f"{file.blob} {size:>10} {file.path}")
        return
    tell: Callable[[str], None] = (lambda text: None) if quiet else display.note
    tell(f"{catalogue.repository} at {catalogue.commit}; licence: {catalogue.licence}")

    def report(fetched: Fetched) -> None:
        how = "already fetched" if fetched.there else f"{fetched.n_transferred:,} bytes"
        tell(f"{fetched.file.path}: {how}")

    done = fetch_files(catalogue, output, patterns=only or (), base_url=base_url, report=report)
    tell(f"{len(done)} files in {output}, all as published")


@command(app)
def validate(
    source: Annotated[str, typer.Argument(metavar="FILE", help="A file as for rate.", show_default=False)],
    format_name: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="By default recognised by the first row.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check every row of a file: Auto-J's formats, published ones, and rows for rate, compare and rerank.

    Exit status 1 if a row is wrong.
    """
    from autoj_reward.autoj.formats import validate as check
    from autoj_reward.rows.source import open_source

    found = check(open_source(source), format_name)
    if as_json:
        known = {
            "format": found.format,
            "n_rows": found.n_rows,
            "scenarios": dict(found.scenarios),
            "problems": [
                {"line": p.line, "field": p.field, "problem": Exception.__str__(p)} for p in found.problems
            ],
            "notes": list(found.notes),
        }
        typer.echo(json_text(known, indent=1))
    else:
        display.print_problems(found.problems[:_MOST_SHOWN])
        if (more := len(found.problems) - _MOST_SHOWN) > 0:
            display.note(f"and {more:,} more")
        if not quiet:
            for line in found.notes:
                display.note(line)
            scenarios = f", {len(found.scenarios)} scenarios" if found.scenarios else ""
            counts = f"{found.n_rows:,} rows{scenarios}, {len(found.problems):,} problems"
            typer.echo(f"{source}: {found.format}, {counts}")
    if found.problems:
        raise typer.Exit(1)


@command(app, "build-train")
def build_train(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="Rows: prompt, completion, rating; or prompt, first, second, preference; with critique.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="OUT.jsonl", help="The training rows.", show_default=False),
    ],
    judge: JudgeName = "autoj-13b",
    language: Annotated[
        str | None, typer.Option(help="For a judge with templates in several languages.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option(help="Leave out rows that are wrong, and say how many.")] = False,
    column: Columns = None,
    quiet: Quiet = False,
) -> None:
    """Training rows in Auto-J's format (usermsg, target_output, labels) from ratings and preferences."""
    from autoj_reward.autoj.training_rows import training_rows
    from autoj_reward.judge.presets import load_spec
    from autoj_reward.rows.output import write_rows
    from autoj_reward.rows.source import open_source

    made, problems = [], []
    columns = key_values(column, "--column")
    for row in training_rows(open_source(source), load_spec(judge), language=language, columns=columns):
        if isinstance(row, DataError):
            problems.append(row)
        else:
            made.append(row)
    if problems and not skip_bad:
        display.print_problems(problems[:_MOST_SHOWN])
        raise DataError(
            f"{len(problems):,} of {len(problems) + len(made):,} rows cannot be used",
            path=source,
            hint="correct them, or leave them out with --skip-bad",
        )
    write_rows(output, made)
    left_out = f", {len(problems):,} left out" if problems else ""
    if not quiet:
        display.note(f"{len(made):,} training rows{left_out} -> {output}")
