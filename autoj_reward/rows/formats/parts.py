# SPDX-License-Identifier: Apache-2.0
"""What a row of any format holds: a prompt, completions, and what people said of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoj_reward.errors import AutojRewardError, DataError
from autoj_reward.judge.messages import parts as messages
from autoj_reward.judgments import Preference
from autoj_reward.rows.containers.objects import Row
from autoj_reward.types import Text


class RowProblem(AutojRewardError):
    """A field of a row is missing or has the wrong type; the caller knows the line."""

    def __init__(self, message: str, field: str | None) -> None:
        super().__init__(message)
        self.field = field

    def at(self, path: str | Path, line: int) -> DataError:
        """The error with the file and line of the row."""
        return DataError(str(self), path=str(path), line=line, field=self.field)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowParts:
    """A row's prompt and completions.

    Attributes:
        prompt: Text or messages.
        completions: G completions.
        preference: Of people, for two completions; None if the row has none.
        gold: G numbers, more is better; None if the row has none.
    """

    prompt: Text
    completions: Sequence[Text]
    preference: Preference | None = None
    gold: tuple[float, ...] | None = None


Reader = Callable[[Row], RowParts]


def value_of(row: Mapping[str, Any], names: str) -> Any:
    """The value of the first of some fields (`a|b`) that the row has; null counts as missing.

    Raises:
        RowProblem: It has none of them.
    """
    name = name_in(row, names)
    if name is None:
        raise RowProblem(f"is missing; the row has {', '.join(map(repr, row)) or 'no fields'}", names)
    return row[name]


def name_in(row: Mapping[str, Any], names: str) -> str | None:
    """The first of some fields (`a|b`) that the row has with a value."""
    return next((name for name in names.split("|") if row.get(name) is not None), None)


def kind_of(value: Any) -> str:
    """What a value is, in the words of a message: `a text`, `an empty list`."""
    return "an empty list" if value == [] else messages.kind_of(value)


def list_of(row: Row, names: str, what: str = "completions") -> list[Any]:
    """A field that holds a list of at least one item; a text that is a JSON list is read as one.

    Raises:
        RowProblem: It is missing, or no such list.
    """
    value = unpacked(value_of(row, names))
    if not isinstance(value, list) or not value:
        raise RowProblem(f"must be a list of {what}, is {kind_of(value)}", name_in(row, names))
    return value


def unpacked(value: Any) -> Any:
    """A list that a cell of a table holds as JSON text; any other value as it is."""
    if isinstance(value, str) and value[:1] == "[" and value.rstrip()[-1:] == "]":
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def numbers(row: Row, names: str, n: int) -> tuple[float, ...] | None:
    """N numbers of a field, more is better; None if the row does not have it.

    Raises:
        RowProblem: They are not N finite numbers.
    """
    name = name_in(row, names)
    if name is None:
        return None
    values = unpacked(row[name])
    if not isinstance(values, list) or len(values) != n:
        raise RowProblem(f"must be a list of {n} numbers, one for each completion", name)
    try:
        found = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        raise RowProblem("must hold numbers only", name) from None
    if not all(map(math.isfinite, found)):
        raise RowProblem("must hold finite numbers only: leave out completions without a grade", name)
    return found


def preference_in(
    row: Row, names: str, words: Mapping[Any, Preference], *, required: bool = False
) -> Preference | None:
    """What people preferred, by a field's value; None if the row does not have the field.

    Raises:
        RowProblem: The value is not one of those known, or `required` and missing.
    """
    name = name_in(row, names)
    if name is None:
        if required:
            value_of(row, names)
        return None
    value = row[name]
    if isinstance(value, str):
        value = value.strip()
        value = int(value) if value.isdecimal() else value.lower()
    # True equals 1: a field of true and false is no number.
    if isinstance(value, list | dict | bool) or value not in words:
        known = ", ".join(map(repr, words))
        raise RowProblem(f"must be one of {known}, is {row[name]!r:.60}", name)
    return words[value]
