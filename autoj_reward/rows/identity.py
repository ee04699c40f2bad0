# SPDX-License-Identifier: Apache-2.0
"""Who judged an output's rows: kept in its record, and compared before the output is continued.

Compared are who answers, the settings and the input. Dates, versions and the machine are information.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.identity import machine_class

_MOST_SHOWN = 60
"""Characters of a value in a message."""

_HINT = "--overwrite replaces it, or name another output"


def changes(old: Mapping[str, Any], new: Mapping[str, Any], names: Sequence[str] | None = None) -> list[str]:
    """What differs, one text each: `mode: direct -> critique`."""
    wanted = sorted({*old, *new}) if names is None else names
    return [
        f"{name}: {_shown(before)} -> {_shown(after)}"
        for key in wanted
        for name, before, after in _leaves(key, old.get(key), new.get(key))
    ]


def _leaves(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _leaves(f"{name} {key}", old.get(key), new.get(key))
    elif old != new:
        yield name, old, new


def _shown(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else repr(value)
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."


def check_same_judge(name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> None:
    """Refuse to mix rows of two judges in one output.

    Args:
        name: The output.
        old: Who judged the rows that are there, as its record has it; None where it does not say.
        new: Who would judge the rest.

    Raises:
        ConfigError: They differ, or the record does not say; names what differs.
    """
    if old is None:
        raise ConfigError(
            f"the record of {name} does not say who judged its rows: a former version wrote it",
            hint="--overwrite starts again (what the cache holds of this judge is not asked again), or name "
            "another output; `autoj-reward rescore` still reads its rows",
        )
    if differing := changes(old, new):
        raise ConfigError(
            f"{name} belongs to a run with another judge:\n  " + "\n  ".join(differing), hint=_HINT
        )


def about_run(description: Mapping[str, Any]) -> dict[str, Any]:
    """Information on a run that is not compared: when, how, where and with which versions.

    It holds the command line, secrets included: redact it.

    Args:
        description: The judge's.
    """
    try:
        version = importlib.metadata.version("autoj-reward")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "date": now,
        "command_line": list(sys.argv),
        "judge": dict(description),
        "versions": {"autoj-reward": version, **description["engine"].get("versions", {})},
        "machine": machine_class(),
    }
