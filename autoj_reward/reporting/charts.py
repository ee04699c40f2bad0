# SPDX-License-Identifier: Apache-2.0
"""Draw bar and line charts as SVG, without scripts or libraries."""

from __future__ import annotations

import math
from collections.abc import Sequence

from autoj_reward.reporting.escaping import shown
from autoj_reward.reporting.parts import Bars, Lines, Number

_WIDTH, _HEIGHT = 720, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 32, 56
_ROW = 22
"""Height of a bar that lies, for labels too long to stand side by side."""
_LONG_LABELS = 90
"""Characters of all labels together from which bars lie."""
_LABEL_WIDTH = 190


def chart(part: Bars | Lines) -> str:
    """An `<svg>` with the part's title and finding as its text alternative."""
    if isinstance(part, Lines):
        return _lines(part)
    lie = len(part.labels) > 12 or sum(map(len, part.labels)) > _LONG_LABELS
    return _lying(part) if lie else _standing(part)


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """About n round numbers that hold low and high between them."""
    least = 1e-9 * max(abs(low), abs(high), 1.0)
    if high - low < least:
        # Rounding is all that lies between them.
        high = low + 1.0
    rough = (high - low) / n
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _known(columns: Sequence[Sequence[Number]]) -> list[float]:
    return [float(v) for column in columns for v in column if v is not None and math.isfinite(v)]


def _frame(part: Bars | Lines, height: float, body: str) -> str:
    name = shown(part.id)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{shown(part.title)}</title><desc id="{name}-d">{shown(part.says)}</desc>'
        f'<g aria-hidden="true">{body}</g></svg>'
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{shown(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _bar(x: float, y: float, width: float, height: float, series: int) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="s{series}"/>'


def _standing(part: Bars) -> str:
    values = _known([*part.series.values(), part.low, part.high])
    marks = ticks(min([0.0, *values]), max([0.0, *values]))
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def y(value: float) -> float:
        return _TOP + plot_height * (1 - (value - marks[0]) / (marks[-1] - marks[0]))

    body = [_line(_LEFT, y(t), _WIDTH - _RIGHT, y(t), "grid") for t in marks]
    body += [_text(_LEFT - 8, y(t) + 4, f"{t:g}", "tick", "end") for t in marks]
    slot = plot_width / max(len(part.labels), 1)
    width = slot * 0.72 / max(len(part.series), 1)
    for s, column in enumerate(part.series.values()):
        for i, value in enumerate(column):
            if value is None or not math.isfinite(value):
                continue
            x = _LEFT + slot * (i + 0.14) + width * s
            top, bottom = sorted((y(value), y(0.0)))
            body.append(_bar(x, top, width, bottom - top, s))
    for i, label in enumerate(part.labels):
        body.append(_text(_LEFT + slot * (i + 0.5), _HEIGHT - _BOTTOM + 18, label, "tick"))
        if i < len(part.low) and _known([part.low[i : i + 1], part.high[i : i + 1]]):
            x = _LEFT + slot * (i + 0.5)
            body.append(_line(x, y(float(part.low[i] or 0)), x, y(float(part.high[i] or 0)), "whisker"))
    body.append(_line(_LEFT, y(0.0), _WIDTH - _RIGHT, y(0.0), "axis"))
    body.append(_text(_LEFT + plot_width / 2, _HEIGHT - 10, part.x_label, "label"))
    body.append(_text(_LEFT, 18, part.y_label, "label", "start"))
    return _frame(part, _HEIGHT, "".join(body))


def _lying(part: Bars) -> str:
    values = _known([*part.series.values(), part.low, part.high])
    marks = ticks(min([0.0, *values]), max([0.0, *values]))
    row = _ROW * max(len(part.series), 1)
    height = _TOP + row * len(part.labels) + _BOTTOM
    left = _LABEL_WIDTH + 8
    plot_width = _WIDTH - left - _RIGHT

    def x(value: float) -> float:
        return left + plot_width * (value - marks[0]) / (marks[-1] - marks[0])

    foot = height - _BOTTOM
    body = [_line(x(t), _TOP, x(t), foot, "grid") for t in marks]
    body += [_text(x(t), foot + 18, f"{t:g}", "tick") for t in marks]
    thick = row * 0.72 / max(len(part.series), 1)
    for i, label in enumerate(part.labels):
        middle = _TOP + row * (i + 0.5)
        shown = label if len(label) <= 28 else label[:27] + "…"
        body.append(_text(_LABEL_WIDTH, middle + 4, shown, "tick", "end"))
        for s, column in enumerate(part.series.values()):
            value = column[i]
            if value is None or not math.isfinite(value):
                continue
            start, end = sorted((x(value), x(0.0)))
            y = middle - row * 0.36 + thick * s
            body.append(_bar(start, y, end - start, thick, s))
        if i < len(part.low) and _known([part.low[i : i + 1], part.high[i : i + 1]]):
            body.append(
                _line(x(float(part.low[i] or 0)), middle, x(float(part.high[i] or 0)), middle, "whisker")
            )
    body.append(_line(x(0.0), _TOP, x(0.0), foot, "axis"))
    body.append(_text(left + plot_width / 2, height - 10, part.y_label, "label"))
    body.append(_text(left, 18, part.x_label, "label", "start"))
    return _frame(part, height, "".join(body))


def _lines(part: Lines) -> str:
    values = _known(list(part.series.values()))
    if part.diagonal:
        values += [min(part.x, default=0.0), max(part.x, default=1.0)]
    across = ticks(min(part.x, default=0.0), max(part.x, default=1.0), 8)
    up = ticks(min(values, default=0.0), max(values, default=1.0))
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(value: float) -> float:
        return _LEFT + plot_width * (value - across[0]) / (across[-1] - across[0])

    def y(value: float) -> float:
        return _TOP + plot_height * (1 - (value - up[0]) / (up[-1] - up[0]))

    body = [_line(_LEFT, y(t), _WIDTH - _RIGHT, y(t), "grid") for t in up]
    body += [_text(_LEFT - 8, y(t) + 4, f"{t:g}", "tick", "end") for t in up]
    body += [_text(x(t), _HEIGHT - _BOTTOM + 18, f"{t:g}", "tick") for t in across]
    if part.diagonal:
        low, high = max(across[0], up[0]), min(across[-1], up[-1])
        body.append(_line(x(low), y(low), x(high), y(high), "ideal"))
    for s, column in enumerate(part.series.values()):
        points = [
            (x(a), y(b)) for a, b in zip(part.x, column, strict=True) if b is not None and math.isfinite(b)
        ]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        body.append(f'<polyline points="{path}" class="line l{s}"/>')
        body += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" class="s{s}"/>' for a, b in points]
    body.append(_line(_LEFT, _HEIGHT - _BOTTOM, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, "axis"))
    body.append(_text(_LEFT + plot_width / 2, _HEIGHT - 10, part.x_label, "label"))
    body.append(_text(_LEFT, 18, part.y_label, "label", "start"))
    return _frame(part, _HEIGHT, "".join(body))
