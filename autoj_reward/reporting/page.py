# SPDX-License-Identifier: Apache-2.0
"""Render a report as one HTML file without external resources.

Every chart has its finding in words and its numbers in a table, so that no information is in colour alone.
Prompts, completions and critiques are untrusted: they are escaped, and a content security policy forbids
scripts and external resources.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

from autoj_reward.json_text import json_text
from autoj_reward.reporting.charts import svg
from autoj_reward.reporting.escaping import shown
from autoj_reward.reporting.parts import Bars, Facts, Lines, Listing, Part, Report

_TITLES = {
    "rate": "Ratings", "compare": "Comparisons", "rerank": "Rankings", "label": "Labels",
    "evaluate": "A judge against people", "probe": "A judge under attack",
}  # fmt: skip


def page(report: Report) -> str:
    """The whole HTML document, as text that UTF-8 can hold."""
    title = _TITLES.get(report.kind, report.kind)
    style = (resources.files("autoj_reward.reporting") / "page.css").read_text(encoding="utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    contents = "".join(f'<li><a href="#{_id(p)}">{shown(p.title)}</a></li>' for p in report.parts)
    sections = "\n".join(_section(part) for part in report.parts)
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
<nav aria-label="Figures"><ul>{contents}</ul></nav>
</header>
<main id="content" tabindex="-1">
{sections}
</main>
<script type="application/json" id="figures">{embedded_json(report.as_record())}</script>
</body>
</html>
"""


def embedded_json(record: Any) -> str:
    """JSON that is safe inside a `<script>` element; NaN becomes null."""
    return json_text(record).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _section(part: Part) -> str:
    head = f'<section aria-labelledby="{_id(part)}"><h2 id="{_id(part)}">{shown(part.title)}</h2>'
    if isinstance(part, Facts):
        facts = "".join(f"<dt>{shown(k)}</dt><dd>{shown(v)}</dd>" for k, v in part.facts.items())
        return f"{head}<dl>{facts}</dl></section>"
    if isinstance(part, Listing):
        table = _table(part.title, part.columns, part.rows)
        return f"{head}<p>{shown(part.says)}</p>{table}</section>"
    columns, rows = _numbers(part)
    table = _table(f"{part.title}: the numbers", columns, rows)
    return (
        f"{head}<p>{shown(part.says)}</p><figure>{svg(part)}{_legend(part)}</figure>"
        f"<details><summary>The numbers of {shown(part.title)}</summary>{table}</details></section>"
    )


def _legend(part: Bars | Lines) -> str:
    if len(part.series) < 2:
        return ""
    mark = (
        '<line x1="0" y1="6" x2="30" y2="6" class="line l{n}"/>'
        if isinstance(part, Lines)
        else '<rect width="30" height="12" class="s{n}"/>'
    )
    names = "".join(
        f'<li><svg viewBox="0 0 30 12" aria-hidden="true">{mark.format(n=n)}</svg> {shown(name)}</li>'
        for n, name in enumerate(part.series)
    )
    return f'<ul class="legend">{names}</ul>'


def _numbers(part: Bars | Lines) -> tuple[list[str], list[list[Any]]]:
    """A chart's numbers as a table: the x axis, each series, intervals, counts."""
    x: Sequence[Any] = part.labels if isinstance(part, Bars) else part.x
    columns: list[tuple[str, Sequence[Any]]] = [(part.x_label, x), *part.series.items()]
    if isinstance(part, Bars) and part.low:
        columns += [("95% from", part.low), ("95% to", part.high)]
    if part.n:
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
    return f'<td class="t" dir="auto">{shown(text)}</td>' if len(text) > 24 else f"<td>{shown(text)}</td>"


def _id(part: Part) -> str:
    return shown(f"part-{part.id}")
