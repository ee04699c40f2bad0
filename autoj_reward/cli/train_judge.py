# SPDX-License-Identifier: Apache-2.0
"""`train-judge`: train a LoRA adapter that turns a model into a judge."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoj_reward.cli.display import note, table_console
from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError

if TYPE_CHECKING:
    from autoj_reward.training.config import TrainConfig


def train_judge(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="A run as a TOML file, such as examples/train_mini.toml.")
    ],
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Instead of the file's output folder.")
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Print each stage's examples and tokens, and stop."),
    ] = False,
    held_out: Annotated[
        Path | None,
        typer.Option(metavar="OUT.jsonl", help="Write the held-out rows, labelled for calibrate, and stop."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train a LoRA adapter for a judge, stage by stage; an interrupted run is resumed.

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


def _print_plan(run: TrainConfig) -> None:
    from rich.table import Table

    from autoj_reward.console import escape
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
    from autoj_reward.judge.presets import load_spec
    from autoj_reward.rows.output import to_json
    from autoj_reward.training.data import load_corpus
    from autoj_reward.training.run_settings import refuse_another_split

    refuse_another_split(run)
    part = load_corpus(run).held_out
    spec = load_spec(run.judge)
    try:
        with open(target, "xb") as file:
            file.writelines(map(to_json, part.labelled(spec)))
    except FileExistsError as error:
        raise ConfigError(f"{target} exists already", hint="name another file") from error
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error}") from error
    note(
        f"{len(part.rated):,} ratings and {len(part.pairs):,} pairs on prompts kept out of training: {target}"
    )


def _need(*packages: str) -> None:
    """Raise ConfigError if a package is not installed."""
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"training needs packages that are not installed: {', '.join(missing)}",
            hint=f"{how_to_install('trl', 'mini')} (`mini` is for the embedded model)",
        )
