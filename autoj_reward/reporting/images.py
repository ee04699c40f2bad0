# SPDX-License-Identifier: Apache-2.0
"""Write a report's charts as PNG files: the shapes of the page, drawn with matplotlib."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError
from autoj_reward.reporting.charts import WIDE, draw, legend_kind
from autoj_reward.reporting.escaping import visible
from autoj_reward.reporting.parts import Chart, Grid, Report
from autoj_reward.reporting.shapes import Shape, marker, sample

_DPI = 72
"""One unit of a drawing is one point."""
_TITLE, _LINE, _LEGEND = 30, 17, 32
_MOST_LETTERS = 105
"""Letters of a line of the finding."""
_COLOURS, _DASHES = ("#1f5fa8", "#b04a00", "#4b7a14"), ("-", "--", ":")
_HATCHES = ("", "////", "oo")
_LINES = {
    "grid": ("#d5dae0", 1, "-"), "axis": ("#1b1f24", 1, "-"), "whisker": ("#1b1f24", 2, "-"),
    "ideal": ("#4d5560", 1, "--"), "mark": ("#1b1f24", 1.5, "--"),
}  # fmt: skip
_ANCHORS = {"start": "left", "middle": "center", "end": "right"}
_SIZES = {"tick": 13, "label": 13, "value": 12}


def write_images(report: Report, folder: Path) -> list[str]:
    """Write one PNG for each chart, named after it.

    Returns:
        The file names, in the report's order.

    Raises:
        ConfigError: matplotlib is not installed, or the folder cannot be written.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ConfigError("images need matplotlib", hint=how_to_install("report")) from error
    names = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part in report.parts:
            if isinstance(part, Chart):
                names.append(f"{part.id}.png")
                about = {"Description": visible(part.says)}
                _painted(part).savefig(folder / names[-1], dpi=2 * _DPI, metadata=about)
    except OSError as error:
        raise ConfigError(f"images cannot be written in {folder}: {error}") from error
    return names


def _painted(part: Chart) -> Any:
    from matplotlib.figure import Figure

    drawing = draw(part)
    names = [] if isinstance(part, Grid) else list(part.series)
    legend = _LEGEND if len(names) > 1 else 0
    finding = textwrap.wrap(visible(part.says), _MOST_LETTERS)
    head = _TITLE + _LINE * len(finding) + 8
    figure = Figure(figsize=(WIDE / _DPI, (head + drawing.height + legend) / _DPI))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDE), ylim=(drawing.height + legend, -head))
    axes.set_axis_off()
    said = [(part.title, 22 - head), *((line, 42 - head + _LINE * n) for n, line in enumerate(finding))]
    shapes = [Shape("tick", [(4, y)], text=text, anchor="start") for text, y in said]
    shapes += drawing.shapes
    if not isinstance(part, Grid) and legend:
        for s, name in enumerate(names):
            x, y = 56 + s * (WIDE - 70) / len(names), drawing.height + 10
            shapes += sample(legend_kind(part), s, (x, y))
            shapes.append(Shape("tick", [(x + 38, y + 5)], text=name, anchor="start"))
    for order, shape in enumerate(shapes):
        _paint(axes, shape, order)
    return figure


def _paint(axes: Any, shape: Shape, order: int) -> None:
    xs, ys = [x for x, _ in shape.points], [y for _, y in shape.points]
    s = shape.series % 3
    colour = _COLOURS[s]
    match shape.kind:
        case "tick" | "label" | "value":
            axes.text(
                xs[0],
                ys[0],
                visible(shape.text),
                ha=_ANCHORS[shape.anchor],
                fontsize=_SIZES[shape.kind],
                # A label's dollar signs are not formulas.
                parse_math=False,
                zorder=order,
            )
        case "bar":
            filled = {"color": colour} if s == 0 else {"facecolor": "white", "edgecolor": colour}
            axes.fill_between(xs, ys[0], ys[1], hatch=_HATCHES[s], linewidth=1, zorder=order, **filled)
        case "cell":
            alpha = 0.5 * shape.weight
            axes.fill_between(xs, ys[0], ys[1], color=colour, alpha=alpha, linewidth=0, zorder=order)
            frame = [xs[0], xs[1], xs[1], xs[0], xs[0]], [ys[0], ys[0], ys[1], ys[1], ys[0]]
            axes.plot(*frame, color="#d5dae0", linewidth=1, zorder=order)
        case "band":
            axes.fill(xs, ys, color=colour, alpha=0.15, linewidth=0, zorder=order)
            axes.plot(xs, ys, color=colour, alpha=0.6, linestyle=_DASHES[s], linewidth=1, zorder=order)
        case "dot":
            corners = marker((xs[0], ys[0]), s)
            if corners:
                axes.fill([x for x, _ in corners], [y for _, y in corners], color=colour, zorder=order)
            else:
                axes.plot(xs, ys, color=colour, marker="o", markersize=8, zorder=order)
        case "curve":
            axes.plot(xs, ys, color=colour, linestyle=_DASHES[s], linewidth=2.5, zorder=order)
        case kind:
            if kind in ("whisker", "mark"):
                axes.plot(xs, ys, color="white", linewidth=5 if kind == "whisker" else 3, zorder=order)
            colour, width, dash = _LINES[kind]
            axes.plot(xs, ys, color=colour, linewidth=width, linestyle=dash, zorder=order)
