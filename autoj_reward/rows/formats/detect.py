# SPDX-License-Identifier: Apache-2.0
"""Recognise the format of a file by its first rows, and say which format rows nearly are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.json_text import json_text
from autoj_reward.rows.containers.objects import Row
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


def detected(source: RowSource, kinds: Sequence[Kind]) -> KnownFormat | None:
    """The format of a source, by the first of its rows that has one; None if none of the first 20 has.

    Raises:
        ConfigError: They have a format that these kinds do not read.
        DataError: The source as a whole cannot be read.
    """
    first = itertools.islice(source.rows(), _LOOK_AT)
    rows = [row for _, row in first if not isinstance(row, DataError)]
    found = next((known for row in rows if (known := format_of(row, kinds)) is not None), None)
    if found is not None or not rows:
        return found
    # No row has a value in every field of a format: take one whose fields are there, for the messages.
    named = dict.fromkeys(rows[0], "")
    return next((f for f in _read_by(kinds) if not f.missing(named) and f.fits(rows[0])), None)


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


def nearest(row: Mapping[str, Any], kinds: Sequence[Kind]) -> str:
    """Which format that these kinds read a row nearly has, as a sentence; empty if it has no field of any.

    A format of which the row has the larger share of fields is nearer. A name that differs in case, or by a
    blank or a hyphen, counts as half.
    """
    plain = {_plain(name): name for name in row}

    def similar(mark: str) -> str | None:
        return next((plain[_plain(name)] for name in mark.split("|") if _plain(name) in plain), None)

    def share(one: KnownFormat) -> float:
        missing = one.missing(row)
        return 1 - (len(missing) - sum(similar(mark) is not None for mark in missing) / 2) / len(one.marks)

    best = max(_read_by(kinds), key=share)
    if share(best) == 0:
        looks = (what for marks, what in NOT_JUDGED if all(_has(row, mark) for mark in marks))
        return next((f"the rows look like {what}" for what in looks), "")
    missing = [
        f"no {mark.replace('|', ' or ')}"
        + (f" (there is {name!r})" if (name := similar(mark)) and name not in mark.split("|") else "")
        for mark in best.missing(row)
    ]
    if not missing:
        return f"the rows have the fields of {best.name} ({best.about})"
    return f"the rows are nearly {best.name} ({best.about}), but have {', '.join(missing)}"


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


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _example(kind: Kind) -> str:
    return {"rate": "completion=FIELD", "compare": "first=FIELD", "rerank": "completions=FIELD"}[kind]
