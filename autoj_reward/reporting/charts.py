# SPDX-License-Identifier: Apache-2.0
"""Lay out bar and line charts as shapes, and write them as SVG without scripts or libraries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeGuard

from autoj_reward.reporting.escaping import shown
from autoj_reward.reporting.parts import Bars, Lines, Number

WIDTH = 720
_HEIGHT = 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 32, 56
_ROW = 22
"""Height of a horizontal bar, for labels too long to be side by side."""
_LONG_LABELS = 90
"""Bars are horizontal if their labels have more characters together."""
_LABEL_WIDTH = 190
_FILLED = 0.72
"""Share of a label's room that its bars fill."""

Point = tuple[float, float]


class Shape(NamedTuple):
    """One thing that is drawn; `points` are the ends of a line, two corners of a bar, a curve, a baseline."""

    kind: Literal["grid", "axis", "whisker", "ideal", "bar", "curve", "tick", "label"]
    points: Sequence[Point]
    series: int = 0
    text: str = ""
    anchor: Literal["start", "middle", "end"] = "middle"


class Drawing(NamedTuple):
    """A chart `WIDTH` wide, y downwards; later shapes cover earlier ones."""

    height: float
    shapes: Sequence[Shape]


def draw(part: Bars | Lines) -> Drawing:
    """Lay a chart out. The page and the images show the same shapes."""
    return _lines(part) if isinstance(part, Lines) else _bars(part)


def svg(part: Bars | Lines) -> str:
    """An `<svg>` with the part's title and finding as its text alternative."""
    drawing, name = draw(part), shown(part.id)
    return (
        f'<svg viewBox="0 0 {WIDTH} {drawing.height:g}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{shown(part.title)}</title><desc id="{name}-d">{shown(part.says)}</desc>'
        f'<g aria-hidden="true">{"".join(map(_element, drawing.shapes))}</g></svg>'
    )


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """About n round numbers that hold low and high between them."""
    least = 1e-9 * max(abs(low), abs(high), 1.0)
    if high - low < least:
        # They differ by rounding only.
        high = low + 1.0
    rough = (high - low) / n
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _element(shape: Shape) -> str:
    kind, points, s, text, anchor = shape
    (x1, y1), (x2, y2) = (points or [(0.0, 0.0)])[0], (points or [(0.0, 0.0)])[-1]
    if kind in ("tick", "label"):
        return f'<text x="{x1:.1f}" y="{y1:.1f}" class="{kind}" text-anchor="{anchor}">{shown(text)}</text>'
    if kind == "bar":
        at = f'x="{min(x1, x2):.1f}" y="{min(y1, y2):.1f}"'
        return f'<rect {at} width="{abs(x1 - x2):.1f}" height="{abs(y1 - y2):.1f}" class="s{s}"/>'
    if kind == "curve":
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="s{s}"/>' for x, y in points)
        return f'<polyline points="{path}" class="line l{s}"/>{dots}'
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _is_known(value: Number) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _known(columns: Sequence[Sequence[Number]]) -> list[float]:
    return [float(v) for column in columns for v in column if _is_known(v)]


def _bars(part: Bars) -> Drawing:
    n = max(len(part.labels), 1)
    n_series = max(len(part.series), 1)
    horizontal = len(part.labels) > 12 or sum(map(len, part.labels)) > _LONG_LABELS
    left = _LABEL_WIDTH + 8 if horizontal else _LEFT
    height = _TOP + _ROW * n_series * n + _BOTTOM if horizontal else _HEIGHT
    width, foot = WIDTH - left - _RIGHT, height - _BOTTOM
    values = _known([*part.series.values(), part.low, part.high])
    marks = ticks(min([0.0, *values]), max([0.0, *values]))

    def at(place: float, value: float) -> Point:
        along, up = place / n, (value - marks[0]) / (marks[-1] - marks[0])
        if horizontal:
            return left + width * up, _TOP + (foot - _TOP) * along
        return left + width * along, foot - (foot - _TOP) * up

    def tick_label(place: float, value: float) -> Point:
        x, y = at(place, value)
        return (x, foot + 18) if horizontal else (left - 8, y + 4)

    shapes: list[Shape] = [Shape("grid", [at(0, t), at(n, t)]) for t in marks]
    anchor: Literal["middle", "end"] = "middle" if horizontal else "end"
    shapes += [Shape("tick", [tick_label(0, t)], text=f"{t:g}", anchor=anchor) for t in marks]
    for i, label in enumerate(part.labels):
        x, y = at(i + 0.5, 0.0)
        if horizontal:
            text = label if len(label) <= 28 else label[:27] + "…"
            shapes.append(Shape("tick", [(_LABEL_WIDTH, y + 4)], text=text, anchor="end"))
        else:
            shapes.append(Shape("tick", [(x, foot + 18)], text=label))
        for s, column in enumerate(part.series.values()):
            if _is_known(value := column[i]):
                place = i + (1 - _FILLED) / 2 + _FILLED / n_series * s
                corners = at(place, 0.0), at(place + _FILLED / n_series, value)
                shapes.append(Shape("bar", corners, s))
        if i < len(part.low) and _known([part.low[i : i + 1], part.high[i : i + 1]]):
            ends = [at(i + 0.5, float(end or 0)) for end in (part.low[i], part.high[i])]
            shapes.append(Shape("whisker", ends))
    shapes.append(Shape("axis", [at(0, 0.0), at(n, 0.0)]))
    below, above = (part.y_label, part.x_label) if horizontal else (part.x_label, part.y_label)
    return Drawing(height, [*shapes, *_axis_labels(left, height, below, above)])


def _lines(part: Lines) -> Drawing:
    values = _known(list(part.series.values()))
    if part.diagonal:
        values += [min(part.x, default=0.0), max(part.x, default=1.0)]
    across = ticks(min(part.x, default=0.0), max(part.x, default=1.0), 8)
    up = ticks(min(values, default=0.0), max(values, default=1.0))
    right, foot = WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def at(x: float, y: float) -> Point:
        return (
            _LEFT + (right - _LEFT) * (x - across[0]) / (across[-1] - across[0]),
            foot - (foot - _TOP) * (y - up[0]) / (up[-1] - up[0]),
        )

    shapes: list[Shape] = []
    for t in up:
        _, y = at(across[0], t)
        shapes += [
            Shape("grid", [(_LEFT, y), (right, y)]),
            Shape("tick", [(_LEFT - 8, y + 4)], text=f"{t:g}", anchor="end"),
        ]
    shapes += [Shape("tick", [(at(t, up[0])[0], foot + 18)], text=f"{t:g}") for t in across]
    if part.diagonal:
        low, high = max(across[0], up[0]), min(across[-1], up[-1])
        shapes.append(Shape("ideal", [at(low, low), at(high, high)]))
    for s, column in enumerate(part.series.values()):
        known = [at(x, y) for x, y in zip(part.x, column, strict=True) if _is_known(y)]
        shapes.append(Shape("curve", known, s))
    shapes.append(Shape("axis", [(_LEFT, foot), (right, foot)]))
    return Drawing(_HEIGHT, [*shapes, *_axis_labels(_LEFT, _HEIGHT, part.x_label, part.y_label)])


def _axis_labels(left: float, height: float, below: str, above: str) -> list[Shape]:
    middle = left + (WIDTH - left - _RIGHT) / 2
    return [
        Shape("label", [(middle, height - 10)], text=below),
        Shape("label", [(left, 18)], text=above, anchor="start"),
    ]
