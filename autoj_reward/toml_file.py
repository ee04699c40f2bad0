# SPDX-License-Identifier: Apache-2.0
"""Read TOML files and check their settings, with all problems reported at once."""

from __future__ import annotations

import math
import reprlib
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from autoj_reward.errors import ConfigError

_MOST_BYTES = 1 << 20
_MOST_DEPTH = 16
"""Nested tables and lists."""
_MOST_INT = (1 << 63) - 1
"""TOML's limit; Python's parser has none."""


def read_toml(path: Path, *, what: str = "the file") -> dict[str, Any]:
    """Read a TOML file; messages call it `what`.

    Raises:
        ConfigError: The file cannot be read, is not TOML, is nested too deeply, or holds a number that is not
            finite or over 64 bits; names the file and the key.
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


class SettingReader:
    """Reads settings of a table and collects all problems.

    Args:
        source: The table; settings are removed as they are read.
        where: Name in messages.
        problems: The list to add problems to, shared with the parent table.
    """

    def __init__(self, source: dict[str, Any], where: str, problems: list[str] | None = None) -> None:
        self._source = source
        self.where = where
        self.given = bool(source)
        self.problems: list[str] = [] if problems is None else problems
        self._children: list[SettingReader] = []

    def table(self, key: str) -> SettingReader:
        """A reader of a nested table; empty if it is missing."""
        child = SettingReader(dict(self.take(key, dict, {})), f"{self.where} [{key}]", self.problems)
        self._children.append(child)
        return child

    def take(
        self,
        key: str,
        kind: type | tuple[type, ...],
        default: Any = None,
        *,
        required: bool = False,
        among: tuple[str, ...] = (),
    ) -> Any:
        """A setting, or the default if it is missing or wrong."""
        value = self._source.pop(key, None)
        if value is None:
            if required:
                self.problems.append(f"{self.where}: {key} is missing")
                return kind() if isinstance(kind, type) else None
            return default
        wrong_bool = isinstance(value, bool) and kind is not bool
        if wrong_bool or not isinstance(value, kind):
            self.problems.append(f"{self.where}: {key} = {reprlib.repr(value)} is of the wrong kind")
            return kind() if required and isinstance(kind, type) else default
        if among and value not in among:
            self.problems.append(f"{self.where}: {key} = {value!r} is none of {', '.join(among)}")
            return default
        return value

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(self._all_texts(key, self.take(key, list, list(default)), default))

    def text_table(self, key: str) -> dict[str, str]:
        """A table of texts."""
        found: dict[str, str] = self.take(key, dict, {})
        return found if self._all_texts(key, list(found.values()), ()) else {}

    def text_lists(self, key: str) -> dict[str, tuple[str, ...]]:
        """A table of lists of texts."""
        child = self.table(key)
        return {name: child.texts(name, ()) for name in list(child._source)}

    def _all_texts(self, key: str, values: list[Any], default: Any) -> Any:
        if all(isinstance(value, str) for value in values):
            return values
        self.problems.append(f"{self.where}: {key} must hold texts only")
        return default

    def number(self, key: str, default: float, *, least: float = -math.inf, most: float = math.inf) -> float:
        """A number in a range, its ends included."""
        given = self.take(key, (int, float), default)
        try:
            value = float(given)
        except OverflowError:
            self.problems.append(f"{self.where}: {key} is too large a number")
            return default
        if not least <= value <= most:
            self.problems.append(f"{self.where}: {key} = {value:g} is not in [{least:g}, {most:g}]")
            return default
        return value

    def whole(self, key: str, default: Any = None, *, least: int, required: bool = False) -> Any:
        """A whole number that is at least `least`; `default` may be None."""
        value = self.take(key, int, default, required=required)
        if isinstance(value, int) and value < least:
            self.problems.append(f"{self.where}: {key} = {value} is below {least}")
            return max(default, least) if isinstance(default, int) else least if required else default
        return value

    def optional(self, key: str, kind: type[Any]) -> Any:
        """A table read as a dataclass, see `record`; None if it is missing or wrong."""
        value = self._source.pop(key, None)
        return None if value is None else self._nested(value, f"{self.where} [{key}]", kind)

    def record(self, kind: type[Any]) -> Any:
        """Read a dataclass by its annotations; None if a field is wrong.

        A dataclass field is a table, a tuple of dataclasses a list of tables.
        """
        hints, before = get_type_hints(kind), len(self.problems)
        values = {}
        for field in fields(kind):
            if field.name in self._source:
                values[field.name] = self._converted(
                    field.name, self._source.pop(field.name), hints[field.name]
                )
            elif field.default is MISSING and field.default_factory is MISSING:
                self.problems.append(f"{self.where}: {field.name} is missing")
        self.problems += self.unknown()
        self._source.clear()
        return kind(**values) if len(self.problems) == before else None

    def _converted(self, key: str, value: Any, hint: Any) -> Any:
        if is_dataclass(hint):
            return self._nested(value, f"{self.where} [{key}]", hint)
        if get_origin(hint) is tuple and is_dataclass(item := get_args(hint)[0]):
            tables = value if isinstance(value, list) else [value]
            return tuple(self._nested(t, f"{self.where} [[{key}]] {n}", item) for n, t in enumerate(tables))
        if not _fits(value, hint):
            wanted = getattr(hint, "__name__", hint) if get_origin(hint) is None else hint
            choices = f"none of {', '.join(get_args(hint))}: " if get_origin(hint) is Literal else ""
            self.problems.append(
                f"{self.where}: {key} = {reprlib.repr(value)} is {choices}of the wrong kind ({wanted})"
            )
        return tuple(value) if isinstance(value, list) else value

    def _nested(self, table: Any, where: str, kind: Any) -> Any:
        if isinstance(table, Mapping):
            return SettingReader(dict(table), where, self.problems).record(kind)
        self.problems.append(f"{where}: must be a table, is {reprlib.repr(table)}")
        return None

    def unknown(self) -> list[str]:
        """A problem for each setting that was not read."""
        own = [f"{self.where}: {key} is not a setting" for key in self._source]
        return own + [line for child in self._children for line in child.unknown()]

    def finish(self, what: str, *, hint: str, with_unknown: bool = True) -> None:
        """Raise an error with all problems, if any; with `with_unknown` also for settings that were not read.

        Raises:
            ConfigError: There are problems.
        """
        problems = self.problems + (self.unknown() if with_unknown else [])
        if problems:
            raise ConfigError(f"{what} wrong:\n  " + "\n  ".join(problems), hint=hint)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from a file fits an annotation."""
    kind, arguments = get_origin(hint), get_args(hint)
    if kind is Literal:
        return value in arguments
    if kind in (Union, UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if kind is tuple:
        return isinstance(value, list) and all(_fits(v, arguments[0]) for v in value)
    if kind is Mapping:
        return isinstance(value, Mapping) and all(_fits(v, arguments[1]) for v in value.values())
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)
