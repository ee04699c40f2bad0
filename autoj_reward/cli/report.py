# SPDX-License-Identifier: Apache-2.0
"""`report`: write an HTML report about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoj_reward.cli.display import note
from autoj_reward.cli.options import AsJson, Quiet
from autoj_reward.errors import ConfigError


def report(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="What rate, compare, rerank or label wrote (.jsonl, .parquet), what `evaluate ... --json`, "
            "`probe -o` or `monitor --json` gave (.json), or a trainer's log (rows with a step, a folder "
            "like output_dir/completions, trainer_state.json).",
            show_default=False,
        ),
    ],
    other: Annotated[
        str | None,
        typer.Argument(metavar="OTHER", help="A second run over the same rows, to compare with."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT.html", help="By default RUN.html, or RUN-OTHER.html."),
    ] = None,
    gold: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="Field with the gold label: a number (rate), a preference or 0, 1, 2 (compare), a list of "
            "numbers, one for each completion (rerank).",
        ),
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Group rows by a field: scenario, source, ...")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--png", metavar="FOLDER", help="Also each chart as an image; needs the extra `report`."
        ),
    ] = None,
    most_rows: Annotated[
        int, typer.Option("--rows", min=0, metavar="N", help="At most N rows to browse on the page.")
    ] = 500,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write one self-contained HTML page about a run, or about two runs side by side.

    The page needs no network. It lets you search, sort and open judgments, and holds its figures as JSON.
    """
    from autoj_reward.reporting.build import build_report
    from autoj_reward.reporting.page import embedded_json, page

    target = output or Path(f"{run}.html" if other is None else f"{run}-{Path(other).name}.html")
    for name in (run, other):
        if name is not None and target.exists() and target.resolve() == Path(name).resolve():
            raise ConfigError(f"{target} is the run itself")
    made = build_report(run, other, gold=gold, group=group, most_rows=most_rows)
    try:
        target.write_text(page(made), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error}") from error
    if images is not None:
        from autoj_reward.reporting.images import write_images

        names = write_images(made, images)
        if not quiet:
            note(f"{len(names)} images in {images}")
    if as_json:
        typer.echo(embedded_json(made.as_record()))
    elif not quiet:
        note(f"{target}: {len(made.parts)} figures ({', '.join(p.id for p in made.parts)})")
