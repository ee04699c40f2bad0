# SPDX-License-Identifier: Apache-2.0
"""Recognise the format of a file by its first rows, and say which format rows nearly are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.json_text import json_text
from autoj_reward.rows.containers.objects import Row
from autoj_reward.rows.formats.renamed import check_columns, renamed, similar
from autoj_reward.rows.formats.table import NOT_JUDGED, OWN, Holds, KnownFormat, known_formats
from autoj_reward.rows.source import RowSource

Kind = Literal["rate", "compare", "rerank"]

TAKES: dict[Kind, tuple[Holds, ...]] = {
    "rate": ("one",),
    "compare": ("two",),
    "rerank": ("many", "two"),
}
"""How many completions a row may hold for each kind. Two are also a group, but first a pair."""
_COMMANDS: dict[Holds, str] = {
    "one": "rate reads them",
    "two": "compare, rerank and label read them",
    "many": "rerank and label read them",
}
_LOOK_AT = 20
"""Rows that are looked at."""
_SHOWN_ROWS, _SHOWN_CHARS = 5, 160


def format_of(row: Mapping[str, Any], kinds: Sequence[Kind]) -> KnownFormat | None:
    """The format of a row that is read as one of some kinds; None if it has that of none.

    Raises:
        ConfigError: It has a format that these kinds do not read.
    """
    own = [OWN[kind] for kind in kinds]
    found = next((f for f in (*own, *known_formats()) if f.matches(row)), None)
    if found is None or _is_read_by(found, kinds):
        return found
    names = " or ".join(kinds)
    raise ConfigError(
        f"the rows are {found.name} ({found.about}), which {names} does not read",
        hint=f"{_COMMANDS[found.holds]}; --column {_example(kinds[0])} names fields by hand",
    )


def detected(
    source: RowSource, kinds: Sequence[Kind], columns: Mapping[str, str] | None = None
) -> KnownFormat | None:
    """The format of a source, by the first of its rows that has one; None if none of the first 20 has.

    Args:
        source: The rows.
        kinds: What may be done with them.
        columns: Our field names to the file's, where they differ.

    Raises:
        ConfigError: They have a format that these kinds do not read, or a column is none of any format.
        DataError: The source as a whole cannot be read.
    """
    columns = columns or {}
    first = itertools.islice(source.rows(), _LOOK_AT)
    rows = [row for _, row in first if not isinstance(row, DataError)]
    if columns:
        check_columns(columns, _read_by(kinds), {name for row in rows for name in row}, kinds)
        rows = [renamed(row, columns) for row in rows]
    found = next((known for row in rows if (known := format_of(row, kinds)) is not None), None)
    if found is not None or not rows:
        return found
    # No row has a value in every field of a format: for the messages take one whose fields are there, or
    # would be if they were spelt as the format spells them.
    named = dict.fromkeys(rows[0], "")
    there = (f for f in _read_by(kinds) if not f.missing(named) and f.fits(rows[0]))
    return next(there, None) or nearest(rows[0], kinds).meant


def named_format(name: str, kinds: Sequence[Kind]) -> KnownFormat:
    """A format by its name.

    Raises:
        ConfigError: There is no such format, or these kinds do not read it.
    """
    fitting = _read_by(kinds)
    found = next((f for f in fitting if f.name == name), None)
    if found is None:
        raise ConfigError(
            f"{' or '.join(kinds)} does not read the format {name!r}",
            hint=f"it reads {', '.join(f.name for f in fitting)}",
        )
    return found


@dataclass(frozen=True, slots=True)
class Nearest:
    """Which format rows nearly have.

    Attributes:
        says: A sentence; empty if the rows have no field of any format.
        columns: Names of the format to the rows' misspelt ones, as `--column` takes them.
        meant: The format that they have with these columns, if they have all its fields then.
    """

    says: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    meant: KnownFormat | None = None

    def option(self, otherwise: str) -> str:
        """The option that reads the misspelt names, or another without any."""
        return " ".join(f"--column {ours}={theirs}" for ours, theirs in self.columns.items()) or otherwise


def nearest(row: Mapping[str, Any], kinds: Sequence[Kind]) -> Nearest:
    """Which format that these kinds read a row nearly has.

    A format that the row has when misspelt names are corrected comes first, then one of which the row has
    the larger share of fields. A misspelt name counts as half a field.
    """
    candidates = [_with_corrections(one, row) for one in _read_by(kinds)]

    def closeness(candidate: tuple[KnownFormat, dict[str, str]]) -> tuple[bool, float]:
        one, corrected = candidate
        share = 1 - (len(one.missing(row)) - len(corrected) / 2) / len(one.marks)
        return bool(corrected) and one.matches(renamed(row, corrected)), share

    best, corrected = max(candidates, key=closeness)
    if len(best.missing(row)) == len(best.marks):
        looks = (what for marks, what in NOT_JUDGED if all(_has(row, mark) for mark in marks))
        if (what := next(looks, "")) or not corrected:
            return Nearest(what and f"the rows look like {what}")
    there = {
        mark: corrected[name] for mark in best.missing(row) for name in mark.split("|") if name in corrected
    }
    missing = [
        f"no {mark.replace('|', ' or ')}" + (f" (there is {there[mark]!r})" if mark in there else "")
        for mark in best.missing(row)
    ]
    if not missing:
        return Nearest(f"the rows have the fields of {best.name} ({best.about})")
    meant = best if closeness((best, corrected))[0] else None
    said = f"the rows are nearly {best.name} ({best.about}), but have {', '.join(missing)}"
    return Nearest(said, corrected, meant)


def _with_corrections(known: KnownFormat, row: Mapping[str, Any]) -> tuple[KnownFormat, dict[str, str]]:
    """A format, and its missing names to names of the row that it does not read, each once."""
    read = {name for mark in known.marks for name in mark.split("|")}
    free = [name for name, value in row.items() if value is not None and name not in read]
    corrected: dict[str, str] = {}
    for mark in known.missing(row):
        for name in mark.split("|"):
            if (meant := similar(name, free)) is not None:
                corrected[name] = meant
                free.remove(meant)
                break
    return known, corrected


def first_rows(rows: Sequence[Row]) -> str:
    """Up to five rows as lines of a message, each cut at 160 characters."""
    lines = [json_text(row, ensure_ascii=False, default=str) for row in rows[:_SHOWN_ROWS]]
    return "\n".join(
        f"  {line if len(line) <= _SHOWN_CHARS else line[: _SHOWN_CHARS - 1] + '…'}" for line in lines
    )


def _is_read_by(known: KnownFormat, kinds: Sequence[Kind]) -> bool:
    return any(known.holds in TAKES[kind] for kind in kinds)


def _read_by(kinds: Sequence[Kind]) -> list[KnownFormat]:
    """The formats that at least one of these kinds reads."""
    return [known for known in known_formats() if _is_read_by(known, kinds)]


def _has(row: Mapping[str, Any], mark: str) -> bool:
    return any(row.get(name) is not None for name in mark.split("|"))


def _example(kind: Kind) -> str:
    return {"rate": "completion=FIELD", "compare": "first=FIELD", "rerank": "completions=FIELD"}[kind]
