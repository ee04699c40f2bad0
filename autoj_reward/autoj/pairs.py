# SPDX-License-Identifier: Apache-2.0
"""Read Auto-J's pairwise evaluation files: labelled pairs, decisions and reward model scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoj_reward.autoj.scenarios.names import scenario_groups
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.judgments import EXCHANGED, PREFERENCES, Preference
from autoj_reward.rows.fields import RowProblem
from autoj_reward.rows.labels import pairs_of, read_labelled
from autoj_reward.rows.source import Row, read_rows
from autoj_reward.types import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPair:
    """A pair with a human preference."""

    prompt: Text
    first: Text
    second: Text
    preference: Preference
    scenario: str
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A judge's decisions on a pair; first and second are always those of the given order.

    Attributes:
        given: Decision with the pair as given; None if it could not be read.
        swapped: Decision with the pair swapped; None if it could not be read.
        averaged: Decision after averaging both orders' probabilities; None if the file has none.
        win_prob: Probability in [0, 1] that the first completion wins; None if the file has none.
    """

    given: Preference | None
    swapped: Preference | None = None
    averaged: Preference | None = None
    win_prob: float | None = None


Scores = tuple[float | None, float | None]
"""A scalar reward model's scores of a pair's first and second completion; None without one."""


def read_pairs(
    path: str | Path, *, format_name: str | None = None, columns: Mapping[str, str] | None = None
) -> list[LabelledPair]:
    """Read pairs that people judged, of any format that is recognised (see docs/files.md).

    Auto-J's `testdata_pairwise.jsonl`, `chosen` and `rejected`, rows of `compare` with what people preferred
    (`label`), groups with a number for each completion: each pair of different numbers. The fields `scenario`
    of Auto-J's rows give groups; other rows may leave it out.

    Args:
        path: As for `open_source`.
        format_name: The format; None recognises it by the first rows.
        columns: Our field names to the file's: `prompt`, `first`, `second`, `label`; `completions`, `gold`.

    Raises:
        ConfigError: The file does not exist, or has a format without pairs.
        DataError: A row is wrong; names file, line and field.
    """
    groups = scenario_groups()
    read = read_labelled(path, format_name=format_name, columns=columns)
    pairs = []
    for one in read.rows:
        scenario, group = "", ""
        if read.format.name in (None, "autoj-pairwise", "autoj-selection"):
            scenario, group = scenario_of(one.row, groups, path, one.line)
        try:
            found = list(pairs_of(one.parts))
        except RowProblem as problem:
            raise problem.at(path, one.line) from problem
        pairs += [
            LabelledPair(
                prompt=one.parts.prompt,
                first=one.parts.completions[i],
                second=one.parts.completions[j],
                preference=preference,
                scenario=scenario,
                group=group,
            )
            for i, j, preference in found
        ]
    return pairs


def scenario_of(row: Row, groups: Mapping[str, str], path: str | Path, line: int) -> tuple[str, str]:
    """A row's scenario and its group; two empty texts if the row has no scenario.

    Raises:
        DataError: The scenario is unknown.
    """
    scenario = row.get("scenario", "")
    if not isinstance(scenario, str) or (scenario and scenario not in groups):
        raise DataError(
            f"{scenario!r} is not a scenario", path=str(path), line=line, field="scenario",
            hint="Auto-J's names are in `autoj-reward scenarios`; leave the field out for no groups",
        )  # fmt: skip
    return scenario, groups.get(scenario, "")


def read_decisions(path: str | Path, swapped: str | Path | None = None) -> list[Decision]:
    """Read a judge's decisions.

    Args:
        path: Rows with `output` (0 first, 1 second, 2 tie), or rows that `autoj-reward compare` wrote.
        swapped: For rows with `output`: the decisions on the swapped pairs; 0 is the completion shown first
            in these.

    Raises:
        ConfigError: A file does not exist, or `swapped` is given for a file that holds both orders.
        DataError: A row is wrong, or the files differ in length.
    """
    rows = list(read_rows(path))
    if rows and "order_preferences" in rows[0][1]:
        if swapped is not None:
            raise ConfigError(f"{path} holds both orders already", hint="leave out the swapped file")
        both = any(row.get("order_preferences") for _, row in rows)
        return [_compared(row, path, line, both=both) for line, row in rows]
    given = [_preference(row, "output", path, line) for line, row in rows]
    if swapped is None:
        return [Decision(given=g) for g in given]
    exchanged = [EXCHANGED[_preference(row, "output", swapped, line)] for line, row in read_rows(swapped)]
    if len(exchanged) != len(given):
        raise DataError(f"has {len(exchanged)} rows, {path} has {len(given)}", path=str(swapped))
    return [Decision(given=g, swapped=s) for g, s in zip(given, exchanged, strict=True)]


def _compared(row: Row, path: str | Path, line: int, *, both: bool) -> Decision:
    # If the file has both orders, a row with a preference and without orders was decided by rule.
    known = row.get("preference")
    orders: Any = row.get("order_preferences") or (known, known if both else None)
    names = [*orders, row.get("preference")]
    if len(names) != 3 or any(n is not None and n not in PREFERENCES for n in names):
        raise DataError("must be two preferences", path=str(path), line=line, field="order_preferences")
    win_prob = row.get("win_prob")
    if win_prob is not None and not (_is_number(win_prob) and 0 <= win_prob <= 1):
        raise DataError("must be in [0, 1] or null", path=str(path), line=line, field="win_prob")
    return Decision(given=names[0], swapped=names[1], averaged=names[2], win_prob=win_prob)


def holds_scores(path: str | Path) -> bool:
    """Whether a prediction file holds scalar scores, by its first row."""
    first = next(read_rows(path), None)
    return first is not None and "scores" in first[1]


def read_scores(path: str | Path) -> list[Scores]:
    """Read a scalar reward model's scores: rows with `scores` of the first and the second completion.

    Raises:
        ConfigError: The file does not exist.
        DataError: A row does not have two numbers or nulls.
    """
    found = []
    for line, row in read_rows(path):
        scores = row.get("scores")
        if not isinstance(scores, list) or [s is None or _is_number(s) for s in scores] != [True, True]:
            raise DataError("must be two numbers (or null)", path=str(path), line=line, field="scores")
        found.append((scores[0], scores[1]))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _preference(row: Row, field: str, path: str | Path, line: int) -> Preference:
    value = row.get(field)
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or value not in (0, 1, 2):
        raise DataError(f"must be 0, 1 or 2, is {value!r}", path=str(path), line=line, field=field)
    return PREFERENCES[int(value)]
