# SPDX-License-Identifier: Apache-2.0
"""Judgments and rankings as pandas tables and, for notebooks, as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Protocol

_SHOWN_ROWS, _SHOWN_CHARS = 10, 80


class _Plain(Protocol):
    def to_dict(self) -> dict[str, Any]: ...


def to_pandas(results: Sequence[_Plain]) -> Any:
    """Judgments or rankings as a `pandas.DataFrame`.

    Args:
        results: Judgments of `Judge.rate` or `Judge.compare`: a row for each, with the columns that the
            command of that name writes. Rankings of `rank`: a row for each completion, best first, with
            `group` (from 0) and `rank` (from 1; no value without a verdict).

    Raises:
        ImportError: pandas is not installed.
    """
    import pandas as pd  # type: ignore[import-untyped]

    rows: list[dict[str, Any]] = []
    for group, result in enumerate(results):
        known = result.to_dict()
        if "ranking" not in known:
            rows.append(known)
            continue
        for place, entry in enumerate(known["ranking"], start=1):
            rows.append({"group": group, "rank": None if entry["reward"] is None else place, **entry})
    return pd.DataFrame(rows)


RANKING_COLUMNS = ("rank", "index from 0", "reward", "judge's 95%", "rating")
"""Columns of a shown ranking. The fourth is where the judge's own probability lies, no interval over data."""


def another_rating(entry: Mapping[str, Any]) -> str:
    """Words for a critique that was written after a direct reading and states another rating; else empty."""
    stated, rating = entry.get("critique_rating"), entry.get("rating")
    if stated is None or rating is None or stated == rating:
        return ""
    return f" (it states {stated:g}; the ranking is by the direct reading: rating {rating:g})"


def ranking_html(known: Mapping[str, Any]) -> str:
    """A ranking's plain values as a table of at most ten rows; everything in it is escaped."""
    entries: list[dict[str, Any]] = known["ranking"]
    lines = [
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(place, entry)) + "</tr>"
        for place, entry in enumerate(entries[:_SHOWN_ROWS], start=1)
    ]
    head = "".join(f"<th>{name}</th>" for name in (*RANKING_COLUMNS, "critique"))
    left = len(entries) - len(lines)
    more = f", {left:,} more" if left else ""
    caption = f"{len(entries):,} completions, {known['n_calls']:,} judge calls ({known['strategy']}){more}"
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{''.join(lines)}</table>"


def _cells(place: int, entry: Mapping[str, Any]) -> list[str]:
    reward, rating = entry["reward"], entry["rating"]
    text = str((entry["failure"] or {}).get("detail", "") if reward is None else entry["critique"] or "")
    return [
        "-" if reward is None else str(place),
        str(entry["index"]),
        "-" if reward is None else f"{reward:.3f}",
        "-" if entry["low"] is None else f"{entry['low']:.3g} to {entry['high']:.3g}",
        "-" if rating is None else f"{rating:g}",
        text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…",
    ]
