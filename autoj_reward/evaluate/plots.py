# SPDX-License-Identifier: Apache-2.0
"""Plot a selection report with matplotlib: gold against N and against judge calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError
from autoj_reward.evaluate.selection import SelectionReport, SelectionRow


def plot_selection(report: SelectionReport, folder: Path, *, title: str) -> list[Path]:
    """Draw contenders as full lines with 95% bands, rules dashed.

    Returns:
        The files in the folder: TITLE-gold-by-n.png and TITLE-gold-by-calls.png.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "plots need matplotlib, which is not installed", hint=how_to_install("report")
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[SelectionRow]] = {}
    for row in report.rows:
        lines.setdefault(row.name, []).append(row)
    by_n, by_calls = Figure(figsize=(7, 4.5)), Figure(figsize=(7, 4.5))
    axes = by_n.add_subplot()
    for name, rows in lines.items():
        asks = any(r.calls for r in rows)
        n = [r.n for r in rows]
        (line,) = axes.plot(
            n, [r.gold.value for r in rows], "o-" if asks else "--", label=name, linewidth=1.2
        )
        if asks:
            low, high = [r.gold.low for r in rows], [r.gold.high for r in rows]
            axes.fill_between(n, low, high, alpha=0.1, color=line.get_color())
    axes.set_xscale("log", base=2)
    sizes = sorted({r.n for r in report.rows})
    axes.set_xticks(sizes, [str(s) for s in sizes])
    _finish(by_n, "completions of a prompt", title)
    axes = by_calls.add_subplot()
    for name, rows in lines.items():
        if all(r.calls for r in rows):
            axes.plot([r.calls for r in rows], [r.gold.value for r in rows], "o-", label=name, linewidth=1.2)
    axes.set_xscale("log")
    _finish(by_calls, "judge calls for a prompt", title)
    stem = "".join(c if c.isalnum() else "-" for c in title)
    paths = [folder / f"{stem}-gold-by-n.png", folder / f"{stem}-gold-by-calls.png"]
    for figure, path in zip((by_n, by_calls), paths, strict=True):
        figure.savefig(path, dpi=120, bbox_inches="tight")
    return paths


def _finish(figure: Any, x: str, title: str) -> None:
    axes = figure.axes[0]
    axes.set_xlabel(x)
    axes.set_ylabel("gold of the pick")
    axes.set_title(title)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
