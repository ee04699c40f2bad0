# SPDX-License-Identifier: Apache-2.0
"""`evaluate coherence`: agreement between a judge's ratings and its own comparisons."""

from __future__ import annotations

from typing import Annotated

import typer

from autoj_reward.cli.display import print_facts, print_tables
from autoj_reward.cli.evaluate.pairwise import AsMarkdown
from autoj_reward.cli.options import AsJson, Limit, Quiet, one_input
from autoj_reward.json_text import json_text


def coherence(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="IN",
            help="What `autoj-reward compare` wrote; pairs of a prompt that share completions form triples.",
            show_default=False,
        ),
    ] = None,
    ratings: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="What `autoj-reward rate` wrote about the same completions, by the same judge.",
        ),
    ] = None,
    margin: Annotated[
        float, typer.Option(min=0.0, help="Ratings that differ by no more than this are equal.")
    ] = 0.0,
    limit: Limit = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
    quiet: Quiet = False,
    comparisons: Annotated[str | None, typer.Option("--comparisons", hidden=True)] = None,
) -> None:
    """How often a judge contradicts itself: ratings against comparisons, and comparisons in a circle."""
    from autoj_reward.evaluate.coherence import evaluate_coherence, read_compared, read_ratings

    compared = read_compared(one_input(source, comparisons))[:limit]
    known = None if ratings is None else read_ratings(ratings)
    report = evaluate_coherence(compared, known, margin=margin)
    if as_json:
        typer.echo(json_text(report.as_dict(), indent=1))
    else:
        print_tables([report.table()], markdown=as_markdown)
    if not quiet:
        failed = f"{report.n_unreadable:,} without a verdict" if report.n_unreadable else ""
        print_facts(f"evaluate coherence: {len(compared):,} comparisons", {"failed": failed})
