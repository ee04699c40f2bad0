# SPDX-License-Identifier: Apache-2.0
"""All commands under one roof."""

from __future__ import annotations

from typing import Annotated

import typer

import autoj_reward
from autoj_reward.cli import (
    cache,
    classifying,
    data,
    evaluating,
    evaluating_coherence,
    evaluating_critiques,
    evaluating_selection,
    judges,
    judging,
    labelling,
    monitoring,
    probing,
    reporting,
    rescore,
    reward_server,
    serving,
    training,
)

app = typer.Typer(
    name="autoj-reward",
    help="A generative LLM judge as a reward: rate, compare, rerank and label completions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(judging.rate)
app.command()(judging.compare)
app.command()(judging.rerank)
app.command()(labelling.label)
app.command()(rescore.rescore)
app.command()(reward_server.serve)
app.command()(serving.serve_judge)
app.command()(training.train_judge)
app.command()(training.calibrate)
app.command()(probing.probe)
app.command()(reporting.report)
app.command()(monitoring.monitor)
app.command()(judges.judges)
app.command()(classifying.classify)
app.command()(classifying.scenarios)
app.add_typer(cache.app, name="cache")
evaluating.app.command()(evaluating_selection.selection)
evaluating.app.command()(evaluating_critiques.critique)
evaluating.app.command()(evaluating_coherence.coherence)
evaluating.app.command(name="scenario")(classifying.evaluate_scenario)
app.add_typer(data.app, name="data")
app.add_typer(evaluating.app, name="evaluate")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"autoj-reward {autoj_reward.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """A generative LLM judge as a reward: rate, compare, rerank and label completions."""
