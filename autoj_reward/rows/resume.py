# SPDX-License-Identifier: Apache-2.0
"""Pair the rows of an existing output with the input's rows, and refuse an output of other rows."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator

from autoj_reward.errors import DataError
from autoj_reward.rows.output import to_json
from autoj_reward.rows.source import Row


def paired(
    rows: Iterator[tuple[int, Row]],
    written: Iterator[Row],
    *,
    source: str,
    output: str,
    replaced: Collection[str],
    whole: bool,
) -> Iterator[tuple[int, Row, Row]]:
    """Each written row with its input row: line, input row, output row.

    It consumes one row of the input for each written one.

    Args:
        rows: The input's good rows with their lines, in order.
        written: The output's rows, in order.
        source: Name of the input in messages.
        output: Name of the output in messages.
        replaced: Fields of a row that the task overwrites.
        whole: Whether written rows hold the input's fields, so that they can be compared.

    Raises:
        DataError: A written row does not match the input's row, or the input has fewer rows.
    """
    for number, was in enumerate(written, start=1):
        line, row = next(rows, (0, None))
        if row is None or (whole and not _is_row_of(was, row, replaced)):
            due = "no further row" if row is None else f"the row of line {line} of {source}"
            raise DataError(
                f"is not the expected row ({due}): two runs wrote into it, or the file was changed since",
                path=output, line=number, hint="--overwrite starts again",
            )  # fmt: skip
        yield line, row, was


def _is_row_of(written: Row, row: Row, replaced: Collection[str]) -> bool:
    """Whether an output row was made from an input row: its fields are there, except those replaced."""
    kept = {name: value for name, value in row.items() if name not in replaced}
    if all(name in written and written[name] == value for name, value in kept.items()):
        return True
    # Dates, NaN and the like are written in another form.
    kept = json.loads(to_json(kept))
    return all(name in written and written[name] == value for name, value in kept.items())
