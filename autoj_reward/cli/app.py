# SPDX-License-Identifier: Apache-2.0
"""All commands under one roof."""

from __future__ import annotations

from typing import Annotated

import typer

import autoj_reward
from autoj_reward.cli import cache, evaluating, judges, judging, rescore, serving, training

app = typer.Typer(
    name="autoj-reward",
    help="A generative LLM judge as a reward: rate, compare and rerank completions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(judging.rate)
app.command()(judging.compare)
app.command()(judging.rerank)
app.command()(rescore.rescore)
app.command()(serving.serve_judge)
app.command()(training.train_judge)
app.command()(training.calibrate)
app.command()(judges.judges)
app.add_typer(cache.app, name="cache")
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
    """A generative LLM judge as a reward: rate, compare and rerank completions."""
