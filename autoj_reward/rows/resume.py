# SPDX-License-Identifier: Apache-2.0
"""Going on with an output: is what it holds really the beginning of these rows?"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any, Protocol

from autoj_reward.errors import DataError
from autoj_reward.rows.output import Output, to_json
from autoj_reward.rows.source import Row


class _Item(Protocol):
    """A row of the input, with its line."""

    @property
    def line(self) -> int: ...

    @property
    def row(self) -> Row: ...


def check_done(source: str, items: Iterator[_Item], output: Output, replaced: Collection[str]) -> int:
    """Hold what an unfinished run has written against its rows.

    Args:
        source: What messages call the input.
        items: Its good rows, in order.
        output: What is gone on with.
        replaced: Fields that the work adds to a row, in place of its own by those names.

    Returns:
        How many of the written rows have no verdict.

    Raises:
        DataError: A row is another one, or there are more than the source has.
    """
    n_failed = 0
    for number, written in enumerate(output.done_rows(), start=1):
        item = next(items, None)
        if item is None or (output.whole_lines and not is_row_of(written, item.row, replaced)):
            due = "no further row" if item is None else f"the row of line {item.line} of {source}"
            raise DataError(
                f"is not what is due here, {due}: two runs wrote into the file, or it was changed since",
                path=output.name, line=number, hint="--overwrite begins again",
            )  # fmt: skip
        n_failed += without_verdict(written)
    return n_failed


def is_row_of(written: Row, row: Row, replaced: Collection[str]) -> bool:
    """Whether an output row was made from an input row: its fields are there, except those replaced."""
    kept = {name: value for name, value in row.items() if name not in replaced}
    if all(name in written and written[name] == value for name, value in kept.items()):
        return True
    # Dates, NaN and the like are written as something else.
    kept = json.loads(to_json(kept))
    return all(name in written and written[name] == value for name, value in kept.items())


def without_verdict(row: Row) -> bool:
    """Whether every judgment of an output row failed."""
    ranking: Any = row.get("ranking")
    if isinstance(ranking, list) and ranking:
        return all(isinstance(entry, dict) and entry.get("failure") is not None for entry in ranking)
    return row.get("failure") is not None
