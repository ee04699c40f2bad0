# SPDX-License-Identifier: Apache-2.0
"""`calibrate`: fit a temperature to each verdict set on held-out rows."""

from __future__ import annotations

import functools
from dataclasses import asdict
from typing import Annotated

import typer

from autoj_reward.cli.display import table_console
from autoj_reward.cli.options import (
    AsJson,
    CacheOptions,
    Columns,
    FormatName,
    JudgeOptions,
    Limit,
    Quiet,
    with_options,
)
from autoj_reward.cli.shared.judging import input_rows, judge_in_chunks
from autoj_reward.errors import ConfigError
from autoj_reward.json_text import json_text


@with_options(JudgeOptions, CacheOptions)
def calibrate(
    data: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="Labelled rows: prompt, completion, rating; or prompt, first, second, preference; or pairs "
            "of a published format (docs/files.md).",
            show_default=False,
        ),
    ],
    limit: Limit = None,
    format_name: FormatName = None,
    column: Columns = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    *,
    judging: JudgeOptions,
    caching: CacheOptions,
) -> None:
    """Fit a temperature to a judge's verdicts, and print its calibration error before and after.

    Copy the printed lines into the judge's TOML file, into its table rating or comparison.
    """
    from rich.table import Table

    from autoj_reward.cli.run import load_judge
    from autoj_reward.training.calibration import LEAST_ROWS, judge_labelled, labelled_rows
    from autoj_reward.training.calibration import calibrate as fit

    read = input_rows(data, ("compare", "rate"), format_name=format_name, limit=limit, column=column)
    rows = labelled_rows(read, path=data)
    found = []
    with load_judge(judging, caching.for_judge()) as judge:
        kinds = ((1, "ratings", judge.spec.rating), (2, "comparisons", judge.spec.comparison))
        parts = [
            (name, protocol, chosen)
            for n, name, protocol in kinds
            if (chosen := [r for r in rows if len(r.completions) == n]) and protocol is not None
        ]
        if not parts:
            raise ConfigError(f"{data} has no rows that judge {judging.judge!r} can judge")
        for name, _, chosen in parts:
            if len(chosen) < LEAST_ROWS:
                raise ConfigError(f"{data} has {len(chosen)} {name}; a fit needs at least {LEAST_ROWS}")
        for name, protocol, chosen in parts:
            ask = functools.partial(judge_labelled, judge)
            judgments = judge_in_chunks(judge, f"calibrate, {name}", chosen, ask, quiet=quiet)
            own = protocol.verdicts.temperature
            found.append(fit(judgments, [r.label for r in chosen], own=own))
    if as_json:
        typer.echo(json_text([asdict(c) for c in found], indent=1))
        return
    table = Table(
        caption="error: expected calibration error, after: under the other half's fit", caption_justify="left"
    )
    for name in ("protocol", "n", "failed", "accuracy", "error before", "after", "log loss before", "after"):
        table.add_column(name, justify="right", no_wrap=True)
    for c in found:
        errors = [f"{e.value:.3f} ({e.low:.3f}-{e.high:.3f})" for e in (c.error_before, c.error_after)]
        losses = [f"{value:.3f}" for value in c.log_loss]
        table.add_row(c.protocol, f"{c.n:,}", f"{c.n_failed:,}", f"{c.accuracy:.1%}", *errors, *losses)
    console = table_console(to_stderr=True)
    console.print(table)
    for c in found:
        typer.echo(f"[{c.protocol}]\ntemperature = {c.temperature:.3f}")
