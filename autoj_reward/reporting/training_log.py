# SPDX-License-Identifier: Apache-2.0
"""Report parts over training steps: of logged completions or metrics, or of what `monitor --json` printed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autoj_reward.errors import DataError
from autoj_reward.monitor.gap import gap_of_log
from autoj_reward.monitor.monitor import Monitor
from autoj_reward.monitor.reward_log import LogFields, read_scored
from autoj_reward.reporting.parts import Facts, Lines, Listing, Number, Part
from autoj_reward.rows.source import read_rows

_WINDOW = 256
"""Completions of a window, as of `monitor`; smaller in a short log."""
_FEWEST_WINDOWS = 8
_MOST_METRICS = 60
_FIRST = ("reward", "kl", "length", "entropy", "loss")
"""Metrics whose names hold one of these come first, in this order."""
_STATISTICS = (
    ("reward", "Reward", "mean reward", ""),
    ("spread", "Spread of rewards", "standard deviation of rewards", "spread"),
    ("length", "Length of completions", "mean characters", "length_growth"),
    ("length_correlation", "Reward and length", "rank correlation with length", "length_correlation"),
    ("distinct", "Variety", "distinct share of word pairs", "distinct_drop"),
    ("duplicates", "Copies", "share of copies", "duplicates"),
    ("flagged", "Flags of the guard", "share flagged", "flagged"),
    ("failed", "Without a reward", "share without a reward", "failed"),
)
"""A window's statistic, its title, its name on the axis, and the alarm about it."""


def log_parts(path: str) -> list[Part]:
    """The parts of a report about a log with a step in every row, or a folder of Parquet files.

    Raises:
        ConfigError: Several fields may be the reward.
        DataError: A row is wrong; names file, line and field.
    """
    if not Path(path).is_dir():
        _, first = next(iter(read_rows(path)))
        if "completion" not in first:
            return metric_parts((row for _, row in read_rows(path)), path)
    scored = list(read_scored(path, LogFields()))
    window = _WINDOW if len(scored) >= _WINDOW * _FEWEST_WINDOWS else max(8, len(scored) // _FEWEST_WINDOWS)
    monitor = Monitor(window=window)
    found = []
    for item in scored:
        flags = None if item.flags is None else [item.flags]
        found += monitor.add([item.reward], [item.text], flags=flags, step=item.step)
    found += monitor.finish()
    windows = [w.as_record() for w in monitor.windows]
    gap, gap_alarms = gap_of_log(scored)
    alarms = [asdict(alarm) for alarm in (*found, *gap_alarms)]
    return window_parts({"windows": windows, "alarms": alarms, "gold": [p.as_record() for p in gap]})


def window_parts(record: Mapping[str, Any]) -> list[Part]:
    """The parts of a report about what `monitor --json` printed."""
    windows: Sequence[Mapping[str, Any]] = record["windows"]
    alarms: Sequence[Mapping[str, Any]] = record.get("alarms") or ()
    stepped = all(w.get("last_step") is not None for w in windows)
    x = [float(w["last_step"] if stepped else n) for n, w in enumerate(windows, start=1)]
    facts = {"completions in windows": f"{sum(w['n'] for w in windows):,}", "windows": f"{len(windows):,}"}
    if windows:
        facts["completions of a window"] = f"{windows[0]['n']:,}"
    facts["alarms"] = f"{len(alarms):,}"
    parts: list[Part] = [Facts(id="overview", title="Overview", facts=facts)]
    if alarms:
        says = "What moved away from the first window. An alarm is a reason to read completions, not a proof."
        rows = [[a.get("step"), str(a["name"]).replace("_", " "), a["value"], a["text"]] for a in alarms]
        columns = ["step", "alarm", "value", "what"]
        parts.append(Listing(id="alarms", title="Alarms", says=says, columns=columns, rows=rows))
    for name, title, what, alarm in _STATISTICS:
        values: list[Number] = [w.get(name) for w in windows]
        known = [v for v in values if v is not None]
        if not known:
            continue
        rung = [a for a in alarms if a["name"] == alarm]
        marks = {"first alarm": float(rung[0]["step"])} if rung and rung[0].get("step") is not None else {}
        low, high = _interval_of_means(windows) if name == "reward" else ({}, {})
        parts.append(
            Lines(
                id=name.replace("_", "-"),
                title=title,
                says=f"From {known[0]:.3g} to {known[-1]:.3g}." + _alarmed(rung),
                x_label="step" if stepped else "window",
                y_label=what,
                x=x,
                series={what: values},
                low=low,
                high=high,
                axis="integer",
                marks=marks,
            )
        )
    return parts + _gold_parts(record.get("gold") or (), alarms)


def _gold_parts(points: Sequence[Mapping[str, Any]], alarms: Sequence[Mapping[str, Any]]) -> list[Part]:
    """Training and gold reward over the steps, and the gap between the two."""
    if not points:
        return []
    steps = [float(p["step"]) for p in points]
    rung = [a for a in alarms if a["name"] == "gold_gap"]
    marks = {"first alarm": float(rung[0]["step"])} if rung else {}
    both: dict[str, Sequence[Number]] = {
        "training reward": [p["reward"] for p in points],
        "gold reward": [p["gold"] for p in points],
    }
    first, last = points[0], points[-1]
    says = (
        f"Training reward from {first['reward']:.3g} to {last['reward']:.3g}, gold reward from "
        f"{first['gold']:.3g} to {last['gold']:.3g}. If the first rises away from the second, the policy may "
        "game the reward: read completions."
    )
    gap: dict[str, Sequence[Number]] = {"reward less gold": [p["gap"] for p in points]}
    alarmed = f" The alarm rang {len(rung):,} times." if rung else " The alarm did not ring."
    return [
        Lines(
            id="gold",
            title="Training and gold reward",
            says=says,
            x_label="step",
            y_label="mean reward",
            x=steps,
            series=both,
            axis="integer",
            marks=marks,
        ),
        Lines(
            id="gold-gap",
            title="Gap to the gold reward",
            says=f"From {first['gap']:+.3g} to {last['gap']:+.3g}.{alarmed}",
            x_label="step",
            y_label="reward less gold, mean over prompts",
            x=steps,
            series=gap,
            axis="integer",
            marks=marks,
        ),
    ]


def _interval_of_means(windows: Sequence[Mapping[str, Any]]) -> tuple[Any, Any]:
    """95% intervals of the windows' mean rewards, from their standard deviations."""
    ends: list[tuple[Number, Number]] = []
    for w in windows:
        mean, spread, n = w.get("reward"), w.get("spread"), w["n"] * (1.0 - (w.get("failed") or 0.0))
        if mean is None or spread is None or n < 2:
            ends.append((None, None))
        else:
            half = 1.96 * spread / math.sqrt(n - 1)
            ends.append((mean - half, mean + half))
    return {"mean reward": [a for a, _ in ends]}, {"mean reward": [b for _, b in ends]}


def _alarmed(rung: Sequence[Mapping[str, Any]]) -> str:
    return f" {len(rung):,} windows raised an alarm." if rung else ""


def metric_parts(rows: Iterable[Mapping[str, Any]], path: str) -> list[Part]:
    """The parts of a report about logged metrics: a chart for each number that has several steps.

    Of a run in stages, whose steps begin again, a chart for each number of each stage.

    Raises:
        DataError: No row has a step and a number.
    """
    by_stage: dict[str, dict[str, dict[float, float]]] = defaultdict(lambda: defaultdict(dict))
    n_rows = 0
    for row in rows:
        n_rows += 1
        step = row.get("step")
        if not isinstance(step, int | float) or not _is_number(step):
            continue
        stage = str(row.get("stage", ""))
        for name, value in row.items():
            if name not in ("step", "epoch", "stage") and _is_number(value):
                by_stage[stage][name][float(step)] = float(value)
    found = {
        f"{name}, stage {stage}" if len(by_stage) > 1 else name: values
        for stage, metrics in by_stage.items()
        for name, values in metrics.items()
        if len(values) > 1
    }
    if not found:
        raise DataError("has no number that is logged at two steps or more", path=path, field="step")
    names = sorted(found, key=lambda name: (_rank(name), list(found).index(name)))[:_MOST_METRICS]
    facts = {"log entries": f"{n_rows:,}", "metrics": f"{len(found):,}"}
    parts: list[Part] = [Facts(id="overview", title="Overview", facts=facts)]
    for number, name in enumerate(names, start=1):
        steps = sorted(found[name])
        values = [found[name][step] for step in steps]
        parts.append(
            Lines(
                id=f"metric-{number}",
                title=name,
                says=f"From {values[0]:.4g} at step {steps[0]:g} to {values[-1]:.4g} at step {steps[-1]:g}; "
                f"lowest {min(values):.4g}, highest {max(values):.4g}.",
                x_label="step",
                y_label=name,
                x=steps,
                series={name: values},
                axis="integer",
            )
        )
    return parts


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _rank(name: str) -> int:
    return next((n for n, part in enumerate(_FIRST) if part in name), len(_FIRST))
