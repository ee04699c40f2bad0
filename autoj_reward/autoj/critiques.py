# SPDX-License-Identifier: Apache-2.0
"""Read Auto-J's critique evaluation files: cases, critiques and comparisons of critiques."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from autoj_reward.autoj.pairs import scenario_of
from autoj_reward.autoj.scenarios.names import scenario_groups
from autoj_reward.errors import DataError
from autoj_reward.rows.source import Row, read_rows

Outcome = Literal["win", "tie", "lose"]
"""Outcome of the evaluated critique against the reference critique."""

OUTCOMES: tuple[Outcome, ...] = ("win", "tie", "lose")

_CHOICE = re.compile(r"\s*([ABC])\b")
"""The start of a comparison: A is the first critique shown, B the second, C neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CritiqueCase:
    """A completion to criticise, with the file's critiques by writer; `scenario` may be empty."""

    prompt: str
    completion: str
    scenario: str = ""
    group: str = ""
    critiques: Mapping[str, str] = field(default_factory=dict)


def read_cases(path: str | Path) -> list[CritiqueCase]:
    """Read `testdata_critique.jsonl`: rows of `scenario`, `prompt`, `response` and optionally `critiques`.

    Raises:
        ConfigError: The file does not exist.
        DataError: A row is wrong; names file, line and field.
    """
    groups = scenario_groups()
    cases = []
    for line, row in read_rows(path):
        scenario, group = scenario_of(row, groups, path, line)
        critiques = row.get("critiques") or {}
        if not isinstance(critiques, dict) or not all(isinstance(c, str) for c in critiques.values()):
            raise DataError("must map writers to texts", path=str(path), line=line, field="critiques")
        name = "response" if "response" in row else "completion"
        cases.append(
            CritiqueCase(
                prompt=_text(row, "prompt", path, line),
                completion=_text(row, name, path, line),
                scenario=scenario,
                group=group,
                critiques=critiques,
            )
        )
    return cases


def read_critiques(path: str | Path) -> list[str]:
    """Read critiques, one per row: `output`, or `critique` as `autoj-reward rate` writes it.

    Raises:
        ConfigError: The file does not exist.
        DataError: A row holds no text.
    """
    return [
        _text(row, "output" if "output" in row else "critique", path, line) for line, row in read_rows(path)
    ]


def read_outcomes(path: str | Path) -> list[Outcome | None]:
    """Read comparisons of an evaluated critique (A) with a reference critique (B).

    Rows hold `outcome` as `autoj-reward evaluate critique --output` writes it (win, tie, lose, or null), or a
    judge's `output` that begins with A (the first critique), B (the second) or C (neither), with
    `meta.exchange`: whether the reference critique was shown first.

    Returns:
        An outcome for each row; None if the judge's output cannot be read.

    Raises:
        ConfigError: The file does not exist.
        DataError: A row has neither form; names file, line and field.
    """
    return [_outcome(row, path, line) for line, row in read_rows(path)]


def _outcome(row: Row, path: str | Path, line: int) -> Outcome | None:
    if "outcome" in row:
        outcome: Outcome | None = row["outcome"]
        if outcome is not None and outcome not in OUTCOMES:
            raise DataError("must be win, tie, lose or null", path=str(path), line=line, field="outcome")
        return outcome
    meta: Any = row.get("meta")
    exchanged = meta.get("exchange") if isinstance(meta, dict) else None
    if not isinstance(exchanged, bool):
        raise DataError("must be true or false", path=str(path), line=line, field="meta.exchange")
    choice = _CHOICE.match(_text(row, "output", path, line))
    if choice is None:
        return None
    if choice[1] == "C":
        return "tie"
    return "win" if (choice[1] == "A") is not exchanged else "lose"


def _text(row: Row, name: str, path: str | Path, line: int) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError("must be a text", path=str(path), line=line, field=name)
    return value
