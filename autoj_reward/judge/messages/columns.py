# SPDX-License-Identifier: Apache-2.0
"""Checks of the lists that callers give: a text for a list of texts is a mistake, and said at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.judge.messages.parts import kind_of


def as_column(name: str, values: Any, n: int | None = None, *, of: str = "prompts") -> list[Any]:
    """The values as a list.

    Args:
        name: What messages call them.
        values: A list, tuple, array, or a column of pandas, Arrow or a data set.
        n: How many there must be, or None.
        of: What `n` counts.

    Raises:
        ConfigError: It is a text or no list, or has another length.
    """
    if isinstance(values, str):
        raise ConfigError(
            f"{name} is one text; give a list" + ("" if n is None else f" of {n}"), hint=f"{name}=[...]"
        )
    sized = hasattr(values, "__len__") and hasattr(values, "__getitem__")
    if not sized or isinstance(values, Mapping | Set | bytes | bytearray | memoryview):
        raise ConfigError(f"{name} must be a list, is {kind_of(values)}")
    if n is not None and len(values) != n:
        raise ConfigError(f"there are {n} {of} and {len(values)} {name}")
    return _plain(values)


def _plain(values: Any) -> list[Any]:
    """The items of a list, or of a column of Arrow, datasets, pandas or numpy; a missing value is None."""
    if hasattr(values, "to_pylist"):
        return list(values.to_pylist())
    if not hasattr(values, "tolist"):
        return list(values)
    return [_plain_item(item) for item in values.tolist()]


def _plain_item(item: Any) -> Any:
    """A value of pandas, which has NaN or NA for a missing value, and arrays for lists."""
    if (isinstance(item, float) and math.isnan(item)) or type(item).__name__ == "NAType":
        return None
    return item.tolist() if hasattr(item, "tolist") else item


def as_groups(name: str, groups: Any, n: int) -> list[list[Any]]:
    """Groups of completions as lists of lists, none of them empty.

    Args:
        name: What messages call them.
        groups: N lists of completions.
        n: How many groups there must be.

    Raises:
        ConfigError: A group is a text, no list, or empty; or there is another number of them.
    """
    made = [as_column(f"{name}[{i}]", group) for i, group in enumerate(as_column(name, groups, n))]
    if empty := [i for i, group in enumerate(made) if not group]:
        raise ConfigError(f"{name} {empty} hold no completion")
    return made
