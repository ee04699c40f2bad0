# SPDX-License-Identifier: Apache-2.0
"""Judge items that are not rows of an output: in chunks, with progress and a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import typer

from autoj_reward.cli import display
from autoj_reward.cli.options import key_values
from autoj_reward.errors import ConfigError, DataError

if TYPE_CHECKING:
    from autoj_reward.budget import Spending
    from autoj_reward.judge.judge import Judge
    from autoj_reward.judgments import Judgment
    from autoj_reward.rows.fields import Kind
    from autoj_reward.rows.formats.parts import RowParts
    from autoj_reward.rows.source import Row, RowSource

T = TypeVar("T")
Made = TypeVar("Made")
_CHUNK = 64
"""Items judged at a time on transformers and with a budget; other engines take more at once."""


def judge_in_chunks(
    judge: Judge,
    label: str,
    items: Sequence[T],
    ask: Callable[[Sequence[T]], Sequence[Made]],
    *,
    quiet: bool,
    judgment_of: Callable[[Made], Judgment] = lambda made: cast("Judgment", made),
    output: Path | None = None,
    failures: Counter[str] | None = None,
    next_step: str = "",
    spent: Spending | None = None,
) -> list[Made]:
    """Judge items, show progress, and print what it cost.

    Args:
        judge: The judge.
        label: The command, for progress and summary.
        items: What is judged.
        ask: Judges a part of the items; may return several results for each.
        quiet: Show nothing.
        judgment_of: The judgment in a result.
        output: Where the command writes the results, for the summary.
        failures: Failed judgments are counted here, for `exit_if_failed`.
        next_step: What to do with the results, for the summary.
        spent: What the judge, whose answers a cache keeps, has spent of a budget; None without one.

    Raises:
        BudgetSpent: The budget is spent before all items are judged.
    """
    from autoj_reward.engines import engine_stats, is_loaded
    from autoj_reward.engines.factory import default_engine_name
    from autoj_reward.progress import RunProgress
    from autoj_reward.rows.records import RowResult, Summary

    named = str(judge.describe("plan")["engine"].get("engine") or default_engine_name())
    size = _CHUNK if named == "transformers" or spent is not None else 16 * _CHUNK
    made: list[Made] = []
    summary = Summary(n_rows=len(items))

    def loaded() -> bool:
        return is_loaded(judge.built_engine)

    def left() -> str:
        return "" if spent is None else spent.left()

    with RunProgress(label, len(items), quiet=quiet, status=left, loaded=loaded) as progress:
        for start in range(0, len(items), size):
            if spent is not None:
                spent.check(f"{start:,} of {len(items):,} are judged, and the cache keeps the answers")
            chunk = items[start : start + size]
            new = ask(chunk)
            made += new
            summary.add([RowResult({}, [judgment_of(one)]) for one in new])
            progress.advance(len(chunk))
        summary.seconds, summary.loading_seconds = progress.seconds, progress.loading_seconds
    if (stats := engine_stats(judge.engine)) is not None:
        summary.spending, summary.usage = stats, stats.usage
    if failures is not None:
        failures.update(summary.failures)
    if not quiet:
        target = "-" if output is None else str(output)
        overlong = judge.settings.overlong
        display.print_summary(label, summary, target, overlong=overlong, next_step=next_step)
    return made


def exit_if_failed(failures: Counter[str], *, allowed: bool) -> None:
    """Exit with status 3 if judgments failed and that is not allowed: the last call of a command."""
    if failures and not allowed:
        display.note(
            f"{failures.total():,} judgments failed, so the exit status is 3 (0 with --allow-failures)"
        )
        raise typer.Exit(3)


def about_finished(what: str, path: str | None = None) -> dict[str, Any]:
    """As `about_judge` for figures of finished answers: who the record beside `path` says, else `what`."""
    from autoj_reward.redact import redacted
    from autoj_reward.rows.identity import about_command
    from autoj_reward.rows.output import read_record

    record = Path(f"{path}.run.json")
    known = read_record(record).get("about") if path is not None and record.is_file() else None
    return dict(redacted({"judge": what, **(known or {}), **about_command()}))


def about_judge(judge: Judge) -> dict[str, Any]:
    """Who judged, with which versions, when and with which command: for the JSON of a measurement."""
    from autoj_reward.redact import redacted
    from autoj_reward.rows.identity import about_run

    return dict(redacted(about_run(judge.describe())))


def input_rows(
    name: str,
    kinds: Sequence[Kind],
    *,
    format_name: str | None = None,
    limit: int | None = None,
    column: Sequence[str] | None = None,
) -> Iterator[tuple[int, Row]]:
    """Line and row of an input, with our field names; the first bad row is an error.

    Args:
        name: As for `open_source`.
        kinds: What is read: `compare`, `rate`, or both.
        format_name: A published format; None recognises it by the first rows.
        limit: The first rows only.
        column: Fields renamed by `--column OURS=THEIRS`.

    Raises:
        ConfigError: The input does not exist, or has a format of another kind.
        DataError: A row is wrong.
    """
    from autoj_reward.rows.fields import RowProblem, find_format
    from autoj_reward.rows.formats.renamed import RenamedRows
    from autoj_reward.rows.source import open_source

    columns = key_values(column, "--column")
    source: RowSource = open_source(name, limit=limit)
    if columns:
        source = RenamedRows(source, columns)
    _, found = find_format(source, kinds, format_name, {})
    if format_name is None:
        display.note_format(source.name, found)
    for line, row in source.rows():
        if isinstance(row, DataError):
            raise row
        if found.name is None:
            yield line, row
            continue
        try:
            for one in found.expand(row):
                yield line, one | _our_fields(found.parts(one))
        except RowProblem as problem:
            raise problem.at(name, line) from problem


def _our_fields(parts: RowParts) -> Row:
    names = ("completion",) if len(parts.completions) == 1 else ("first", "second")
    ours = {"prompt": parts.prompt, **dict(zip(names, parts.completions, strict=True))}
    return ours if parts.preference is None else ours | {"preference": parts.preference}


def check_output(path: Path | None) -> None:
    """Refuse an output that cannot be written, before anything is judged.

    Raises:
        ConfigError: Its folder does not exist, or it is a folder.
    """
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise ConfigError(
            f"the folder {path.parent} of {path} does not exist", hint="make it, or name another"
        )
    if path.is_dir():
        raise ConfigError(f"{path} is a folder", hint="name a file")
