# SPDX-License-Identifier: Apache-2.0
"""TOML files as settings: what cannot be a setting is refused with its file and key, whatever it is."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError

_MOST_BYTES = 1 << 20
_MOST_DEPTH = 16
"""Tables and lists within each other."""
_MOST_INT = (1 << 63) - 1
"""TOML's own limit; Python reads on."""


def read_toml(path: Path, *, what: str = "the file") -> dict[str, Any]:
    """A TOML file's contents.

    Args:
        path: The file.
        what: What messages call it.

    Raises:
        ConfigError: The file cannot be read, is not TOML, or holds a number that is not finite or over 64
            bits, or tables too deep in each other; names the file and the key.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {what} {path}: {error}") from error
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{what} {path} is larger than {_MOST_BYTES >> 20} MiB")
    try:
        source = tomllib.loads(content.decode("utf-8-sig"))
    except RecursionError:
        raise ConfigError(f"{path}: nested more than {_MOST_DEPTH} deep") from None
    # Not TOMLDecodeError alone: an integer of 5,000 digits is another ValueError.
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    _check(source, str(path), "", 0)
    return source


def _check(value: Any, path: str, key: str, depth: int) -> None:
    if depth > _MOST_DEPTH:
        raise ConfigError(f"{path}: {key}: nested more than {_MOST_DEPTH} deep")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path}: {key} = {value} is not a finite number")
    if isinstance(value, int) and abs(value) > _MOST_INT:
        raise ConfigError(f"{path}: {key} is an integer over 64 bits")
    if isinstance(value, dict):
        for name, item in value.items():
            _check(item, path, f"{key}.{name}" if key else name, depth + 1)
    elif isinstance(value, list):
        for n, item in enumerate(value):
            _check(item, path, f"{key}[{n}]", depth + 1)
