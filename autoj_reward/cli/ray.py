# SPDX-License-Identifier: Apache-2.0
"""`--ray`: judge the rows of a Parquet file on a Ray cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoj_reward.cli import display
from autoj_reward.cli.options import RowOptions, in_panel
from autoj_reward.cli.shared.interrupt import stop_is_explained
from autoj_reward.errors import ConfigError
from autoj_reward.progress import RunProgress

if TYPE_CHECKING:
    from autoj_reward.judge.judge import Judge
    from autoj_reward.rows.records import RowTask, Summary
    from autoj_reward.rows.run import RowRun

_ray_option = in_panel("On a Ray cluster")


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """The Ray cluster, if one judges the rows."""

    ray: Annotated[
        str | None,
        _ray_option(
            metavar="ADDRESS",
            help="Judge on a Ray cluster: auto, local (started here), HOST:PORT or ray://HOST:PORT. IN is a "
            ".parquet file, OUT a folder of Parquet files that all workers see.",
        ),
    ] = None
    ray_workers: Annotated[
        int | None,
        _ray_option(
            min=1,
            metavar="N",
            help="Judges in the cluster; by default as many as its GPUs, or else CPUs, allow.",
        ),
    ] = None
    ray_gpus: Annotated[
        float | None,
        _ray_option(min=0.0, metavar="N", help="GPUs of each worker; by default 1 if the cluster has any."),
    ] = None
    ray_cpus: Annotated[
        float, _ray_option(min=0.1, metavar="N", help="CPUs of each worker without a GPU.")
    ] = 1.0
    ray_block: Annotated[
        int,
        _ray_option(
            min=1,
            metavar="ROWS",
            help="Rows that a worker judges at a time; a lost worker loses at most one block.",
        ),
    ] = 1024


def parquet_input(name: str, target: str, rows: RowOptions) -> Path:
    """The input, which has to be a Parquet file, to be cut into blocks.

    Raises:
        ConfigError: It is not a Parquet file, the output is not a folder, or an option does not go with Ray.
    """
    if rows.push_to_hub is not None:
        raise ConfigError(
            "--push-to-hub does not go with --ray, whose output is a folder of Parquet files",
            hint="push the finished folder from Python with the data set's push_to_hub",
        )
    path = Path(name)
    if path.suffix != ".parquet" or not path.is_file():
        raise ConfigError(f"{name} is not a .parquet file", hint="--ray reads one; `datasets` can write it")
    if target == "-" or Path(target).suffix in (".jsonl", ".parquet"):
        raise ConfigError(
            f"the output {target!r} is not a folder", hint="--ray writes a folder of Parquet files"
        )
    alone = {
        "--retry-failed": rows.retry_failed,
        "--format": rows.format_name,
        "--limit": rows.limit,
    }
    if given := [option for option, value in alone.items() if value]:
        raise ConfigError(f"{', '.join(given)}: not with --ray, which cuts the whole file into blocks")
    return path


def run_on_ray(
    run: RowRun,
    judge: Judge,
    arguments: Mapping[str, Any],
    make_task: Callable[[Judge], RowTask],
    source: Path,
    rows: RowOptions,
    raying: RayOptions,
) -> Summary:
    """Judge a checked file on a cluster, without its bad rows.

    This machine only describes the judge; workers load it with `arguments`, for `Judge.load`, and make their
    tasks with `make_task`, which has to be picklable.

    Returns:
        The totals.

    Raises:
        TooManyFailures: The share of failed judgments passed the limit; finished blocks are kept.
    """
    from autoj_reward.integrations.ray import BlockTask, RaySettings, judge_blocks
    from autoj_reward.judge.description import who
    from autoj_reward.judge.panels.panel import Panel
    from autoj_reward.redact import redacted
    from autoj_reward.rows.blocks import Blocks, added_schema
    from autoj_reward.rows.identity import about_run
    from autoj_reward.rows.records import Summary, stop_past

    assert raying.ray is not None
    on_server = str(arguments["engine"] or "").startswith("server")
    known = judge.describe("plan" if on_server else "files")
    identity = {**run.identity(), "who": redacted(who(known))}
    blocks = Blocks(run.target, identity, block_rows=raying.ray_block, overwrite=rows.overwrite)
    checked = run.checked
    with contextlib.closing(blocks):
        run.write_bad_rows()
        if blocks.complete:
            return run.already_complete(blocks.record)
        pending = blocks.deal(source, leave_out=checked.n_good)
        n_done = blocks.n_blocks - len(pending)
        if n_done:
            display.note(f"continuing {run.target} after {n_done:,} of {blocks.n_blocks:,} blocks")
        settings = RaySettings(
            address=raying.ray, workers=raying.ray_workers, gpus=raying.ray_gpus, cpus=raying.ray_cpus
        )
        task = BlockTask(
            blocks=blocks,
            judge=arguments,
            make_work=make_task,
            schema=added_schema(run.task.label, criteria=checked.by_criteria, panel=isinstance(judge, Panel)),
            judge_id=identity["who"]["judge_id"],
        )
        summary = Summary(n_rows=checked.n_rows)
        began = time.monotonic()
        try:
            with RunProgress(run.task.label, checked.n_requests, quiet=rows.quiet) as progress:
                left = sum(min(raying.ray_block, checked.n_rows - n * raying.ray_block) for n in pending)
                progress.skip(checked.n_requests - left)
                for block in judge_blocks(task, pending, settings) if pending else ():
                    summary.merge(block.summary)
                    progress.advance(block.summary.n_judgments)
                    stop_past(rows.max_failures, summary)
        except KeyboardInterrupt:
            display.note(
                f"stopped; {run.target} holds the finished blocks, and the same command continues from there"
            )
            stop_is_explained()
            raise typer.Exit(130) from None
        summary.seconds = time.monotonic() - began
        blocks.finish({**summary.as_record(), "about": redacted(about_run(known))})
    return run.finished(summary)
