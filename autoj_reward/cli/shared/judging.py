# SPDX-License-Identifier: Apache-2.0
"""Judge items that are not rows of an output: in chunks, with progress and a summary."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from autoj_reward.cli import display
from autoj_reward.cli.options import key_values
from autoj_reward.errors import ConfigError

if TYPE_CHECKING:
    from autoj_reward.judge.judge import Judge
    from autoj_reward.judgments import Judgment
    from autoj_reward.rows.source import Row

T = TypeVar("T")
Made = TypeVar("Made")
_CHUNK = 64
"""Items judged at a time on transformers; other engines take more at once."""


def judge_in_chunks(
    judge: Judge,
    label: str,
    items: Sequence[T],
    ask: Callable[[Sequence[T]], Sequence[Made]],
    *,
    quiet: bool,
    judgment_of: Callable[[Made], Judgment] = lambda made: cast("Judgment", made),
    output: Path | None = None,
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
    """
    from autoj_reward.engines import engine_stats, is_loaded
    from autoj_reward.engines.factory import default_engine_name
    from autoj_reward.progress import RunProgress
    from autoj_reward.rows.records import RowResult, Summary

    named = str(judge.describe("plan")["engine"].get("engine") or default_engine_name())
    size = _CHUNK if named == "transformers" else 16 * _CHUNK
    made: list[Made] = []
    summary = Summary(n_rows=len(items))

    def loaded() -> bool:
        return is_loaded(judge.built_engine)

    with RunProgress(label, len(items), quiet=quiet, loaded=loaded) as progress:
        for start in range(0, len(items), size):
            chunk = items[start : start + size]
            new = ask(chunk)
            made += new
            summary.add([RowResult({}, [judgment_of(one)]) for one in new])
            progress.advance(len(chunk))
        summary.seconds, summary.loading_seconds = progress.seconds, progress.loading_seconds
    if (spent := engine_stats(judge.engine)) is not None:
        summary.spending, summary.usage = spent, spent.usage
    if not quiet:
        target = "-" if output is None else str(output)
        display.print_summary(label, summary, target, overlong=judge.settings.overlong)
    return made


def about_judge(judge: Judge) -> dict[str, Any]:
    """Who judged, with which versions, when and with which command: for the JSON of a measurement."""
    from autoj_reward.redact import redacted
    from autoj_reward.rows.identity import about_run

    return dict(redacted(about_run(judge.describe())))


def input_rows(
    name: str, *, limit: int | None = None, column: Sequence[str] | None = None
) -> Iterator[tuple[int, Row]]:
    """Line and row of an input, with fields renamed by `--column OURS=THEIRS`; the first bad row is an error.

    Raises:
        ConfigError: The input does not exist.
        DataError: A row is wrong.
    """
    from autoj_reward.rows.source import read_rows

    columns = key_values(column, "--column")
    for line, row in itertools.islice(read_rows(name), limit):
        yield line, row | {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}


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
