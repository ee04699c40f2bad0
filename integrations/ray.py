# SPDX-License-Identifier: Apache-2.0
"""Judge a corpus on a Ray cluster with a pool of actors, one judge each.

Only block numbers travel through Ray. An actor reads its block's rows from the folder of the run, judges
them, and puts the finished block in its place (`rows.blocks`), so that a worker that dies costs its block,
which another one judges again, and a run that was stopped continues block by block.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError, EngineChanged
from autoj_reward.judge.judge import Judge
from autoj_reward.rows.blocks import Blocks, with_fields
from autoj_reward.rows.records import RowItem, RowTask, Summary
from autoj_reward.types import Usage

_LOCAL_STORE_BYTES = 256 << 20
"""Block numbers and summaries are all that a local cluster's object store holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings:
    """The cluster, and how it is used.

    Attributes:
        address: `auto`, `local` (a cluster of this machine, for this run), `HOST:PORT` or `ray://HOST:PORT`.
        workers: Judges; None takes as many as the cluster's GPUs, or else CPUs, allow.
        gpus: GPUs of each; None takes 1 where the cluster has any.
        cpus: CPUs of each that has no GPU.
    """

    address: str
    workers: int | None = None
    gpus: float | None = None
    cpus: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTask:
    """What is done with each block. Pickled to the workers.

    Attributes:
        blocks: The run's folder.
        judge: Keyword arguments of `Judge.load`.
        make_work: Makes the work from the judge: a function of a module, or a `functools.partial` of one.
        schema: The added fields and their types, a `pyarrow.Schema`.
        judge_id: Who has to judge, where that is known; a worker with another judge ends the run.
        assemble: Makes the finished block from its rows, what was added to each, and the schema.
    """

    blocks: Blocks
    judge: Mapping[str, Any]
    make_work: Callable[[Judge], RowTask]
    schema: Any
    judge_id: str | None = None
    assemble: Callable[[Any, Sequence[dict[str, Any]], Any], Any] = field(default=with_fields)


@dataclass(frozen=True, slots=True)
class BlockDone:
    """A block that was judged: what it cost, and which process did it."""

    number: int
    summary: Summary
    pid: int


class BlockJudge:
    """An actor: one judge, asked for block after block."""

    def __init__(self, task: BlockTask) -> None:
        self._task = task
        self._judge = Judge.load(**task.judge)
        self._work = task.make_work(self._judge)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        numbers = [int(number) for number in batch["block"]]
        return {
            "block": numbers,
            "done": [json.dumps(self._judge_block(number)) for number in numbers],
            "pid": [os.getpid()] * len(numbers),
        }

    def _judge_block(self, number: int) -> dict[str, Any]:
        summary = Summary()
        table = self._task.blocks.read(number)
        # None: a worker wrote it, and died before it could say so.
        if table is not None:
            if self._task.judge_id not in (None, self._judge.identity):
                raise EngineChanged(
                    f"this worker's judge is {self._judge.identity}, and the run's {self._task.judge_id}",
                    hint="the checkpoint has to be the same on every machine",
                )
            rows = table.to_pylist()
            items = [
                RowItem(0, row, self._work.row_format.requests(row, optional=self._work.optional))
                for row in rows
            ]
            finished = self._work.judge(items)
            added = [one.added for one in finished]
            self._task.blocks.write(number, self._task.assemble(table, added, self._task.schema))
            summary.n_rows = len(rows)
            summary.add(finished)
        usage = summary.usage
        return {
            "rows": summary.n_rows,
            "failed_rows": summary.n_failed_rows,
            "judgments": summary.n_judgments,
            "cut": summary.n_cut,
            "failures": dict(summary.failures),
            "usage": [usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.n_requests],
        }


def judge_blocks(task: BlockTask, pending: Sequence[int], settings: RaySettings) -> Iterator[BlockDone]:
    """Judge blocks on a cluster; each is given back when it is in its place.

    Closing the iterator early stops the run. What is in its place stays.

    Args:
        task: What is done with each.
        pending: The blocks.
        settings: The cluster.

    Raises:
        ConfigError: There is no Ray, no such cluster, or nothing in it for a worker.
        Exception: A block could not be judged, also after Ray's retries.
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
        # It tells of every worker that comes and goes, and its progress is shown here.
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
            yield BlockDone(int(row["block"]), _summary(json.loads(row["done"])), int(row["pid"]))
    finally:
        ray.shutdown()


def _connect(ray: Any, settings: RaySettings) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if settings.address == "local":
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(
                include_dashboard=False,
                object_store_memory=_LOCAL_STORE_BYTES,
                **_local_cpus(settings),
                **quiet,
            )
        else:
            ray.init(address=settings.address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"there is no Ray cluster at {settings.address!r}: {error}",
            hint="--ray local starts one on this machine; `ray start --head` on another one",
        ) from error


def _local_cpus(settings: RaySettings) -> dict[str, Any]:
    """As many CPUs as were asked for: CPUs are Ray's way of counting, and bind nothing."""
    if settings.workers is None:
        return {}
    return {"num_cpus": max(os.cpu_count() or 1, int(settings.workers * settings.cpus + 0.999))}


def _pool(cluster: Mapping[str, float], settings: RaySettings, n_blocks: int) -> tuple[int, dict[str, float]]:
    """How many workers, and what each of them takes."""
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


def _summary(done: Mapping[str, Any]) -> Summary:
    prompt, cached, completion, n_requests = done["usage"]
    return Summary(
        n_rows=done["rows"],
        n_failed_rows=done["failed_rows"],
        n_judgments=done["judgments"],
        n_cut=done["cut"],
        failures=Counter(done["failures"]),
        usage=Usage(
            prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion, n_requests=n_requests
        ),
    )
