# SPDX-License-Identifier: Apache-2.0
"""Write a report's charts as PNG files with matplotlib."""

from __future__ import annotations

from pathlib import Path

from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError
from autoj_reward.reporting.parts import Bars, Lines, Report


def write_images(report: Report, folder: Path) -> list[str]:
    """Write one PNG for each chart, named after it.

    Returns:
        The file names, in the report's order.

    Raises:
        ConfigError: matplotlib is not installed, or the folder cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("images need matplotlib", hint=how_to_install("report")) from error
    names = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part in report.parts:
            if not isinstance(part, Bars | Lines):
                continue
            figure = Figure(figsize=(8, 4), layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.add_subplot()
            _draw(axes, part)
            axes.set(title=part.title, xlabel=part.x_label, ylabel=part.y_label)
            if len(part.series) > 1:
                axes.legend()
            names.append(f"{part.id}.png")
            figure.savefig(folder / names[-1], dpi=144, metadata={"Description": part.says})
    except OSError as error:
        raise ConfigError(f"images cannot be written in {folder}: {error}") from error
    return names


def _draw(axes: object, part: Bars | Lines) -> None:
    nan = float("nan")
    width = 0.8 / max(len(part.series), 1)
    for s, (name, column) in enumerate(part.series.items()):
        values = [nan if v is None else float(v) for v in column]
        if isinstance(part, Lines):
            axes.plot(list(part.x), values, marker="o", label=name)  # type: ignore[attr-defined]
            continue
        places = [i + width * (s - (len(part.series) - 1) / 2) for i in range(len(values))]
        axes.bar(places, values, width=width, label=name)  # type: ignore[attr-defined]
    if isinstance(part, Lines):
        if part.diagonal:
            axes.axline((0.5, 0.5), slope=1, linestyle="--", color="grey")  # type: ignore[attr-defined]
        return
    axes.set_xticks(  # type: ignore[attr-defined]
        range(len(part.labels)), list(part.labels), rotation=30 if len(part.labels) > 6 else 0, ha="right"
    )
    for i, (low, high) in enumerate(zip(part.low, part.high, strict=True)):
        if low is not None and high is not None:
            axes.vlines(i, low, high, color="black")  # type: ignore[attr-defined]
