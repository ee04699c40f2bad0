# SPDX-License-Identifier: Apache-2.0
"""Format a report as terminal tables or Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoj_reward.statistics import Share

MISSING = "-"
"""Shown in place of a missing figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTable:
    """A table: the first column is text, the others are figures.

    Attributes:
        title: What it shows.
        columns: Names of the columns.
        sections: Rows in sections, which a terminal separates by a line.
        notes: Lines that go under it.
    """

    title: str
    columns: tuple[str, ...]
    sections: tuple[tuple[tuple[str, ...], ...], ...]
    notes: tuple[str, ...] = ()


def as_markdown(tables: Sequence[ReportTable]) -> str:
    """Tables as Markdown, each under its title, its notes below."""
    parts = []
    for table in tables:
        lines = [f"**{table.title}**", "", _line(table.columns)]
        lines.append(_line(["---", *["---:"] * (len(table.columns) - 1)]))
        lines += [_line(row) for section in table.sections for row in section]
        lines += [line for note in table.notes for line in ("", _escaped(note))]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def figure(value: float | None, *, of: float = 100.0) -> str:
    """A share as a percentage with two decimals (or another multiple); a dash without one."""
    return MISSING if value is None or math.isnan(value) else f"{of * value:.2f}"


def interval(given: Share | None) -> str:
    """`54.96 (52.3-57.6)`: a share and its 95% interval, in percent."""
    if given is None or given.n == 0:
        return MISSING
    return f"{100 * given.value:.2f} ({100 * given.low:.1f} to {100 * given.high:.1f})"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
