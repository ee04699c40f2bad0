# SPDX-License-Identifier: Apache-2.0
"""Keep an output from mixing two runs: compare the judge, the settings and the input before continuing it.

Dates, versions and the machine are kept in the record for information and are not compared.
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


def changed_names(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The entries of `new` that differ from those of `old`."""
    return sorted(name for name in new if old.get(name) != new[name])


def another_run(
    name: object, old: Mapping[str, Any], new: Mapping[str, Any], *, hint: str = _HINT
) -> ConfigError:
    """The error for an output that was begun with other settings: names them, before and after."""
    differing = changed_names(old, new)
    details = "\n  ".join(_changes(old, new, differing))
    return ConfigError(
        f"{name} belongs to a run with another {', '.join(differing)}:\n  {details}", hint=hint
    )


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """One text for each difference: `mode: direct there, critique now`."""
    return [
        f"{name}: {_shown(before)} there, {_shown(after)} now"
        for key in names
        for name, before, after in _leaves(key, old.get(key), new.get(key))
    ]


def _leaves(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _leaves(f"{name} {key}", old.get(key), new.get(key))
    elif old != new:
        yield name, old, new


def _shown(value: Any) -> str:
    text = "not set" if value is None else value if isinstance(value, str) else repr(value)
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."


def check_same_judge(name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> None:
    """Compare the judge of an output's rows, as its record describes it, with the judge of the next ones.

    Raises:
        ConfigError: They differ, or the record does not describe its judge (None); names what differs.
    """
    if old is None:
        raise ConfigError(
            f"the record of {name} does not say who judged its rows: a former version wrote it",
            hint="--overwrite starts again (what the cache holds of this judge is not asked again), or name "
            "another output; `autoj-reward rescore` still reads its rows",
        )
    if differing := _changes(old, new, sorted({*old, *new})):
        raise ConfigError(
            f"{name} belongs to a run with another judge:\n  " + "\n  ".join(differing), hint=_HINT
        )


def about_run(description: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a record that are not compared: date, command line, judge, versions and machine.

    The command line may hold secrets: redact it.
    """
    about = about_command()
    versions = {**about["versions"], **description["engine"].get("versions", {})}
    return {**about, "judge": dict(description), "versions": versions}


def about_command() -> dict[str, Any]:
    """Date, command line (it may hold secrets: redact it), version and class of machine."""
    try:
        version = importlib.metadata.version("autoj-reward")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "date": now,
        "command_line": list(sys.argv),
        "versions": {"autoj-reward": version},
        "machine": machine_class(),
    }
