# SPDX-License-Identifier: Apache-2.0
"""Settings out of a table that somebody wrote: taken by their kind, with all problems told at once."""

from __future__ import annotations

import math
import reprlib
from typing import Any

from autoj_reward.errors import ConfigError


class SettingReader:
    """Takes settings out of a table and remembers everything that is wrong with it."""

    def __init__(self, source: dict[str, Any], where: str, problems: list[str] | None = None) -> None:
        self._source = source
        self.where = where
        self.given = bool(source)
        self.problems: list[str] = [] if problems is None else problems
        self._children: list[SettingReader] = []

    def table(self, key: str) -> SettingReader:
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

    def _all_texts(self, key: str, values: list[Any], default: Any) -> Any:
        if all(isinstance(value, str) for value in values):
            return values
        self.problems.append(f"{self.where}: {key} holds something that is no text")
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

    def unknown(self) -> list[str]:
        own = [f"{self.where}: {key} is not a setting" for key in self._source]
        return own + [line for child in self._children for line in child.unknown()]

    def finish(self, *, with_unknown: bool = True) -> None:
        problems = self.problems + (self.unknown() if with_unknown else [])
        if problems:
            raise ConfigError(
                "the judge's settings are wrong:\n  " + "\n  ".join(problems),
                hint="compare with the judges that ship with the package: autoj-reward judges --show NAME",
            )
