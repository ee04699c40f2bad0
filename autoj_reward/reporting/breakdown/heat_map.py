# SPDX-License-Identifier: Apache-2.0
"""A heat map: a table whose cells are shaded by their value, and its HTML.

Every value is written in its cell. A cell without one is hatched and says why, so that no information is in
colour alone.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from autoj_reward.reporting.escaping import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of values.

    Attributes:
        name: Its name.
        note: A few words under the name.
        axis: The values with no shade and with the full one; None shades none.
        against: Whether a high value counts against what is judged; it has another colour.
    """

    name: str
    note: str = ""
    axis: tuple[float, float] | None = None
    against: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, or the reason of a failure; neither if there was nothing to judge."""

    value: float | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatRow:
    """One judgment: its name, a cell for each column, the row's line, and the beginning of its text."""

    label: str
    cells: Sequence[Cell]
    line: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """Values by judgment and column.

    Attributes:
        id: Unique on the page; empty for a table inside a row.
        title: Title of the table.
        says: The main finding, and what the shades mean.
        columns: c columns.
        rows: One for each judgment, with c cells.
        foot: Texts for each column by name, c each: means and counts over all judgments.
    """

    id: str = ""
    title: str
    says: str = ""
    columns: Sequence[Column]
    rows: Sequence[HeatRow]
    foot: Mapping[str, Sequence[str]] = field(default_factory=dict)


def heat_table(part: HeatMap, browsed: Container[int] = ()) -> str:
    """The table of a heat map; rows whose line can be browsed on the page link to it."""
    head = "".join(f'<th scope="col">{shown(c.name)}{_small(c.note)}</th>' for c in part.columns)
    body = "".join(_row(row, part.columns, browsed) for row in part.rows)
    foot = "".join(
        f'<tr><th scope="row">{shown(name)}</th>{"".join(f"<td>{shown(text)}</td>" for text in texts)}</tr>'
        for name, texts in part.foot.items()
    )
    return (
        f'<div class="wide" role="group" tabindex="0" aria-label="Table: {shown(part.title)}">'
        f'<table class="heat"><caption>{shown(part.title)}</caption>'
        f'<thead><tr><th scope="col">Judgment</th>{head}</tr></thead><tbody>{body}</tbody>'
        f"{f'<tfoot>{foot}</tfoot>' if foot else ''}</table></div>"
    )


def row_id(line: int) -> str:
    """The id of a row to browse."""
    return f"rows-line-{line}"


def _row(row: HeatRow, columns: Sequence[Column], browsed: Container[int]) -> str:
    label = shown(row.label)
    if row.line is not None and row.line in browsed:
        label = f'<a href="#{row_id(row.line)}">{label}</a>'
    text = f'<small dir="auto">{shown(row.text)}</small>' if row.text else ""
    cells = "".join(_cell(cell, column) for cell, column in zip(row.cells, columns, strict=True))
    return f'<tr><th scope="row">{label}{text}</th>{cells}</tr>'


def _cell(cell: Cell, column: Column) -> str:
    if cell.failure is not None:
        return f'<td class="failed">failed{_small(cell.failure)}</td>'
    if cell.value is None:
        return "<td>-</td>"
    if column.axis is None:
        return f"<td>{cell.value:.2f}</td>"
    low, high = column.axis
    weight = min(max((cell.value - low) / (high - low), 0.0), 1.0) if high > low else 0.0
    kind = "h against" if column.against else "h"
    return f'<td class="{kind}" style="--v:{weight:.2f}">{cell.value:.2f}</td>'


def _small(text: str) -> str:
    return f"<small>{shown(text)}</small>" if text else ""
