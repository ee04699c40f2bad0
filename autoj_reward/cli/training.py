# SPDX-License-Identifier: Apache-2.0
"""`train-judge` and `calibrate`: a judge of your own, and probabilities that mean what they say."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from autoj_reward.cli.display import note, table_console
from autoj_reward.cli.options import CacheOptions, JudgeOptions, with_options
from autoj_reward.console import escape
from autoj_reward.errors import ConfigError
from autoj_reward.extras import how_to_install
from autoj_reward.json_text import json_text

if TYPE_CHECKING:
    from autoj_reward.training.config import TrainConfig


def train_judge(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="A run as a TOML file, such as examples/train_mini.toml.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Instead of the file's output folder.", show_default=False),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Say what each stage would be trained on and how long it is, and stop."),
    ] = False,
    held_out: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.jsonl",
            help="Write the rows that training leaves aside, labelled as calibrate reads them, and stop.",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train a LoRA adapter for a judge, stage by stage; an interrupted run goes on where it was.

    Several processes or GPUs: torchrun --nproc-per-node N -m autoj_reward.cli train-judge CONFIG.
    """
    from autoj_reward.training.config import load_config

    if plan and held_out is not None:
        raise ConfigError("--plan is given together with --held-out")
    run = load_config(config, output=output)
    if held_out is not None:
        _write_held_out(run, held_out)
        return
    _need("torch", "transformers", "peft", "trl", "datasets")
    if plan:
        _print_plan(run)
        return
    from autoj_reward.training.recipe import train

    folder = train(run, quiet=quiet)
    note(f"the adapter is in {folder}; use it with --engine-option adapter={folder}")


@with_options(JudgeOptions, CacheOptions)
def calibrate(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Labelled rows: prompt, completion, rating; or prompt, first, second, preference.",
            show_default=False,
        ),
    ],
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The first N rows only.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with intervals.")] = False,
    *,
    judging: JudgeOptions,
    caching: CacheOptions,
) -> None:
    """Fit a temperature to a judge's verdicts, and say how well its probabilities hold before and after.

    What it prints goes into the judge's TOML file, in its table rating or comparison.
    """
    from autoj_reward.cli.judging import load_judge
    from autoj_reward.rows.source import open_source
    from autoj_reward.training.calibration import calibrate as fit
    from autoj_reward.training.calibration import judge_labelled, labelled_rows

    rows = labelled_rows(islice(open_source(data).rows(), limit), path=data)
    found = []
    with load_judge(judging, caching.for_judge()) as judge:
        for n, protocol in ((1, judge.spec.rating), (2, judge.spec.comparison)):
            chosen = [r for r in rows if len(r.completions) == n]
            if chosen and protocol is not None:
                labels = [r.label for r in chosen]
                own = protocol.verdicts.temperature
                found.append(fit(judge_labelled(judge, chosen), labels, own=own))
    if not found:
        raise ConfigError(f"{data} has no rows that judge {judging.judge!r} can judge")
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


def _print_plan(run: TrainConfig) -> None:
    from autoj_reward.training.recipe import plan_stages

    stages, dropped = plan_stages(run)
    table = Table()
    for name in ("stage", "examples", "of which", "tokens", "longest"):
        table.add_column(name, justify="left" if name in ("stage", "of which") else "right", overflow="fold")
    for stage in stages:
        kinds = ", ".join(f"{n} {kind}" for kind, n in stage.kinds.items())
        row = (f"{stage.n_examples:,}", kinds, f"{stage.n_tokens:,}", f"{stage.longest:,}")
        table.add_row(escape(stage.name), *row)
    console = table_console()
    console.print(table)
    for reason, n in dropped.items():
        console.print(f"rows left out: {n:,} for {reason}")


def _write_held_out(run: TrainConfig, target: Path) -> None:
    from autoj_reward.rows.output import to_json
    from autoj_reward.training.config import refuse_another_split
    from autoj_reward.training.data import load_corpus

    refuse_another_split(run)
    part = load_corpus(run).held_out
    try:
        with open(target, "xb") as file:
            file.writelines(map(to_json, part.labelled()))
    except FileExistsError as error:
        raise ConfigError(f"{target} exists already", hint="name another file") from error
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error}") from error
    note(
        f"{len(part.rated):,} ratings and {len(part.pairs):,} pairs on prompts kept out of training: {target}"
    )


def _need(*packages: str) -> None:
    """Fail with what to install, before any data is read."""
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"training needs packages that are not installed: {', '.join(missing)}",
            hint=f"{how_to_install('trl', 'mini')} (`mini` is for the embedded model)",
        )
