# SPDX-License-Identifier: Apache-2.0
"""What commands say and refuse about rows before anything is judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from autoj_reward.cli import display
from autoj_reward.errors import ConfigError, DataError

if TYPE_CHECKING:
    from autoj_reward.cli.options import RowOptions
    from autoj_reward.rows.run import CheckedRows, RowTask
    from autoj_reward.rows.source import RowSource


def refuse_one_file(source: str | Path, target: str | Path) -> None:
    """Keep an output, and what is written beside it, from replacing what it is made of; `-` is no file.

    Raises:
        ConfigError: Both are the same file.
    """
    if str(target) == "-" or not Path(source).exists():
        return
    for beside in ("", ".part.jsonl", ".bad.jsonl", ".run.json", ".lock", ".tmp"):
        written = Path(f"{target}{beside}")
        if written.exists() and written.samefile(source):
            raise ConfigError(f"{written} is the input as well as the output", hint="name another output")


def note_columns(source_name: str, checked: CheckedRows, *, expanded: bool) -> None:
    """Say before anything is judged which values will not look in the output as they do in the input."""
    if checked.as_json:
        names = ", ".join(map(repr, checked.as_json))
        display.note(
            f"no Parquet column holds all values of {names} (several types, empty objects or integers over "
            "64 bits): written as JSON text"
        )
    if checked.n_not_finite and checked.first_not_finite and not expanded:
        line, field = checked.first_not_finite
        display.note(
            f"{checked.n_not_finite:,} rows hold NaN or an infinity (first {source_name}:{line}, field "
            f"{field!r}): JSON has no such numbers, they are written as null"
        )


def refuse_bad(source: RowSource, checked: CheckedRows, options: RowOptions) -> None:
    """Say what is wrong with rows.

    Raises:
        DataError: There are bad rows, and they are not to be set aside.
    """
    n_bad = len(checked.problems)
    if not n_bad:
        return
    display.print_problems(checked.problems)
    if not options.skip_bad:
        raise DataError(
            f"{n_bad:,} of {n_bad + checked.n_rows:,} rows cannot be read",
            path=source.name,
            hint="mend them, set them aside with --skip-bad, or name other fields: --column prompt=FIELD",
        )


def refuse_nothing_left(source_name: str, checked: CheckedRows) -> None:
    """Raise DataError where every row would be set aside."""
    if checked.problems and not checked.n_rows:
        raise DataError(
            f"none of its {len(checked.problems):,} rows can be read", path=source_name,
            hint="--column OURS=THEIRS names other fields, --format another layout",
        )  # fmt: skip


def put_bad_aside(source: RowSource, work: RowTask, checked: CheckedRows, target: str) -> None:
    """Write the bad rows beside the output, which this process has locked."""
    from autoj_reward.rows.run import set_bad_aside

    if checked.problems:
        aside = Path("rows.bad.jsonl" if target == "-" else f"{target}.bad.jsonl")
        set_bad_aside(source, work, aside)
        display.note(f"{len(checked.problems):,} rows are set aside in {aside}")
