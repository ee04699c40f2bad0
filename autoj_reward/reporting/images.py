# SPDX-License-Identifier: Apache-2.0
"""Write a report's charts as PNG files: the shapes of the page, drawn with matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError
from autoj_reward.reporting.charts import WIDTH, Shape, draw
from autoj_reward.reporting.escaping import visible
from autoj_reward.reporting.parts import Bars, Lines, Report

_DPI = 72
"""One unit of a drawing is one point."""
_TITLE, _LEGEND = 32, 32
_COLOURS, _DASHES = ("#1f5fa8", "#b04a00", "#4b7a14"), ("-", "--", ":")
_LINES = {
    "grid": ("#d5dae0", 1, "-"), "axis": ("#1b1f24", 1, "-"), "whisker": ("#1b1f24", 2, "-"),
    "ideal": ("#4d5560", 1, "--"),
}  # fmt: skip
_ANCHORS = {"start": "left", "middle": "center", "end": "right"}


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
            if isinstance(part, Bars | Lines):
                names.append(f"{part.id}.png")
                about = {"Description": visible(part.says)}
                _painted(part).savefig(folder / names[-1], dpi=2 * _DPI, metadata=about)
    except OSError as error:
        raise ConfigError(f"images cannot be written in {folder}: {error}") from error
    return names


def _painted(part: Bars | Lines) -> Any:
    from matplotlib.figure import Figure

    drawing = draw(part)
    legend = _LEGEND if len(part.series) > 1 else 0
    height = _TITLE + drawing.height + legend
    figure = Figure(figsize=(WIDTH / _DPI, height / _DPI))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(drawing.height + legend, -_TITLE))
    axes.set_axis_off()
    shapes = [Shape("label", [(WIDTH / 2, -8)], text=part.title), *drawing.shapes]
    for s, name in enumerate(part.series if legend else ()):
        x, y = 64 + s * (WIDTH - 80) / len(part.series), drawing.height + 10
        kind: Literal["bar", "curve"] = "bar" if isinstance(part, Bars) else "curve"
        shapes += [
            Shape(kind, [(x, y), (x + 24, y + (6 if kind == "bar" else 0))], s),
            Shape("tick", [(x + 32, y + 6)], text=name, anchor="start"),
        ]
    for order, shape in enumerate(shapes):
        _paint(axes, shape, order)
    return figure


def _paint(axes: Any, shape: Shape, order: int) -> None:
    xs, ys = [x for x, _ in shape.points], [y for _, y in shape.points]
    colour, dash = _COLOURS[shape.series % 3], _DASHES[shape.series % 3]
    if shape.kind in ("tick", "label"):
        # A label's dollar signs are not formulas.
        side = _ANCHORS[shape.anchor]
        axes.text(xs[0], ys[0], visible(shape.text), ha=side, fontsize=13, parse_math=False, zorder=order)
    elif shape.kind == "bar":
        axes.fill_between(xs, ys[0], ys[1], color=colour, linewidth=0, zorder=order)
    elif shape.kind == "curve":
        axes.plot(xs, ys, color=colour, linestyle=dash, linewidth=2.5, marker="o", zorder=order)
    else:
        colour, width, dash = _LINES[shape.kind]
        axes.plot(xs, ys, color=colour, linewidth=width, linestyle=dash, zorder=order)
