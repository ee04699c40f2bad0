# SPDX-License-Identifier: Apache-2.0
"""A trainer's log over its steps: completions through the monitor, metrics as they were logged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.monitor.monitor import Monitor
from autoj_reward.reporting.build import build_report
from autoj_reward.reporting.parts import Lines
from tests.reporting.test_report import checked, write


def log(n_steps: int = 10) -> list[dict[str, Any]]:
    """Eight completions a step, which grow; the last one of a step has no reward."""
    return [
        {
            "step": step,
            "prompt": "Q",
            "completion": f"{step} {i} " + "word " * step,
            "reward": None if i == 7 else float(step + i % 2),
        }
        for step in range(1, n_steps + 1)
        for i in range(8)
    ]


def test_completions_are_measured_over_steps(tmp_path: Path) -> None:
    rows = log()
    report = build_report(write(tmp_path / "log.jsonl", rows))
    checked(report)
    assert report.kind == "training"
    monitor = Monitor(window=10)
    for row in rows:
        monitor.add([row["reward"]], [row["completion"]], step=row["step"])
    part = report.part("reward")
    assert part.x == [float(w.last_step or 0) for w in monitor.windows]
    assert part.series["mean reward"] == [w.reward for w in monitor.windows]
    assert all(a <= m <= b for a, m, b in zip(part.low["mean reward"], part.series["mean reward"], part.high["mean reward"], strict=True))  # fmt: skip
    assert report.part("length").series["mean characters"] == [w.length for w in monitor.windows]
    assert report.part("overview").facts["windows"] == "8"
    # Completions are more than twice as long: the chart shows from which step.
    growth = [row for row in report.part("alarms").rows if row[1] == "length growth"]
    assert report.part("length").marks == {"first alarm": float(growth[0][0])}
    assert "flagged" not in [p.id for p in report.parts]


def test_what_monitor_printed_is_shown_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", log())
    monitor = Monitor(window=10)
    alarms = [a for row in log() for a in monitor.add([row["reward"]], [row["completion"]], step=row["step"])]
    printed = {
        "windows": [w.as_record() for w in monitor.windows],
        "alarms": [{"name": a.name, "step": a.step, "value": a.value, "text": a.text} for a in alarms],
    }
    (tmp_path / "monitor.json").write_text(json.dumps(printed))
    assert build_report(str(tmp_path / "monitor.json")).parts == build_report(path).parts


def test_metrics_are_drawn_as_they_were_logged(tmp_path: Path) -> None:
    history = [
        {"step": 1, "epoch": 0.1, "loss": 0.5, "reward": 1.0, "note": "x"},
        {"step": 2, "epoch": 0.2, "loss": 0.25, "reward": 2.0, "once": 3.0},
        {"step": 3, "epoch": 0.3, "loss": float("nan"), "kl": 0.1},
        {"step": 4, "kl": 0.2, "runtime": 5},
    ]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history, "global_step": 4}))
    report = build_report(str(tmp_path / "trainer_state.json"))
    checked(report)
    drawn = {p.title: (p.x, p.series[p.title]) for p in report.parts if isinstance(p, Lines)}
    assert drawn == {
        "reward": ([1, 2], [1.0, 2.0]),
        "kl": ([3, 4], [0.1, 0.2]),
        "loss": ([1, 2], [0.5, 0.25]),
    }
    # Rewards come first; the same rows as JSON lines give the same page.
    assert list(drawn) == ["reward", "kl", "loss"]
    assert build_report(write(tmp_path / "metrics.jsonl", history)).parts[1:] == report.parts[1:]


def test_logs_that_say_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two steps or more"):
        build_report(write(tmp_path / "m.jsonl", [{"step": 1, "loss": 1.0}]))
    path = write(tmp_path / "log.jsonl", log(1))
    with pytest.raises(ConfigError, match="trainer's log"):
        build_report(path, gold="reward")
    with pytest.raises(ConfigError, match="cannot be compared"):
        build_report(path, write(tmp_path / "other.jsonl", log(1)))


def test_each_stage_of_a_run_has_its_own_lines(tmp_path: Path) -> None:
    """Steps begin again in every stage: later stages overwrote earlier ones, and a falling loss rose."""
    rows = [{"stage": "one", "step": 10 * n, "loss": 3.0 - n / 10} for n in range(1, 5)]
    rows += [{"stage": "two", "step": 10 * n, "loss": 0.5} for n in range(1, 3)]
    report = build_report(write(tmp_path / "losses.jsonl", rows))
    lines = {part.title: part for part in report.parts if isinstance(part, Lines)}
    assert lines["loss, stage one"].series == {"loss, stage one": [2.9, 2.8, 2.7, 2.6]}
    assert lines["loss, stage two"].x == [10.0, 20.0]
