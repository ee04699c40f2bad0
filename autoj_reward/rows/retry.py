# SPDX-License-Identifier: Apache-2.0
"""Judge the failed rows of a finished output again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.progress import RunProgress
from autoj_reward.rows.output import Output
from autoj_reward.rows.resume import is_row_of
from autoj_reward.rows.run import (
    CheckedRows,
    RowItem,
    RowResult,
    RowTask,
    Summary,
    cache_status,
    good_rows,
)
from autoj_reward.rows.source import Row, RowSource, open_source
from autoj_reward.types import EngineStats


def retry_failed(
    source: RowSource,
    work: RowTask,
    output: Output,
    checked: CheckedRows,
    *,
    fields: Sequence[str],
    chunk_requests: int,
    quiet: bool = False,
    spending: Callable[[], EngineStats] | None = None,
) -> Summary:
    """Judge again what failed, and keep the rest as it is.

    The new file is written beside the old one and takes its place when it is whole.

    Args:
        source: The rows.
        work: What is done with them.
        output: A finished output of the same run.
        checked: What the check of the rows found.
        fields: What the command adds to a row.
        chunk_requests: Requests judged at a time.
        quiet: Show no progress.
        spending: Where answers came from so far; None without a cache.

    Raises:
        ConfigError: The output is not finished.
        EngineError: The engine failed; the old output stays as it was.
    """
    if output.name == "-" or not output.complete:
        raise ConfigError(
            f"{output.name} is not finished", hint="run the same command without --retry-failed"
        )
    path = Path(os.path.realpath(output.name))
    beside = path.with_name(f"{path.stem}.retry{path.suffix}")
    summary = Summary(n_rows=checked.n_rows)
    renewed = Output(str(beside), {**output.run, "retry": True}, overwrite=True)
    with contextlib.closing(renewed):
        total = sum(len(item.requests) for item, row in _both(source, work, path, fields) if has_failed(row))
        with RunProgress(
            f"{work.label} again", total, quiet=quiet, status=cache_status(spending)
        ) as progress:
            window: list[tuple[RowItem, Row]] = []
            waiting = 0
            for item, row in _both(source, work, path, fields):
                window.append((item, row))
                waiting += len(item.requests) if has_failed(row) else 0
                if waiting >= chunk_requests or len(window) >= 4096:
                    _renew(window, work, renewed, fields, summary, progress)
                    window, waiting = [], 0
            _renew(window, work, renewed, fields, summary, progress)
            summary.seconds = progress.seconds
        summary.spend(spending)
        renewed.finish((item.row for item in good_rows(source, work)), summary.as_record())
    os.replace(beside, path)
    output.amend_record(failed_rows=summary.n_failed_rows)
    renewed.forget()
    return summary


def has_failed(row: Row) -> bool:
    """Whether an output row holds a failure, its own or one in its ranking."""
    ranking: Any = row.get("ranking") or ()
    return row.get("failure") is not None or any(c.get("failure") is not None for c in ranking)


def _both(
    source: RowSource, work: RowTask, path: Path, fields: Sequence[str]
) -> Iterator[tuple[RowItem, Row]]:
    """Each input row with its output row."""
    items = good_rows(source, work)
    for number, (_, row) in enumerate(open_source(str(path)).rows(), start=1):
        if isinstance(row, DataError):
            raise row
        item = next(items, None)
        # A Parquet file's rows have come back with further nulls and other types: their number decides.
        if item is None or (path.suffix == ".jsonl" and not is_row_of(row, item.row, fields)):
            due = "no further row" if item is None else f"the row of line {item.line} of {source.name}"
            raise DataError(
                f"is not what is due here, {due}: the file was changed since it was written",
                path=str(path), line=number, hint="--overwrite begins again",
            )  # fmt: skip
        yield item, row
    if next(items, None) is not None:
        raise DataError(
            "holds fewer rows than its input: the file was changed since it was written",
            path=str(path), hint="--overwrite begins again",
        )  # fmt: skip


def _renew(
    window: Sequence[tuple[RowItem, Row]],
    work: RowTask,
    output: Output,
    fields: Sequence[str],
    summary: Summary,
    progress: RunProgress,
) -> None:
    failed = [item for item, row in window if has_failed(row)]
    judged: list[RowResult] = work.judge(failed) if failed else []
    summary.add(judged)
    renewed = iter(judged)
    output.write(
        (item.row, next(renewed).added if has_failed(row) else {f: row.get(f) for f in fields})
        for item, row in window
    )
    progress.advance(sum(len(item.requests) for item in failed))
