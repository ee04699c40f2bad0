# SPDX-License-Identifier: Apache-2.0
"""Auto-J's evaluation files, in this package's words: `response` becomes completion at this door."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.judgments import PREFERENCES, Preference
from autoj_reward.rows.source import Row, open_source


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPair:
    """A pair that people judged."""

    prompt: str
    first: str
    second: str
    preference: Preference
    scenario: str
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a judge decided about a pair, the names of both orders being those of the given order.

    Attributes:
        given: Decision with the pair as given; None where it could not be read.
        swapped: Decision with the pair swapped, mapped back; None where it could not be read.
        averaged: Decision after averaging both orders' probabilities; None where the file has none.
    """

    given: Preference | None
    swapped: Preference | None = None
    averaged: Preference | None = None


def scenario_groups() -> Mapping[str, str]:
    """Auto-J's scenarios, and the group each belongs to."""
    text = (resources.files("autoj_reward.evaluate") / "scenarios.json").read_text(encoding="utf-8")
    return {name: group for group, names in json.loads(text)["groups"].items() for name in names}


def read_pairs(path: str | Path) -> list[LabelledPair]:
    """Rows of `testdata_pairwise.jsonl`: `scenario`, `label`, `prompt`, `response 1`, `response 2`.

    Raises:
        ConfigError: There is no such file.
        DataError: A row is wrong; names file, line and field.
    """
    groups = scenario_groups()
    pairs = []
    for line, row in _rows(path):
        scenario = str(row.get("scenario"))
        if scenario not in groups:
            raise DataError(f"{scenario!r} is not a scenario", path=str(path), line=line, field="scenario")
        texts = {name: row.get(name) for name in ("prompt", "response 1", "response 2")}
        for name, text in texts.items():
            if not isinstance(text, str):
                raise DataError("must be a text", path=str(path), line=line, field=name)
        pairs.append(
            LabelledPair(
                prompt=str(texts["prompt"]),
                first=str(texts["response 1"]),
                second=str(texts["response 2"]),
                preference=_preference(row, "label", path, line),
                scenario=scenario,
                group=groups[scenario],
            )
        )
    return pairs


def read_decisions(path: str | Path, swapped: str | Path | None = None) -> list[Decision]:
    """A judge's decisions.

    Args:
        path: Rows with `output` (0 first, 1 second, 2 tie), or what `autoj-reward compare` wrote.
        swapped: For rows with `output`: the decisions on the swapped pairs, where 0 means the
            completion that was shown first then.

    Raises:
        ConfigError: A file is missing, or `swapped` is given with a file that holds both orders.
        DataError: A row is wrong, or the files differ in length.
    """
    rows = list(_rows(path))
    if rows and "order_preferences" in rows[0][1]:
        if swapped is not None:
            raise ConfigError(f"{path} holds both orders already", hint="leave out the swapped file")
        return [_compared(row, path, line) for line, row in rows]
    given = [_preference(row, "output", path, line) for line, row in rows]
    if swapped is None:
        return [Decision(given=g) for g in given]
    exchanged = [_exchange(_preference(row, "output", swapped, line)) for line, row in _rows(swapped)]
    if len(exchanged) != len(given):
        raise DataError(f"has {len(exchanged)} rows, {path} has {len(given)}", path=str(swapped))
    return [Decision(given=g, swapped=s) for g, s in zip(given, exchanged, strict=True)]


def _compared(row: Row, path: str | Path, line: int) -> Decision:
    orders: Any = row.get("order_preferences") or (None, None)
    names = [*orders, row.get("preference")]
    if len(names) != 3 or any(n is not None and n not in PREFERENCES for n in names):
        raise DataError("must be two preferences", path=str(path), line=line, field="order_preferences")
    return Decision(given=names[0], swapped=names[1], averaged=names[2])


def _rows(path: str | Path) -> Iterator[tuple[int, Row]]:
    for line, row in open_source(str(path)).rows():
        if isinstance(row, DataError):
            raise row
        yield line, row


def _preference(row: Row, field: str, path: str | Path, line: int) -> Preference:
    value = row.get(field)
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or value not in (0, 1, 2):
        raise DataError(f"must be 0, 1 or 2, is {value!r}", path=str(path), line=line, field=field)
    return PREFERENCES[int(value)]


def _exchange(preference: Preference) -> Preference:
    other: dict[Preference, Preference] = {"first": "second", "second": "first", "tie": "tie"}
    return other[preference]
