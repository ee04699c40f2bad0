# SPDX-License-Identifier: Apache-2.0
"""`--ray`: judge the rows of a Parquet file on a Ray cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoj_reward.cli import display
from autoj_reward.cli.options import RowOptions
from autoj_reward.errors import ConfigError

if TYPE_CHECKING:
    from autoj_reward.judge.judge import Judge
    from autoj_reward.rows.run import CheckedRows, RowTask

_RAY = "On a Ray cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """Whether, and how, a Ray cluster does the work."""

    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Judge on a Ray cluster: auto, local (started here), HOST:PORT or ray://HOST:PORT. IN is a "
            ".parquet file, OUT a folder of Parquet files that all workers see.",
            show_default=False,
            rich_help_panel=_RAY,
        ),
    ] = None
    ray_workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Judges in the cluster; by default as many as its GPUs, or else CPUs, allow.",
            show_default=False,
            rich_help_panel=_RAY,
        ),
    ] = None
    ray_gpus: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="N",
            help="GPUs of each worker; by default 1 where there are any.",
            show_default=False,
            rich_help_panel=_RAY,
        ),
    ] = None
    ray_cpus: Annotated[
        float,
        typer.Option(min=0.1, metavar="N", help="CPUs of each worker without a GPU.", rich_help_panel=_RAY),
    ] = 1.0
    ray_block: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="ROWS",
            help="Rows of a block: what a worker judges at a time, and what a lost worker costs.",
            rich_help_panel=_RAY,
        ),
    ] = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RayJob:
    """What a command asks of a cluster.

    Attributes:
        judge: Keyword arguments of `Judge.load`, for the workers.
        make_work: Makes the work from a worker's judge; has to be picklable.
        schema: Types of the added fields.
    """

    judge: Mapping[str, Any]
    make_work: Callable[[Judge], RowTask]
    schema: Any


def parquet_input(name: str, target: str, rows: RowOptions) -> Path:
    """The input as a file that can be cut into blocks.

    Raises:
        ConfigError: It is no Parquet file, the output is no folder, or an option does not go with Ray.
    """
    path = Path(name)
    if path.suffix != ".parquet" or not path.is_file():
        raise ConfigError(f"{name} is no .parquet file", hint="--ray reads one; `datasets` can write it")
    if target == "-" or Path(target).suffix in (".jsonl", ".parquet"):
        raise ConfigError(
            f"the output {target!r} is no folder", hint="--ray writes a folder of Parquet files"
        )
    if rows.retry_failed or rows.format_name:
        raise ConfigError("--retry-failed and --format do not go with --ray")
    return path


def run_on_ray(
    source: Path,
    target: str,
    job: RayJob,
    run: Mapping[str, Any],
    checked: CheckedRows,
    put_aside: Callable[[], None],
    about: Mapping[str, Any],
    rows: RowOptions,
    raying: RayOptions,
) -> None:
    """Judge a checked file on a cluster, and say what was done.

    Args:
        source: The Parquet file.
        target: The output's folder.
        job: What is done.
        run: What identifies the run.
        checked: What `check_rows` found; bad rows are left out.
        put_aside: Writes the bad rows to a file of their own.
        about: Information on this run, for its record.
        rows: The command's options about rows.
        raying: Those about the cluster.

    Raises:
        TooManyFailures: The share of failed judgments passed the limit; what is done is kept.
    """
    from autoj_reward.integrations.ray import BlockTask, RaySettings, judge_blocks
    from autoj_reward.progress import RunProgress
    from autoj_reward.rows.blocks import Blocks
    from autoj_reward.rows.run import Summary, refuse_no_verdict, stop_past

    assert raying.ray is not None
    blocks = Blocks(target, dict(run), block_rows=raying.ray_block, overwrite=rows.overwrite)
    with contextlib.closing(blocks):
        put_aside()
        if blocks.complete:
            in_it = f"all {checked.n_rows:,} rows are in it"
            display.note(f"{target} is finished: {in_it} (--overwrite begins anew)")
            refuse_no_verdict(Summary(checked.n_rows, n_failed_rows=blocks.record.get("failed_rows", 0)))
            return
        bad = {problem.line for problem in checked.problems if problem.line is not None}
        pending = blocks.deal(source, leave_out=bad)
        n_done = blocks.n_blocks - len(pending)
        if n_done:
            display.note(f"going on in {target} after {n_done:,} of {blocks.n_blocks:,} blocks")
        settings = RaySettings(
            address=raying.ray, workers=raying.ray_workers, gpus=raying.ray_gpus, cpus=raying.ray_cpus
        )
        task = BlockTask(
            blocks=blocks,
            judge=job.judge,
            make_work=job.make_work,
            schema=job.schema,
            judge_id=run["who"]["judge_id"],
        )
        summary = Summary(n_rows=checked.n_rows)
        began = time.monotonic()
        try:
            with RunProgress(str(run["command"]), checked.n_requests, quiet=rows.quiet) as progress:
                progress.skip(checked.n_requests - _n_rows(pending, raying.ray_block, checked.n_rows))
                for block in judge_blocks(task, pending, settings) if pending else ():
                    summary.merge(block.summary)
                    progress.advance(block.summary.n_judgments)
                    stop_past(rows.max_failures, summary)
        except KeyboardInterrupt:
            display.note(f"stopped; what is done is in {target}, and the same command goes on from there")
            raise typer.Exit(130) from None
        summary.seconds = time.monotonic() - began
        blocks.finish({**summary.as_record(), "about": dict(about)})
    if not rows.quiet:
        display.print_summary(summary, target, overlong=job.judge["overlong"])
    if not checked.n_rows:
        display.note(f"{source} holds no rows: nothing was judged, and {target} is empty")
    refuse_no_verdict(summary)


def _n_rows(pending: Sequence[int], block_rows: int, n_rows: int) -> int:
    """Rows of the blocks that are left."""
    return sum(min(block_rows, n_rows - number * block_rows) for number in pending)
