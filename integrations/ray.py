# SPDX-License-Identifier: Apache-2.0
"""Judge a corpus on a Ray cluster with a pool of actors, one judge each.

Only block numbers travel through Ray. An actor reads its block's rows from the run's folder, judges them, and
writes the finished block there (`rows.blocks`). If a worker dies, another one judges its block again, and a
run that was stopped resumes after its last finished block.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError, EngineChanged
from autoj_reward.judge.judge import Judge
from autoj_reward.rows.blocks import Blocks, with_fields
from autoj_reward.rows.columns import json_columns, read_back
from autoj_reward.rows.records import RowItem, RowTask, Summary

_LOCAL_STORE_BYTES = 256 << 20
"""The object store of a local cluster holds block numbers and summaries only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings:
    """A Ray cluster and the resources of each worker.

    Attributes:
        address: `auto`, `local` (a cluster on this machine, for this run), `HOST:PORT` or `ray://HOST:PORT`.
        workers: Number of judges; None takes as many as the cluster's GPUs, or else CPUs, allow.
        gpus: GPUs per worker; None takes 1 if the cluster has any.
        cpus: CPUs per worker without a GPU.
    """

    address: str
    workers: int | None = None
    gpus: float | None = None
    cpus: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTask:
    """What to do with each block. Pickled to the workers.

    Attributes:
        blocks: The run's folder.
        judge: Keyword arguments of `Judge.load`.
        make_work: Makes the task of a judge; picklable.
        schema: The added fields and their types, a `pyarrow.Schema`.
        judge_id: Identity that the workers' judge must have; None accepts any. Another one ends the run.
        assemble: Makes the finished block from its rows, the fields added to each, and the schema.
    """

    blocks: Blocks
    judge: Mapping[str, Any]
    make_work: Callable[[Judge], RowTask]
    schema: Any
    judge_id: str | None = None
    assemble: Callable[[Any, Sequence[dict[str, Any]], Any], Any] = field(default=with_fields)


@dataclass(frozen=True, slots=True)
class BlockDone:
    """A finished block: its summary, and the process that judged it."""

    number: int
    summary: Summary
    pid: int


class BlockJudge:
    """A Ray actor that holds one judge."""

    def __init__(self, task: BlockTask) -> None:
        self._task = task
        self._judge = Judge.load(**task.judge)
        self._work = task.make_work(self._judge)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        numbers = [int(number) for number in batch["block"]]
        return {
            "block": numbers,
            # As text: Ray makes NumPy arrays, whose byte strings lose zeros at their end.
            "summary": [pickle.dumps(self._judge_block(number)).hex() for number in numbers],
            "pid": [os.getpid()] * len(numbers),
        }

    def _judge_block(self, number: int) -> Summary:
        summary = Summary()
        table = self._task.blocks.read(number)
        # None: a worker finished it and died before it could report.
        if table is not None:
            if self._task.judge_id not in (None, self._judge.identity):
                raise EngineChanged(
                    f"this worker's judge is {self._judge.identity}, and the run's {self._task.judge_id}",
                    hint="the checkpoint has to be the same on every machine",
                )
            texts = json_columns(table.schema)
            rows = [read_back(row, texts) for row in table.to_pylist()]
            items = [
                RowItem(0, row, self._work.row_format.requests(row, optional=self._work.optional))
                for row in rows
            ]
            finished = self._work.judge(items)
            added = [one.added for one in finished]
            self._task.blocks.write(number, self._task.assemble(table, added, self._task.schema))
            summary.n_rows = len(rows)
            summary.add(finished)
        return summary


def judge_blocks(task: BlockTask, pending: Sequence[int], settings: RaySettings) -> Iterator[BlockDone]:
    """Judge the pending blocks on a cluster; yields each block after it was written.

    Closing the iterator early stops the run and keeps the finished blocks.

    Raises:
        ConfigError: Ray is not installed, the cluster is not there, or is too small for a worker.
        Exception: A block could not be judged, after Ray's retries.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError("Ray is not installed", hint=how_to_install("ray")) from error
    _connect(ray, settings)
    try:
        n_workers, resources = _pool(ray.cluster_resources(), settings, len(pending))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # Ray logs every worker's start and end.
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        blocks = ray.data.from_items([{"block": n} for n in pending], override_num_blocks=len(pending))
        judged = blocks.map_batches(
            BlockJudge,
            fn_constructor_args=(task,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=n_workers, max_tasks_in_flight_per_actor=2),
            **resources,
        )
        for row in judged.iter_rows():
            summary = pickle.loads(bytes.fromhex(row["summary"]))  # noqa: S301 - from a worker of this run
            yield BlockDone(int(row["block"]), summary, int(row["pid"]))
    finally:
        ray.shutdown()


def _connect(ray: Any, settings: RaySettings) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    # Ray only counts CPUs: a local cluster may have more of them than the machine.
    n_cpus = settings.workers and max(os.cpu_count() or 1, math.ceil(settings.workers * settings.cpus))
    try:
        if settings.address == "local":
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(
                include_dashboard=False,
                object_store_memory=_LOCAL_STORE_BYTES,
                num_cpus=n_cpus,
                **quiet,
            )
        else:
            ray.init(address=settings.address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"cannot reach a Ray cluster at {settings.address!r}: {error}",
            hint="--ray local starts one on this machine; `ray start --head` on another one",
        ) from error


def _pool(cluster: Mapping[str, float], settings: RaySettings, n_blocks: int) -> tuple[int, dict[str, float]]:
    """The number of workers, and the resources of each."""
    gpus = settings.gpus if settings.gpus is not None else float(cluster.get("GPU", 0) >= 1)
    per_worker = {"num_gpus": gpus} if gpus else {"num_cpus": settings.cpus}
    there, each = (cluster.get("GPU", 0.0), gpus) if gpus else (cluster.get("CPU", 0.0), settings.cpus)
    fitting = int(there // each)
    if fitting < (settings.workers or 1):
        raise ConfigError(
            f"the cluster has {there:g} {'GPUs' if gpus else 'CPUs'}: room for {fitting} workers of {each:g}",
            hint="ask for fewer workers, or for less for each",
        )
    return min(settings.workers or fitting, n_blocks), per_worker
