# SPDX-License-Identifier: Apache-2.0
"""`calibrate`: fit a temperature to each verdict set on held-out rows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from autoj_reward.cli.display import note, table_console
from autoj_reward.cli.options import (
    AsJson,
    CacheOptions,
    Columns,
    FormatName,
    JudgeOptions,
    Limit,
    LimitOptions,
    Quiet,
    with_options,
)
from autoj_reward.cli.shared.judging import input_rows, judge_in_chunks
from autoj_reward.errors import ConfigError
from autoj_reward.json_text import json_text

if TYPE_CHECKING:
    from autoj_reward.training.panel_weights import WeightFit


@with_options(JudgeOptions, CacheOptions, LimitOptions)
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
    limits: LimitOptions,
) -> None:
    """Fit a temperature to a judge's verdicts, and print its calibration error before and after.

    Copy the printed lines into the judge's TOML file, into its table rating or comparison. Of a panel, its
    members' weights are fitted instead; they go into the panel's file.
    """
    from rich.table import Table

    from autoj_reward.cli.run import load_judge
    from autoj_reward.judge.panels.panel import Panel
    from autoj_reward.training.calibration import LEAST_ROWS, judge_labelled, labelled_rows
    from autoj_reward.training.calibration import calibrate as fit
    from autoj_reward.training.panel_weights import fit_panel

    read = input_rows(data, ("compare", "rate"), format_name=format_name, limit=limit, column=column)
    rows = labelled_rows(read, path=data)
    found = []
    fitted: list[WeightFit] = []
    with load_judge(judging, caching.for_judge()) as judge:
        kinds = ((1, "ratings", judge.spec.rating), (2, "comparisons", judge.spec.comparison))
        parts = [
            (name, protocol, chosen)
            for n, name, protocol in kinds
            if (chosen := [r for r in rows if len(r.completions) == n]) and protocol is not None
        ]
        if isinstance(judge, Panel) and (judge.panel_spec.rule != "mean" or len(judge.members) < 2):
            raise ConfigError(
                f"weights are fitted to a panel of two members or more with the rule mean, and "
                f"{judging.judge!r} has {len(judge.members)} and the rule {judge.panel_spec.rule}"
            )
        if not parts:
            raise ConfigError(f"{data} has no rows that judge {judging.judge!r} can judge")
        for name, _, chosen in parts:
            if len(chosen) < LEAST_ROWS:
                raise ConfigError(f"{data} has {len(chosen)} {name}; a fit needs at least {LEAST_ROWS}")
        spent = limits.spending(judge, caching)
        for name, protocol, chosen in parts:
            ask = functools.partial(judge_labelled, judge)
            judgments = judge_in_chunks(judge, f"calibrate, {name}", chosen, ask, quiet=quiet, spent=spent)
            labels = [r.label for r in chosen]
            if "tie" in protocol.verdicts.verdicts and "tie" not in labels:
                note(f"none of the {len(labels):,} {name} is a tie: the fit suits rows without ties")
            if isinstance(judge, Panel):
                fitted.append(fit_panel(judgments, labels))
            else:
                found.append(fit(judgments, labels, own=protocol.verdicts.temperature))
    if as_json:
        typer.echo(json_text([*map(asdict, found), *map(asdict, fitted)], indent=1))
        return
    if fitted:
        _print_weights(fitted)
        return
    table = Table(
        caption="error: expected calibration error, after: under the other half's fit", caption_justify="left"
    )
    for name in (
        "protocol",
        "n",
        "left out",
        "accuracy",
        "error before",
        "after",
        "log loss before",
        "after",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for c in found:
        errors = [f"{e.value:.3f} ({e.low:.3f}-{e.high:.3f})" for e in (c.error_before, c.error_after)]
        losses = [f"{value:.3f}" for value in c.log_loss]
        table.add_row(c.protocol, f"{c.n:,}", f"{c.n_left_out:,}", f"{c.accuracy:.1%}", *errors, *losses)
    console = table_console(to_stderr=True)
    console.print(table)
    for c in found:
        typer.echo(f"[{c.protocol}]\ntemperature = {c.temperature:.3f}")


def _print_weights(fitted: Sequence[WeightFit]) -> None:
    """A table of what the weights change, and the lines for the panel's file."""
    from rich.table import Table

    from autoj_reward.console import escape

    table = Table(
        caption="after: each fifth of the rows under the others' weights; error: expected calibration error",
        caption_justify="left",
    )
    for name in ("protocol", "n", "left out", "who", "accuracy", "kappa", "error", "log loss"):
        table.add_column(name, justify="right", no_wrap=True)
    for fit in fitted:
        rows = {**fit.alone, "before": fit.before, "after": fit.after}
        for who, one in rows.items():
            accuracy = f"{one.accuracy.value:.1%} ({one.accuracy.low:.1%}-{one.accuracy.high:.1%})"
            numbers = [f"{value:.3f}" for value in (one.kappa, one.error, one.log_loss)]
            table.add_row(fit.protocol, f"{fit.n:,}", f"{fit.n_left_out:,}", escape(who), accuracy, *numbers)
    table_console(to_stderr=True).print(table)
    for fit in fitted:
        typer.echo(f"# fitted to {fit.n:,} labels, {fit.protocol}")
        for name, weight in fit.weights.items():
            typer.echo(f"[[members]]\nname = {json_text(name)}\nweight = {weight:.3f}")
