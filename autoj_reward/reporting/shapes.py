# SPDX-License-Identifier: Apache-2.0
"""What charts are made of, and how it is written as SVG. Series differ by pattern and marker too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeGuard

from autoj_reward.reporting.escaping import shown
from autoj_reward.reporting.parts import Number, round_step

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]

PATTERNS = (
    '<svg class="patterns" aria-hidden="true"><defs>'
    '<pattern id="stripes" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" class="paper"/><rect width="3" height="6" class="s1"/></pattern>'
    '<pattern id="dots" width="6" height="6" patternUnits="userSpaceOnUse">'
    '<rect width="6" height="6" class="paper"/><circle cx="3" cy="3" r="1.8" class="s2"/></pattern>'
    "</defs></svg>"
)
"""What bars of the second and third series are filled with; once on a page."""
_FILLS = ("", ' fill="url(#stripes)"', ' fill="url(#dots)"')


class Shape(NamedTuple):
    """One thing that is drawn.

    `points` are the ends of a line, two corners of a bar or a cell, a curve, the outline of a band, a dot's
    centre, or the start of a text's baseline. `weight` is a cell's share of the largest count.
    """

    kind: Literal[
        "grid", "axis", "whisker", "ideal", "mark", "bar", "cell", "band", "curve", "dot", "tick", "label",
        "value",
    ]  # fmt: skip
    points: Sequence[Point]
    series: int = 0
    text: str = ""
    anchor: Anchor = "middle"
    weight: float = 0.0


class Drawing(NamedTuple):
    """A chart, y downwards; later shapes cover earlier ones."""

    width: float
    height: float
    shapes: Sequence[Shape]


def svg(drawing: Drawing, name: str, title: str, says: str, kind: str) -> str:
    """An `<svg>` of a class, whose text alternative is a chart's title and finding."""
    name = shown(name)
    return (
        f'<svg viewBox="0 0 {drawing.width:g} {drawing.height:g}" style="max-width:{drawing.width:g}px"'
        f' class="chart {kind}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{shown(title)}</title><desc id="{name}-d">{shown(says)}</desc>'
        f'<g aria-hidden="true">{"".join(map(_element, drawing.shapes))}</g></svg>'
    )


def legend(names: Sequence[str], kind: Literal["bar", "curve", "dot"]) -> str:
    """Which series looks how; nothing for one series."""
    if len(names) < 2:
        return ""
    items = "".join(
        f'<li><svg viewBox="0 0 30 14" aria-hidden="true">'
        f"{''.join(map(_element, sample(kind, s, (0.0, 7.0))))}</svg> {shown(name)}</li>"
        for s, name in enumerate(names)
    )
    return f'<ul class="legend">{items}</ul>'


def sample(kind: Literal["bar", "curve", "dot"], series: int, left: Point) -> list[Shape]:
    """What a series looks like in a legend, 30 wide and at most 12 high."""
    x, y = left
    if kind == "bar":
        return [Shape("bar", [(x + 1, y - 6), (x + 29, y + 6)], series)]
    curve = [Shape("curve", [(x, y), (x + 30, y)], series)] if kind == "curve" else []
    return [*curve, Shape("dot", [(x + 15, y)], series)]


def ticks(low: float, high: float, n: int = 5, *, whole: bool = False) -> list[float]:
    """About n round numbers that hold low and high between them; `whole` numbers for counts."""
    least = 1e-9 * max(abs(low), abs(high), 1.0)
    if high - low < least:
        # They differ by rounding only.
        high = low + 1.0
    step = round_step((high - low) / n)
    step = max(1.0, math.ceil(step)) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def is_known(value: Number) -> TypeGuard[float]:
    """Whether a value is a finite number."""
    return value is not None and math.isfinite(value)


def number_text(value: Number, unit: str = "") -> str:
    """A value as it is written beside its bar."""
    if not is_known(value):
        return "-"
    if isinstance(value, int):
        return f"{value:,}{unit}"
    if unit == "%" or abs(value) >= 100:
        return f"{value:,.1f}{unit}"
    return f"{value:.3g}{unit}"


def marker(centre: Point, series: int) -> list[Point]:
    """The corners of a series' marker: a diamond for the second, a triangle for the third, else none."""
    x, y = centre
    if series % 3 == 1:
        return [(x, y - 5), (x + 5, y), (x, y + 5), (x - 5, y)]
    return [(x, y - 5), (x + 5, y + 4), (x - 5, y + 4)] if series % 3 == 2 else []


def _element(shape: Shape) -> str:
    kind, points, series, text, anchor, weight = shape
    s = series % 3
    (x1, y1), (x2, y2) = (points or [(0.0, 0.0)])[0], (points or [(0.0, 0.0)])[-1]
    if kind in ("tick", "label", "value"):
        return f'<text x="{x1:.1f}" y="{y1:.1f}" class="{kind}" text-anchor="{anchor}">{shown(text)}</text>'
    if kind in ("bar", "cell"):
        at = f'x="{min(x1, x2):.1f}" y="{min(y1, y2):.1f}"'
        size = f'width="{abs(x1 - x2):.1f}" height="{abs(y1 - y2):.1f}"'
        if kind == "cell":
            return f'<rect {at} {size} class="cell" fill-opacity="{0.5 * weight:.3f}"/>'
        return f'<rect {at} {size} class="bar b{s}"{_FILLS[s]}/>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    if kind == "band":
        return f'<polygon points="{path}" class="band s{s} l{s}"/>'
    if kind == "dot":
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in marker((x1, y1), s))
        if corners:
            return f'<polygon points="{corners}" class="s{s}"/>'
        return f'<circle cx="{x1:.1f}" cy="{y1:.1f}" r="4" class="s{s}"/>'
    if kind == "curve":
        return f'<polyline points="{path}" class="line l{s}"/>'
    line = f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{{}}"/>'
    # Intervals and marks have a margin, so that they are seen on a bar.
    margin = {"whisker": "halo", "mark": "edge"}.get(kind)
    return (line.format(margin) if margin else "") + line.format(kind)
