# SPDX-License-Identifier: Apache-2.0
"""The `autoj-reward` application: registers every command."""

from __future__ import annotations

from typing import Annotated

import typer

import autoj_reward
from autoj_reward.cli import (
    cache,
    calibrate,
    classify,
    compare,
    data,
    judges,
    label,
    monitor,
    probe,
    rate,
    report,
    rerank,
    rescore,
    rubrics,
    scenarios,
    serve,
    serve_judge,
    train_judge,
)
from autoj_reward.cli.evaluate import benchmark, coherence, critique, pairwise, scenario, selection
from autoj_reward.cli.shared.grammar import command, command_group

app = command_group(
    "A generative LLM judge as a reward: rate, compare, rerank and label completions.",
    name="autoj-reward",
    context_settings={"help_option_names": ["-h", "--help"]},
)
evaluate = command_group("Measure a judge against people.")
for function in (
    rate.rate, compare.compare, rerank.rerank, label.label, rescore.rescore, serve.serve,
    serve_judge.serve_judge, train_judge.train_judge, calibrate.calibrate, probe.probe, report.report,
    monitor.monitor, classify.classify, scenarios.scenarios,
):  # fmt: skip
    command(app)(function)
app.add_typer(cache.app, name="cache")
app.add_typer(judges.app, name="judges")
app.add_typer(rubrics.app, name="rubrics")
for function in (
    pairwise.pairwise, benchmark.benchmark, selection.selection, critique.critique, coherence.coherence,
):  # fmt: skip
    command(evaluate)(function)
command(evaluate, "scenario")(scenario.evaluate_scenario)
app.add_typer(data.app, name="data")
app.add_typer(evaluate, name="evaluate")


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
