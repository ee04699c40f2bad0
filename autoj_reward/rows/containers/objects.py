# SPDX-License-Identifier: Apache-2.0
"""Check the objects of JSON files: no key twice, no endless nesting."""

from __future__ import annotations

from typing import Any

from autoj_reward.errors import DataError

Row = dict[str, Any]
"""One row: field names to values, in the file's order."""

MOST_DEPTH = 64
"""How deep objects and lists may be nested."""


def unique_keys(pairs: list[tuple[str, Any]]) -> Row:
    """A JSON object without duplicate keys: readers differ about which of two equal keys counts.

    Raises:
        ValueError: A key is given twice.
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} is given twice")
    return made


def checked_object(value: Any, name: str, line: int) -> Row | DataError:
    """A row, or the error that says why the value is none."""
    if not isinstance(value, dict):
        return DataError(f"a {type(value).__name__}, not a JSON object", path=name, line=line)
    return too_deep(name, line) if is_deep(value) else value


def too_deep(name: str, line: int) -> DataError:
    """The error for a row that is nested too deeply."""
    return DataError(f"nested more than {MOST_DEPTH} deep", path=name, line=line)


def is_deep(value: Any) -> bool:
    """Whether objects and lists are nested too deeply."""
    level: list[Any] = [value]
    for _ in range(MOST_DEPTH + 1):
        level = [
            item
            for one in level
            for item in (one.values() if isinstance(one, dict) else one)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True
