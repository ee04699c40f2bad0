# SPDX-License-Identifier: Apache-2.0
"""Render a report as one HTML file without external resources.

Every chart has its finding in words and its numbers in a table, so that no information is in colour alone.
Prompts, completions and critiques are untrusted: they are escaped, and a content security policy forbids
external resources and all scripts but the page's own, which it names by hash. The page is whole without it.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Sequence
from importlib import resources
from itertools import pairwise
from typing import Any

from autoj_reward.json_text import json_text
from autoj_reward.reporting.breakdown.heat_map import HeatMap, heat_table
from autoj_reward.reporting.cards import cards, folded_text
from autoj_reward.reporting.charts import NARROW, WIDE, draw, legend_kind
from autoj_reward.reporting.escaping import shown
from autoj_reward.reporting.parts import (
    Bars,
    Cards,
    Chart,
    Facts,
    Grid,
    Histogram,
    Listing,
    Part,
    Report,
)
from autoj_reward.reporting.shapes import PATTERNS, legend, svg

_TITLES = {
    "rate": "Ratings", "compare": "Comparisons", "rerank": "Rankings", "label": "Labels",
    "evaluate": "A judge against people", "probe": "A judge under attack", "training": "Training",
    "comparison": "Two runs compared",
}  # fmt: skip


def page(report: Report) -> str:
    """The whole HTML document, as text that UTF-8 can hold."""
    title = _TITLES.get(report.kind, report.kind)
    style, script = _resource("page.css"), _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    contents = "".join(f'<li><a href="#{_id(p)}">{shown(p.title)}</a></li>' for p in report.parts)
    browsed = {
        case.line
        for part in report.parts
        if isinstance(part, Cards) and part.style == "browse"
        for case in part.cases
    }
    sections = "\n".join(_section(part, browsed) for part in report.parts)
    about = f'<div class="about">{_facts(report.about)}</div>' if report.about else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{shown(title)}: {shown(report.source)}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the figures</a>
<header>
<h1>{shown(title)}</h1>
<p class="source">{shown(report.source)}</p>
{about}
<nav aria-label="Figures"><ul>{contents}</ul></nav>
</header>
<main id="content" tabindex="-1">
{PATTERNS}
{sections}
</main>
<script type="application/json" id="figures">{embedded_json(report.as_record())}</script>
<script>{script}</script>
</body>
</html>
"""


def embedded_json(record: Any) -> str:
    """JSON that is safe inside a `<script>` element; NaN becomes null."""
    return json_text(record).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _resource(name: str) -> str:
    return (resources.files("autoj_reward.reporting") / name).read_text(encoding="utf-8")


def _section(part: Part, browsed: set[int]) -> str:
    head = f'<section aria-labelledby="{_id(part)}"><h2 id="{_id(part)}">{shown(part.title)}</h2>'
    if isinstance(part, Facts):
        return f"{head}{_facts(part.facts)}</section>"
    head += f"<p>{shown(part.says)}</p>"
    if isinstance(part, Listing):
        return f"{head}{_table(part.title, part.columns, part.rows)}</section>"
    if isinstance(part, HeatMap):
        return f"{head}{heat_table(part, browsed)}</section>"
    if isinstance(part, Cards):
        return f"{head}{cards(part)}</section>"
    columns, rows = _numbers(part)
    table = _table(f"{part.title}: the numbers", columns, rows)
    pictures = "".join(
        svg(draw(part, width), f"{part.id}-{kind}", part.title, part.says, kind)
        for kind, width in (("wide-chart", WIDE), ("narrow", NARROW))
    )
    named = "" if isinstance(part, Grid) else legend(list(part.series), legend_kind(part))
    summary = f"<summary>The numbers of {shown(part.title)}</summary>"
    return (
        f"{head}<figure>{pictures}{named}</figure>"
        f'<details class="unfold">{summary}{table}</details></section>'
    )


def _facts(facts: Any) -> str:
    items = "".join(f"<dt>{shown(k)}</dt><dd>{shown(v)}</dd>" for k, v in facts.items())
    return f"<dl>{items}</dl>"


def _numbers(part: Chart) -> tuple[list[str], list[list[Any]]]:
    """A chart's numbers as a table: the x axis, each series, intervals, counts."""
    if isinstance(part, Grid):
        rows = zip(part.rows, part.cells, strict=True)
        return [f"{part.y_label} \\ {part.x_label}", *part.columns], [[name, *cells] for name, cells in rows]
    x: Sequence[Any]
    if isinstance(part, Histogram):
        x = part.names or [f"{a:g} to {b:g}" for a, b in pairwise(part.edges)]
    else:
        x = part.labels if isinstance(part, Bars) else part.x
    columns: list[tuple[str, Sequence[Any]]] = [(part.x_label, x)]
    for name, values in part.series.items():
        columns.append((name, values))
        if not isinstance(part, Histogram) and name in part.low:
            columns += [("95% from", part.low[name]), ("95% to", part.high[name])]
    if not isinstance(part, Histogram) and part.n:
        columns.append(("n", part.n))
    return [name for name, _ in columns], [list(row) for row in zip(*(c for _, c in columns), strict=True)]


def _table(title: str, columns: Iterable[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f'<th scope="col">{shown(c)}</th>' for c in columns)
    body = "".join("<tr>" + "".join(_cell(v) for v in row) + "</tr>" for row in rows)
    name = f"Table: {shown(title)}"
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{name}">'
        f"<table><caption>{shown(title)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return '<td class="n">-</td>'
    if isinstance(value, int | float):
        return (
            f'<td class="n">{value:.4g}</td>' if isinstance(value, float) else f'<td class="n">{value:,}</td>'
        )
    text = str(value)
    return f'<td class="t">{folded_text(text)}</td>' if len(text) > 24 else f"<td>{shown(text)}</td>"


def _id(part: Part) -> str:
    return shown(f"part-{part.id}")
