# SPDX-License-Identifier: Apache-2.0
"""Lay out charts as shapes, for a given width. The page and the images show the same shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

from autoj_reward.reporting.parts import Bars, Chart, Grid, Histogram, Lines, Number
from autoj_reward.reporting.shapes import Anchor, Drawing, Point, Shape, is_known, number_text, ticks

WIDE, NARROW = 760, 340
"""Widths for a page and for a telephone; text is as large in both."""
_LEFT, _RIGHT = 56, 14
_TOP, _BOTTOM = 50, 54
_ROW, _GAP = 18, 10
"""Height of a horizontal bar, and the space between two labels."""
_LETTER = 7.2
"""About how wide a letter is."""
_MOST_DOTS = 24


def draw(part: Chart, width: float = WIDE) -> Drawing:
    """Lay a chart out."""
    match part:
        case Bars():
            return _bars(part, width)
        case Histogram():
            return _histogram(part, width)
        case Grid():
            return _grid(part, width)
        case Lines():
            return _lines(part, width)


def is_dotted(part: Bars) -> bool:
    """Whether values are dots: a bar says how far a value is from zero, and zero is not on the axis."""
    return part.axis is not None and part.axis[0] > 0


def legend_kind(part: Bars | Histogram | Lines) -> Literal["bar", "curve", "dot"]:
    """How a chart's legend shows a series."""
    if isinstance(part, Lines):
        return "curve"
    return "dot" if isinstance(part, Bars) and is_dotted(part) else "bar"


def _known(columns: Sequence[Sequence[Number]]) -> list[float]:
    return [float(v) for column in columns for v in column if is_known(v)]


def _cut(text: str, width: float) -> str:
    n = max(int(width / _LETTER), 4)
    return text if len(text) <= n else text[: n - 1] + "…"


def _fitting(places: Sequence[tuple[float, str]]) -> list[bool]:
    """Which texts, from left to right, can be written without covering the one before."""
    end, fits = -math.inf, []
    for x, text in places:
        half = len(text) * _LETTER / 2
        fits.append(x - half > end)
        end = x + half + 4 if fits[-1] else end
    return fits


def _bars(part: Bars, width: float) -> Drawing:
    """Labels on the left, or above the bars if the drawing is narrow; values on the right."""
    names = list(part.series)
    stacked = width < 500
    ns = [f", n = {n:,}" for n in part.n] or [""] * len(part.labels)
    texts = {
        name: [number_text(v, part.unit) + end for v, end in zip(part.series[name], ns, strict=True)]
        for name in names
    }
    longest = max((len(text) for column in texts.values() for text in column), default=0)
    label_width = 0 if stacked else min(230, _LETTER * max(map(len, part.labels), default=0) + 8)
    left, right = label_width + _RIGHT, width - _RIGHT - longest * _LETTER - 12
    each = _ROW * max(len(names), 1) + _GAP + (_ROW if stacked else 0)
    top = _TOP if part.limits else _GAP
    foot = top + each * max(len(part.labels), 1)
    values = _known([*part.series.values(), *part.low.values(), *part.high.values()])
    wanted = 9 if right - left > 300 else 4
    counts = all(isinstance(v, int) for column in part.series.values() for v in column if v is not None)
    if part.axis is not None:
        marks = _between(*part.axis, values, wanted)
    else:
        ends = min([0.0, *values]), max([0.0, *values, *part.limits.values()])
        marks = ticks(*ends, (wanted + 1) // 2, whole=counts)

    def at(value: float) -> float:
        return left + (right - left) * (value - marks[0]) / (marks[-1] - marks[0])

    shapes = [Shape("grid", [(at(t), top), (at(t), foot)]) for t in marks]
    tick_texts = [(at(t), f"{t:g}{part.unit}") for t in marks]
    shapes += _strided(tick_texts, foot + 18)
    dotted = is_dotted(part)
    for i, label in enumerate(part.labels):
        y = top + each * i + _GAP / 2
        if stacked:
            shapes.append(Shape("tick", [(_RIGHT, y + 13)], text=_cut(label, width - 20), anchor="start"))
            y += _ROW
        else:
            middle = y + _ROW * len(names) / 2 + 4.5
            shapes.append(Shape("tick", [(left - 8, middle)], text=_cut(label, label_width), anchor="end"))
        for s, name in enumerate(names):
            value, here = part.series[name][i], y + _ROW * s
            centre = here + _ROW / 2
            found = _known([[part.low[name][i], part.high[name][i]]]) if name in part.low else []
            whisker = [Shape("whisker", [(at(x), centre) for x in found])] if len(found) == 2 else []
            if is_known(value):
                corners = [(at(0.0), here + 2), (at(value), here + _ROW - 2)]
                dot = [*whisker, Shape("dot", [(at(value), centre)], s)]
                shapes += dot if dotted else [Shape("bar", corners, s), *whisker]
            text = texts[name][i]
            shapes.append(Shape("value", [(width - _RIGHT, centre + 4.5)], text=text, anchor="end"))
    shapes.append(Shape("axis", [(at(max(marks[0], 0.0)), top), (at(max(marks[0], 0.0)), foot)]))
    shapes += _marks(part.limits, at, top, foot, width)
    shapes.append(Shape("label", [((left + right) / 2, foot + 40)], text=_cut(part.y_label, width)))
    # Texts come last, because a line may cross a label.
    return Drawing(width, foot + _BOTTOM, sorted(shapes, key=lambda s: s.kind in ("tick", "label", "value")))


def _texts(places: Sequence[tuple[float, str]], y: float) -> list[Shape]:
    fits = _fitting(places)
    return [Shape("tick", [(x, y)], text=text) for (x, text), fit in zip(places, fits, strict=True) if fit]


def _strided(places: Sequence[tuple[float, str]], y: float) -> list[Shape]:
    """Evenly spaced texts: all, or every second, fourth, fifth or tenth if they would touch."""
    for step in (1, 2, 4, 5, 10):
        kept = places[::step]
        if all(_fitting(kept)):
            return [Shape("tick", [(x, y)], text=text) for x, text in kept]
    return _texts(places, y)


def _between(low: float, high: float, values: Sequence[float], n: int) -> list[float]:
    """The ends of an axis with the round numbers between them; values beyond an end move it."""
    low, high = min([low, *values]), max([high, *values])
    return sorted({low, high, *(t for t in ticks(low, high, n) if low < t < high)})


def _marks(
    marks: Mapping[str, float], at: Callable[[float], float], top: float, foot: float, width: float
) -> list[Shape]:
    """Lines across a chart with their names above it; names that would cover each other take turns."""
    shapes: list[Shape] = []
    before, row = -math.inf, 0
    for name, value in sorted(marks.items(), key=lambda item: item[1]):
        x = at(value)
        row = 1 - row if x - before < _LETTER * 12 else 0
        before = x
        anchor: Anchor = "start" if x < width / 3 else "end" if x > width * 2 / 3 else "middle"
        shapes.append(Shape("mark", [(x, top - 4), (x, foot)]))
        text = _cut(name, width * 0.6)
        shapes.append(Shape("value", [(x, top - 10 - 14 * row)], text=text, anchor=anchor))
    return shapes


def _frame(
    width: float,
    right: float,
    foot: float,
    up: Sequence[float],
    y_label: str,
    x_label: str,
    below: float = 0,
) -> list[Shape]:
    """Grid lines, the y axis' numbers, the x axis and both names."""
    shapes: list[Shape] = []
    for t in up:
        y = foot - (foot - _TOP) * (t - up[0]) / (up[-1] - up[0])
        shapes += [
            Shape("grid", [(_LEFT, y), (right, y)]),
            Shape("tick", [(_LEFT - 8, y + 4)], text=f"{t:g}", anchor="end"),
        ]
    shapes.append(Shape("axis", [(_LEFT, foot), (right, foot)]))
    shapes.append(Shape("label", [(4, 14)], text=_cut(y_label, width), anchor="start"))
    text = _cut(x_label, width - 20)
    return [*shapes, Shape("label", [((_LEFT + right) / 2, foot + 40 + below)], text=text)]


def _histogram(part: Histogram, width: float) -> Drawing:
    right, foot = width - _RIGHT, (300.0 if width > 500 else 260.0) - _BOTTOM
    edges, n_series = part.edges, max(len(part.series), 1)
    up = ticks(0.0, max([1.0, *_known(list(part.series.values()))]), 4, whole=True)

    def at(x: float) -> float:
        return _LEFT + (right - _LEFT) * (x - edges[0]) / (edges[-1] - edges[0])

    shapes = _frame(width, right, foot, up, part.y_label, part.x_label)
    gap = 4 if part.names else 1
    narrowest = min(at(b) - at(a) for a, b in pairwise(edges)) / n_series
    longest = max((len(f"{count:,}") for column in part.series.values() for count in column), default=0)
    for i, (a, b) in enumerate(pairwise(edges)):
        each = (at(b) - at(a) - 2 * gap) / n_series
        for s, column in enumerate(part.series.values()):
            count = column[i] or 0
            if not count:
                continue
            x, y = at(a) + gap + each * s, foot - (foot - _TOP) * (count - up[0]) / (up[-1] - up[0])
            shapes.append(Shape("bar", [(x, foot), (x + each, y)], s))
            if longest * _LETTER + 3 <= narrowest:
                shapes.append(Shape("value", [(x + each / 2, y - 4)], text=f"{count:,}"))
    if part.names:
        places = [(at((a + b) / 2), name) for (a, b), name in zip(pairwise(edges), part.names, strict=True)]
    else:
        places = [(at(x), f"{x:g}") for x in edges]
    shapes += _strided(places, foot + 18)
    shapes += _marks(part.marks, at, _TOP - 12, foot, width)
    return Drawing(width, foot + _BOTTOM, shapes)


def _lines(part: Lines, width: float) -> Drawing:
    if part.diagonal:
        width = min(width, 460)
    right = width - _RIGHT
    foot = _TOP + (right - _LEFT if part.diagonal else 210 if width < 500 else 250)
    values = _known([*part.series.values(), *part.low.values(), *part.high.values()])
    if part.y_axis is not None:
        up = _between(*part.y_axis, values, 5)
    else:
        up = ticks(min(values, default=0.0), max(values, default=1.0))
    across = _x_ticks(part, 9 if width > 400 else 5)

    def place(x: float) -> float:
        return math.log2(x) if part.axis == "log2" else x

    def at(x: float) -> float:
        first, last = place(across[0]), place(across[-1])
        return _LEFT + (right - _LEFT) * (place(x) - first) / (last - first)

    def point(x: float, y: float) -> Point:
        return at(x), foot - (foot - _TOP) * (y - up[0]) / (up[-1] - up[0])

    counts, extra = _counts([(at(x), f"{n:,}") for x, n in zip(part.x, part.n, strict=False)], foot)
    shapes = _frame(width, right, foot, up, part.y_label, part.x_label, extra) + counts
    shapes += _texts([(at(t), f"{t:g}") for t in across], foot + 18)
    if part.diagonal:
        low, high = max(across[0], up[0]), min(across[-1], up[-1])
        shapes.append(Shape("ideal", [point(low, low), point(high, high)]))
    for s, name in enumerate(part.series):
        ends = part.low.get(name, ()), part.high.get(name, ())
        found = [(x, a, b) for x, a, b in zip(part.x, *ends, strict=False) if is_known(a) and is_known(b)]
        outline = [point(x, b) for x, _, b in found] + [point(x, a) for x, a, _ in found[::-1]]
        if part.n:
            shapes += [Shape("whisker", [point(x, a), point(x, b)], s) for x, a, b in found]
        elif outline:
            shapes.append(Shape("band", outline, s))
    for s, column in enumerate(part.series.values()):
        for run in _runs(part.x, column):
            shapes.append(Shape("curve", [point(*p) for p in run], s))
            if len(part.x) <= _MOST_DOTS or len(run) == 1:
                shapes += [Shape("dot", [point(*p)], s) for p in run]
    shapes += _marks(part.marks, at, _TOP - 12, foot, width)
    return Drawing(width, foot + _BOTTOM + extra, shapes)


def _counts(places: Sequence[tuple[float, str]], foot: float) -> tuple[list[Shape], float]:
    """How many judgments each point stands for, under the numbers of the axis, and the height it takes."""
    if not places:
        return [], 0
    fits = _fitting(places)
    shapes = [Shape("label", [(12, foot + 36)], text="n =", anchor="start")]
    for (x, text), fit in zip(places, fits, strict=True):
        shapes.append(Shape("value", [(x, foot + (36 if fit else 51))], text=text))
    return shapes, 22 if all(fits) else 37


def _x_ticks(part: Lines, n: int) -> list[float]:
    low, high = part.x_axis or (min(part.x, default=0.0), max(part.x, default=1.0))
    if part.axis == "log2":
        first, last = math.floor(math.log2(low)), math.ceil(math.log2(max(high, low * 2)) - 1e-9)
        return [2.0**k for k in range(first, last + 1)]
    if part.axis == "integer":
        return ticks(low, high, n, whole=True)
    return _between(low, high, [], n) if part.x_axis is not None else ticks(low, high, n)


def _runs(xs: Sequence[float], column: Sequence[Number]) -> list[list[Point]]:
    """The parts of a series between its gaps."""
    runs: list[list[Point]] = [[]]
    for x, y in zip(xs, column, strict=True):
        if is_known(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _grid(part: Grid, width: float) -> Drawing:
    left = min(_LETTER * max(map(len, part.rows), default=0) + 16, width / 3)
    size = min((width - left - _RIGHT) / max(len(part.columns), 1), 64)
    height = min(size, 40)
    most = max((c for row in part.cells for c in row), default=0) or 1
    top, foot = 26.0, 26.0 + height * len(part.rows)
    shapes = [Shape("label", [(4, 14)], text=_cut(part.y_label, width), anchor="start")]
    for i, (name, row) in enumerate(zip(part.rows, part.cells, strict=True)):
        y = top + height * i
        label = _cut(name, left - 8)
        shapes.append(Shape("tick", [(left - 8, y + height / 2 + 4)], text=label, anchor="end"))
        for j, count in enumerate(row):
            x = left + size * j
            shapes.append(Shape("cell", [(x, y), (x + size, y + height)], weight=count / most))
            if count and len(text := f"{count:,}") * _LETTER <= size:
                shapes.append(Shape("value", [(x + size / 2, y + height / 2 + 4)], text=text))
    shapes += _texts([(left + size * (j + 0.5), name) for j, name in enumerate(part.columns)], foot + 18)
    middle = left + size * len(part.columns) / 2
    shapes.append(Shape("label", [(middle, foot + 40)], text=_cut(part.x_label, width - 20)))
    return Drawing(width, foot + _BOTTOM, shapes)
