# SPDX-License-Identifier: Apache-2.0
"""`evaluate`: a judge against people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from autoj_reward.cli.display import table_console

if TYPE_CHECKING:
    from autoj_reward.evaluate.metrics import Share
    from autoj_reward.evaluate.pairwise import GroupScores, PairwiseReport

_COLUMNS = {
    "agreement": "agreement",
    "consistency": "consistency",
    "one_order": "one order",
    "swapped_order": "swapped",
    "combined": "combined",
    "decided": "decided",
}

app = typer.Typer(help="Measure a judge against people.", no_args_is_help=True)


@app.callback()
def evaluate() -> None:
    """Measure a judge against people."""


@app.command()
def pairwise(
    data: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Pairs that people judged, as in Auto-J's testdata_pairwise.jsonl.",
            show_default=False,
        ),
    ],
    predictions: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help='A judge\'s decisions: rows {"output": 0|1|2}, or what `autoj-reward compare` wrote.',
            show_default=False,
        ),
    ],
    swapped: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help='For rows {"output": ...}: the decisions on the swapped pairs; 0 is what was first then.',
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with intervals.")] = False,
) -> None:
    """Agreement, consistency and accuracy on pairs, overall and by scenario group, in percent."""
    from autoj_reward.evaluate.data import read_decisions, read_pairs
    from autoj_reward.evaluate.pairwise import evaluate_pairs

    report = evaluate_pairs(read_pairs(data), read_decisions(predictions, swapped))
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=1))
    else:
        _print(report)


def _print(report: PairwiseReport) -> None:
    console = table_console()
    table = Table(caption="percent", caption_justify="left")
    table.add_column("group", no_wrap=True)
    for name in ("n", *_COLUMNS.values()):
        table.add_column(name, justify="right", no_wrap=True)
    for name, scores in report.groups.items():
        _add(table, name, scores)
    table.add_section()
    _add(table, "Overall", report.overall)
    for name, bound in (("95% from", "low"), ("95% to", "high")):
        _add(table, name, report.overall, bound)
    table.add_section()
    for name, scores in report.baselines.items():
        _add(table, name, scores)
    console.print(table)
    console.print(f"ties: judge {report.tie_share[0]:.1%}, people {report.tie_share[1]:.1%}")
    if report.hard_flips is not None:
        n, second = report.hard_flips
        console.print(f"hard flips between the two orders: {n}, of them {second} for the second slot")
    if report.n_unreadable:
        console.print(f"{report.n_unreadable} pairs could not be read; they count as wrong, not as ties")


def _add(table: Table, name: str, scores: GroupScores, figure: str = "value") -> None:
    cells = []
    for column in _COLUMNS:
        score: Share | None = getattr(scores, column)
        cells.append("-" if score is None or score.n == 0 else f"{100 * getattr(score, figure):.2f}")
    table.add_row(name, str(scores.n), *cells)
