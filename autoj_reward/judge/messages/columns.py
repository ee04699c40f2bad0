# SPDX-License-Identifier: Apache-2.0
"""Checks of the lists that callers give: a text for a list of texts is a mistake, and said at once."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.judge.messages.parts import kind_of


def as_column(name: str, values: Any, n: int | None = None, *, of: str = "prompts") -> list[Any]:
    """The values as a list.

    Args:
        name: What messages call them.
        values: A list, tuple, array or column of a data set.
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
    return list(values)


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
