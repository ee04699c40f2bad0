# SPDX-License-Identifier: Apache-2.0
"""Run a task over a file of rows: check, judge in chunks, write, resume."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoj_reward.errors import DataError, TemplateError, TooManyFailures
from autoj_reward.judgments import Judgment
from autoj_reward.progress import RunProgress
from autoj_reward.ranking.strategies import Strategy
from autoj_reward.rows.columns import Columns
from autoj_reward.rows.fields import RowFormat, RowProblem
from autoj_reward.rows.output import Output, to_json
from autoj_reward.rows.resume import check_done
from autoj_reward.rows.source import Row, RowSource
from autoj_reward.types import EngineStats, Request, Usage

_LEAST_FOR_LIMIT = 64
"""Judgments from which the share of failures means something."""


@dataclass(frozen=True, slots=True)
class RowItem:
    """A row that passed the check, with its requests."""

    line: int
    row: Row
    requests: list[Request]


@dataclass(frozen=True, slots=True)
class RowResult:
    """What a row's judging gave.

    Attributes:
        added: The fields that are added to the row.
        judgments: What they were made from.
        explanations: Judgments made for their critiques only: they cost tokens and decide nothing.
    """

    added: Row
    judgments: Sequence[Judgment]
    explanations: Sequence[Judgment] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTask:
    """What is done with the rows.

    Attributes:
        label: For the progress display.
        row_format: Where rows keep what is judged.
        optional: Which of `rubric`, `reference` and `language` the judge takes.
        check: Raises TemplateError where a request cannot be laid out.
        judge: Judges the items of a chunk; one result for each, in order.
        strategy: What plays each group; None where each request is judged by itself.
        show: Called with each chunk's items and results, for display.
    """

    label: str
    row_format: RowFormat
    optional: frozenset[str]
    check: Callable[[Sequence[Request]], None]
    judge: Callable[[Sequence[RowItem]], list[RowResult]]
    strategy: Strategy | None = None
    show: Callable[[Sequence[RowItem], Sequence[RowResult]], None] = field(default=lambda items, done: None)


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """What the check found.

    Attributes:
        n_rows: Rows to judge.
        n_requests: Requests in them.
        digest: A hash of all lines.
        fields: Names of all their fields.
        problems: What is wrong with the others.
        as_json: Fields whose values no column of a Parquet file holds.
        n_not_finite: Rows with a number that JSON does not have.
        first_not_finite: The first of them: line and field.
    """

    n_rows: int
    n_requests: int
    digest: str
    fields: frozenset[str]
    problems: list[DataError]
    as_json: tuple[str, ...] = ()
    n_not_finite: int = 0
    first_not_finite: tuple[int, str] | None = None


@dataclass(slots=True)
class Summary:
    """What a run did, for its last line and its record."""

    n_rows: int = 0
    n_resumed: int = 0
    n_failed_rows: int = 0
    """Rows of which every judgment failed, those of a former run included as far as they say so."""
    n_judgments: int = 0
    n_explanations: int = 0
    n_cut: int = 0
    n_forced: int = 0
    seconds: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)
    """Of all judgments, whenever they were paid for; with a cache, what this run spent."""
    spending: EngineStats | None = None

    def spend(self, spending: Callable[[], EngineStats] | None) -> None:
        """Note, at the end, what was spent where there is a cache."""
        if spending is not None:
            self.spending = spending()
            self.usage = self.spending.usage

    def add(self, finished: Sequence[RowResult]) -> None:
        """Count a chunk."""
        self.n_failed_rows += sum(
            bool(f.judgments) and all(j.failure is not None for j in f.judgments) for f in finished
        )
        for judgment in (j for f in finished for j in f.judgments):
            self.n_judgments += 1
            self.usage += judgment.usage
            self.n_cut += any(judgment.provenance.cut_chars)
            self.n_forced += judgment.n_forced
            if judgment.failure is not None:
                self.failures[judgment.failure.reason.value] += 1
        for explanation in (j for f in finished for j in f.explanations):
            self.n_explanations += 1
            self.usage += explanation.usage

    def merge(self, other: Summary) -> None:
        """Count what another part of the run did; rows are counted by whoever knows all of them."""
        self.n_failed_rows += other.n_failed_rows
        self.n_judgments += other.n_judgments
        self.n_explanations += other.n_explanations
        self.n_cut += other.n_cut
        self.n_forced += other.n_forced
        self.failures += other.failures
        self.usage += other.usage

    def as_record(self) -> dict[str, Any]:
        """For the run's record file."""
        spending = self.spending
        cached = {} if spending is None else {"from_cache": spending.n_cached, "asked": spending.n_asked}
        return {
            "rows": self.n_rows,
            "failed_rows": self.n_failed_rows,
            "judgments": self.n_judgments,
            "failures": dict(self.failures),
            "forced": self.n_forced,
            "seconds": round(self.seconds, 3),
            "prompt_tokens": self.usage.prompt_tokens,
            "cached_tokens": self.usage.cached_tokens,
            "completion_tokens": self.usage.completion_tokens,
            **cached,
        }


def check_rows(source: RowSource, work: RowTask, *, for_parquet: bool = False) -> CheckedRows:
    """Go through all rows before anything heavy is loaded.

    Args:
        source: The rows.
        work: What is done with them.
        for_parquet: Whether they go into a Parquet file, whose columns hold one type each.

    Raises:
        DataError: The source as a whole cannot be read.
    """
    digest = hashlib.sha256()
    n_rows = n_requests = n_not_finite = 0
    first: tuple[int, str] | None = None
    columns = Columns()
    fields: set[str] = set()
    problems: list[DataError] = []
    for line, read in source.rows():
        digest.update(b"bad\n" if isinstance(read, DataError) else to_json(read))
        for item in _items(source.name, line, read, work):
            if isinstance(item, DataError):
                problems.append(item)
            else:
                n_rows += 1
                n_requests += len(item.requests)
                fields.update(item.row)
                if for_parquet:
                    columns.add(item.row)
                elif (name := _not_finite(item.row)) is not None:
                    n_not_finite += 1
                    first = first or (line, name)
    return CheckedRows(
        n_rows,
        n_requests,
        digest.hexdigest()[:32],
        frozenset(fields),
        problems,
        tuple(columns.as_json),
        n_not_finite,
        first,
    )


def _not_finite(row: Row) -> str | None:
    """A field that holds NaN or an infinity, if one does."""

    def holds(value: Any) -> bool:
        if isinstance(value, float):
            return not math.isfinite(value)
        if isinstance(value, dict):
            return any(map(holds, value.values()))
        return isinstance(value, list) and any(map(holds, value))

    return next((name for name, value in row.items() if holds(value)), None)


def good_rows(source: RowSource, work: RowTask) -> Iterator[RowItem]:
    """The rows that pass the check, in order."""
    for line, read in source.rows():
        for item in _items(source.name, line, read, work):
            if isinstance(item, RowItem):
                yield item


def set_bad_aside(source: RowSource, work: RowTask, path: Path) -> None:
    """Write every row that does not pass the check to a file, with what is wrong with it."""
    scratch = path.with_name(path.name + ".tmp")
    try:
        with open(scratch, "wb") as file:
            for line, read in source.rows():
                for item in _items(source.name, line, read, work):
                    if isinstance(item, DataError):
                        row = None if isinstance(read, DataError) else read
                        file.write(
                            to_json({"line": line, "field": item.field, "problem": str(item), "row": row})
                        )
        os.replace(scratch, path)
    except OSError as error:
        raise DataError(f"cannot be written: {error}", path=str(path)) from error
    finally:
        scratch.unlink(missing_ok=True)


def run_rows(
    source: RowSource,
    work: RowTask,
    output: Output,
    checked: CheckedRows,
    *,
    chunk_requests: int,
    max_failures: float = 1.0,
    quiet: bool = False,
    spending: Callable[[], EngineStats] | None = None,
    replaced: Collection[str] = (),
) -> Summary:
    """Judge the rows that are not yet in the output.

    Args:
        source: The rows.
        work: What is done with them.
        output: Where they go; what it already holds is not judged again.
        checked: What `check_rows` found.
        chunk_requests: Requests judged, and then written, at a time.
        max_failures: Most judgments that may fail, as a share.
        quiet: Show no progress.
        spending: Where answers came from so far; None without a cache.
        replaced: Fields that the work adds to a row, in place of its own by those names.

    Raises:
        DataError: What the output holds is not the beginning of these rows.
        TooManyFailures: The share of failed judgments passed the limit; what is done is kept.
        EngineError: The engine failed; what is done is kept.
    """
    done = output.n_done
    failed = check_done(source.name, good_rows(source, work), output, frozenset(replaced))
    summary = Summary(n_rows=checked.n_rows, n_resumed=done, n_failed_rows=failed)
    with RunProgress(work.label, checked.n_requests, quiet=quiet, status=cache_status(spending)) as progress:
        for chunk in _chunks(good_rows(source, work), done, chunk_requests, progress):
            finished = work.judge(chunk)
            output.write((item.row, one.added) for item, one in zip(chunk, finished, strict=True))
            summary.add(finished)
            work.show(chunk, finished)
            progress.advance(sum(len(item.requests) for item in chunk))
            stop_past(max_failures, summary)
        summary.seconds = progress.seconds
    summary.spend(spending)
    output.finish((item.row for item in good_rows(source, work)), summary.as_record())
    return summary


def refuse_no_verdict(summary: Summary) -> None:
    """Raise TooManyFailures where every row failed: its output says nothing."""
    if summary.n_rows and summary.n_failed_rows >= summary.n_rows:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in summary.failures.most_common())
        raise TooManyFailures(
            f"no row has a verdict: all {summary.n_rows:,} failed{f' ({reasons})' if reasons else ''}",
            hint="look at the rows' 'failure' fields; --retry-failed judges them again",
        )


def cache_status(spending: Callable[[], EngineStats] | None) -> Callable[[], str]:
    """What progress says about the cache."""
    return (lambda: "") if spending is None else (lambda: f"{spending().n_cached:,} answers from the cache")


def _chunks(
    items: Iterator[RowItem], n_done: int, chunk_requests: int, progress: RunProgress
) -> Iterator[list[RowItem]]:
    chunk: list[RowItem] = []
    size = 0
    for n, item in enumerate(items):
        if n < n_done:
            progress.skip(len(item.requests))
            continue
        if chunk and size + len(item.requests) > chunk_requests:
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += len(item.requests)
    if chunk:
        yield chunk


def _items(name: str, line: int, read: Row | DataError, work: RowTask) -> Iterator[RowItem | DataError]:
    if isinstance(read, DataError):
        yield read
        return
    try:
        for row in work.row_format.expand(read):
            requests = work.row_format.requests(row, optional=work.optional)
            work.check(requests)
            yield RowItem(line, row, requests)
    except RowProblem as problem:
        yield DataError(str(problem), path=name, line=line, field=problem.field)
    except TemplateError as error:
        yield DataError(str(error), path=name, line=line)


def stop_past(limit: float, summary: Summary) -> None:
    """Raise TooManyFailures where the share of failed judgments is over the limit."""
    failed = summary.failures.total()
    if summary.n_judgments >= _LEAST_FOR_LIMIT and failed > limit * summary.n_judgments:
        reasons = ", ".join(f"{n} {reason}" for reason, n in summary.failures.most_common())
        raise TooManyFailures(
            f"{failed} of {summary.n_judgments} judgments failed ({reasons}), more than {limit:.0%}",
            hint="look at the rows' 'failure' fields; --max-failures sets the limit",
        )
