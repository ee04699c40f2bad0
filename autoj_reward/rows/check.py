# SPDX-License-Identifier: Apache-2.0
"""Validate all rows before a model is loaded, then read the good ones again."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoj_reward.criteria.rubric import Rubric
from autoj_reward.errors import ConfigError, DataError, TemplateError
from autoj_reward.rows.columns import Columns
from autoj_reward.rows.fields import OPTIONAL_FIELDS, RowFormat, RowProblem
from autoj_reward.rows.output import to_json
from autoj_reward.rows.records import RowItem, RowTask
from autoj_reward.rows.source import Row, RowSource
from autoj_reward.types import Request

_WRITTEN = ("", ".part.jsonl", ".bad.jsonl", ".run.json", ".lock", ".tmp")
"""Suffixes of the files that a run writes, added to the output's name."""


@dataclass(slots=True)
class CheckedRows:
    """Result of the check.

    Attributes:
        n_rows: Good rows.
        n_requests: Requests in them.
        n_verdicts: Verdicts that are asked for: one for each request, or each criterion of its rubric.
        digest: A hash of all lines, the bad ones included.
        fields: Names of all fields of the good rows.
        by_criteria: Whether a row has a rubric of criteria.
        taken: The optional fields of requests, such as the rubric of criteria that every judge takes.
        problems: One error for each bad line.
        as_json: Fields whose values do not fit one type of a Parquet column.
        n_not_finite: Rows with NaN or an infinity, which JSON does not have.
        first_not_finite: Line and field of the first of them.
        n_good: For each bad line, how many good rows it has before the problem.
    """

    n_rows: int = 0
    n_requests: int = 0
    n_verdicts: int = 0
    digest: str = ""
    fields: set[str] = field(default_factory=set)
    by_criteria: bool = False
    taken: set[str] = field(default_factory=set)
    problems: list[DataError] = field(default_factory=list)
    as_json: tuple[str, ...] = ()
    n_not_finite: int = 0
    first_not_finite: tuple[int, str] | None = None
    n_good: dict[int, int] = field(default_factory=dict)


def check_rows(source: RowSource, task: RowTask, *, for_parquet: bool = False) -> CheckedRows:
    """Read all rows and make their requests; with `for_parquet` also find the types of Parquet columns.

    Raises:
        DataError: The source as a whole cannot be read.
    """
    found = CheckedRows()
    digest = hashlib.sha256()
    columns = Columns()
    for line, read in source.rows():
        problem = read if isinstance(read, DataError) else None
        digest.update(b"bad\n" if isinstance(read, DataError) else to_json(read))
        n_good = 0
        try:
            for item in () if isinstance(read, DataError) else _validated(line, read, task):
                n_good += 1
                found.n_requests += len(item.requests)
                found.n_verdicts += sum(map(_n_verdicts, item.requests))
                found.fields.update(item.row)
                found.by_criteria |= isinstance(item.requests[0].rubric, Rubric)
                found.taken.update(n for n in OPTIONAL_FIELDS if getattr(item.requests[0], n) is not None)
                if for_parquet:
                    columns.add(item.row)
                elif (name := _not_finite(item.row)) is not None:
                    found.n_not_finite += 1
                    found.first_not_finite = found.first_not_finite or (line, name)
        except RowProblem as error:
            problem = error.at(source.name, line)
        except TemplateError as error:
            problem = DataError(str(error), path=source.name, line=line)
        if problem is not None:
            found.problems.append(problem)
            found.n_good[line] = n_good
        found.n_rows += n_good
    found.digest = digest.hexdigest()[:32]
    found.as_json = tuple(columns.as_json)
    return found


def good_rows(source: RowSource, row_format: RowFormat, checked: CheckedRows) -> Iterator[tuple[int, Row]]:
    """Line and row of all rows that passed the check, in order.

    Raises:
        DataError: The source has changed.
    """
    for line, read in source.rows():
        left = checked.n_good.get(line)
        if left == 0:
            continue
        if isinstance(read, DataError):
            raise _changed(source, line, read) from read
        try:
            for n, row in enumerate(row_format.expand(read), start=1):
                yield line, row
                if n == left:
                    break
        except RowProblem as problem:
            raise _changed(source, line, problem) from problem


def item_of(source: RowSource, line: int, row: Row, task: RowTask) -> RowItem:
    """A row that passed the check, with its requests.

    Raises:
        DataError: The source has changed.
    """
    try:
        return RowItem(line, row, task.row_format.requests(row, optional=task.optional))
    except RowProblem as problem:
        raise _changed(source, line, problem) from problem


def write_bad_rows(source: RowSource, checked: CheckedRows, path: Path) -> None:
    """Write every bad row to a file, with what is wrong with it.

    Raises:
        DataError: The file cannot be written.
    """
    scratch = path.with_name(path.name + ".tmp")
    problems = dict(zip(checked.n_good, checked.problems, strict=True))
    try:
        with open(scratch, "wb") as file:
            for line, read in source.rows():
                if (problem := problems.get(line)) is not None:
                    row = None if isinstance(read, DataError) else read
                    file.write(
                        to_json({"line": line, "field": problem.field, "problem": str(problem), "row": row})
                    )
        os.replace(scratch, path)
    except OSError as error:
        raise DataError(f"cannot be written: {error}", path=str(path)) from error
    finally:
        scratch.unlink(missing_ok=True)


def notes_on(checked: CheckedRows, source: RowSource, task: RowTask, judge: str | None) -> Iterator[str]:
    """Notes about values that are written differently, and about fields that the judge ignores."""
    if checked.as_json:
        names = ", ".join(map(repr, checked.as_json))
        yield (
            f"no Parquet column holds all values of {names} (several types, empty objects or integers over "
            "64 bits): written as JSON text"
        )
    if checked.first_not_finite and task.expansion is None:
        line, name = checked.first_not_finite
        yield (
            f"{checked.n_not_finite:,} rows hold NaN or an infinity (first {source.name}:{line}, field "
            f"{name!r}): JSON has no such numbers, they are written as null"
        )
    if lost := sorted(checked.fields & set(task.added_fields)):
        yield f"the rows' own fields {', '.join(lost)} are replaced in the output"
    if judge is not None:
        for name in sorted((OPTIONAL_FIELDS & checked.fields) - task.optional - checked.taken):
            yield f"the rows have a field {name!r}, which judge {judge} does not take: not shown to it"


def refuse_same_file(source: str | Path, target: str | Path) -> None:
    """Keep a run from writing over its input; `-` is not a file.

    Raises:
        ConfigError: Both are the same file.
    """
    if str(target) == "-" or not Path(source).exists():
        return
    for suffix in _WRITTEN:
        written = Path(f"{target}{suffix}")
        if written.exists() and written.samefile(source):
            raise ConfigError(f"{written} is the input as well as the output", hint="name another output")


def _n_verdicts(request: Request) -> int:
    rubric = request.rubric
    return len(rubric.criteria) if isinstance(rubric, Rubric) and len(request.completions) == 1 else 1


def _validated(line: int, read: Row, task: RowTask) -> Iterator[RowItem]:
    for row in task.row_format.expand(read):
        requests = task.row_format.requests(row, optional=task.optional)
        task.check(requests)
        yield RowItem(line, row, requests)


def _changed(source: RowSource, line: int, error: Exception) -> DataError:
    return DataError(
        f"was changed while it was read: {error}", path=source.name, line=line,
        hint="run the same command again when the input no longer changes",
    )  # fmt: skip


def _not_finite(row: Row) -> str | None:
    """The first field that holds NaN or an infinity."""

    def holds(value: Any) -> bool:
        if isinstance(value, float):
            return not math.isfinite(value)
        if isinstance(value, dict):
            return any(map(holds, value.values()))
        return isinstance(value, list) and any(map(holds, value))

    return next((name for name, value in row.items() if holds(value)), None)


def sample_items(source: RowSource, task: RowTask, checked: CheckedRows, n: int) -> list[RowItem]:
    """At most n good rows, spread evenly over the input, with their requests."""
    step = max(1, checked.n_rows // n)
    rows = itertools.islice(good_rows(source, task.row_format, checked), 0, step * n, step)
    return [item_of(source, line, row, task) for line, row in rows]
