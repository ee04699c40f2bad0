# SPDX-License-Identifier: Apache-2.0
"""Build a report from any output file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.reporting.comparison import compared_runs
from autoj_reward.reporting.entries import Run, kind_of_row, read_run
from autoj_reward.reporting.figures import run_parts
from autoj_reward.reporting.measured import (
    benchmark_parts,
    compared_measures,
    evaluation_parts,
    probe_parts,
    selection_parts,
)
from autoj_reward.reporting.parts import Part, Report
from autoj_reward.reporting.training_log import log_parts, metric_parts, window_parts
from autoj_reward.rows.source import read_rows

MOST_ROWS = 500


def build_report(
    path: str,
    other: str | None = None,
    *,
    gold: str | None = None,
    group: str | None = None,
    most_rows: int = MOST_ROWS,
) -> Report:
    """Compute the figures of a run, or of two runs side by side.

    Args:
        path: An output of rate, compare, rerank or label, a `.json` of evaluate, probe or monitor, or a
            trainer's log: rows with a step, a folder of Parquet files, or `trainer_state.json`.
        other: Another run of the same kind over the same rows; not of label or a log.
        gold: In rows, the field with gold labels.
        group: In rows, the field that groups them.
        most_rows: Rows that a reader can browse at most; at least 0.

    Raises:
        ConfigError: A file does not exist, or the options do not fit it.
        DataError: The file, or a row of it, is not an output of this package; names file, line and field.
            Or the two runs cannot be compared.
    """
    if other is not None:
        return _two(path, other, gold=gold, group=group, most_rows=most_rows)
    if _is_finished(path):
        if gold or group:
            raise ConfigError("--gold and --group are for rows", hint=f"{path} holds finished figures")
        return _of_json(path)
    if _is_log(path):
        if gold or group:
            raise ConfigError("--gold and --group are for outputs", hint=f"{path} is a trainer's log")
        return Report(kind="training", source=path, parts=log_parts(path))
    run = read_run(path, gold=gold, group=group)
    return Report(kind=run.kind, source=path, parts=run_parts(run, most_rows), about=_about_run(run))


def _two(path: str, other: str, *, gold: str | None, group: str | None, most_rows: int) -> Report:
    names = _names_of(path, other)
    source = f"{path} and {other}"
    if _is_finished(path) != _is_finished(other) or _is_log(path) or _is_log(other):
        raise ConfigError(
            f"{path} and {other} cannot be compared",
            hint="name two outputs of rate, compare or rerank, or two .json files of evaluate or probe",
        )
    if _is_finished(path):
        if gold or group:
            raise ConfigError("--gold and --group are for rows", hint=f"{path} holds finished figures")
        reports = _of_json(path), _of_json(other)
        if reports[0].kind != reports[1].kind or reports[0].kind == "training":
            raise ConfigError(f"{path} is of {reports[0].kind}, and {other} of {reports[1].kind}")
        parts = compared_measures(names, reports)
        about = _both(names, reports[0].about, reports[1].about)
    else:
        runs = read_run(path, gold=gold, group=group), read_run(other, gold=gold, group=group)
        parts = compared_runs(names, runs, most_rows)
        about = _both(names, _about_run(runs[0]), _about_run(runs[1]))
    return Report(kind="comparison", source=source, parts=parts, about=about)


def _names_of(first: str, second: str) -> tuple[str, str]:
    """What two files are called on the page: their names, or their paths if the names are the same."""
    short = Path(first).name, Path(second).name
    if short[0] != short[1]:
        return short
    if first == second:
        raise ConfigError(f"{first} would be compared with itself", hint="name two runs")
    return first, second


def _both(names: tuple[str, str], a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, str]:
    """What is said of both runs: once if it is the same."""
    return {
        name: a[name]
        if a.get(name) == b.get(name)
        else "; ".join(f"{run}: {of.get(name, 'unknown')}" for run, of in zip(names, (a, b), strict=True))
        for name in {**a, **b}
    }


def _is_finished(path: str) -> bool:
    return Path(path).suffix == ".json"


def _is_log(path: str) -> bool:
    """Whether a file or folder is a trainer's log."""
    if Path(path).is_dir():
        return any(Path(path).glob("*.parquet")) or any(Path(path).glob("*.jsonl"))
    first = next(iter(read_rows(path)), None) if not _is_finished(path) else None
    return first is not None and kind_of_row(first[1], path) == "training"


def _of_json(path: str) -> Report:
    record = _read_json(path)
    about = about_facts(record.get("about") or record)
    for kind, fields, parts in _MEASURED:
        if fields <= record.keys():
            return Report(kind=kind, source=path, parts=parts(record), about=about)
    if isinstance(record.get("log_history"), list):
        rows = [row for row in record["log_history"] if isinstance(row, dict)]
        return Report(kind="training", source=path, parts=metric_parts(rows, path))
    raise DataError("is not an output of evaluate, probe or monitor, nor a trainer's state", path=path)


def _about_run(run: Run) -> dict[str, str]:
    return about_facts(run.record.get("about") or run.record.get("run", {}))


_MEASURED: tuple[tuple[str, set[str], Callable[[dict[str, Any]], list[Part]]], ...] = (
    ("probe", {"attacks"}, probe_parts),
    ("evaluate", {"benchmark"}, benchmark_parts),
    ("evaluate", {"overall", "groups"}, evaluation_parts),
    ("evaluate", {"rows", "paired"}, selection_parts),
    ("training", {"windows", "alarms"}, window_parts),
)


def about_facts(about: Mapping[str, Any]) -> dict[str, str]:
    """Who judged, when and how, from a run's record; what an older record does not say is left out."""
    judge = about.get("judge")
    if not isinstance(judge, Mapping):
        # A record of a former version, or of figures that no judge of ours made.
        judge = {name: about.get(name) for name in ("judge", "mode")}
        judge["engine"] = {"engine": about.get("engine")}
    engine, machine = judge.get("engine") or {}, about.get("machine") or {}
    named, id_ = judge.get("judge"), judge.get("judge_id")
    command = [str(word) for word in about.get("command_line") or ()]
    facts: dict[str, Any] = {
        "judge": f"{named}, id {id_}" if id_ else named,
        "model": _listed(judge.get("model"), judge.get("revision"), engine.get("dtype")),
        "mode": judge.get("mode"),
        "engine": engine.get("engine"),
        "versions": ", ".join(f"{name} {v}" for name, v in (about.get("versions") or {}).items()),
        "date": about.get("date"),
        "command": shlex.join([Path(command[0]).name, *command[1:]]) if command else about.get("command"),
        "machine": _listed(machine.get("system"), machine.get("processor"), *machine.get("gpus", ())),
    }
    return {name: str(value) for name, value in facts.items() if value}


def _listed(*values: Any) -> str:
    return ", ".join(str(v) for v in values if v)


def _read_json(path: str) -> dict[str, Any]:
    try:
        read = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON: {error}", path=path) from error
    if not isinstance(read, dict):
        raise DataError(f"must hold a JSON object, holds {type(read).__name__}", path=path)
    return read
