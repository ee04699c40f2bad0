# SPDX-License-Identifier: Apache-2.0
"""Build a report from any output file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.reporting.entries import read_run
from autoj_reward.reporting.figures import run_parts
from autoj_reward.reporting.measured import benchmark_parts, evaluation_parts, probe_parts, selection_parts
from autoj_reward.reporting.parts import Part, Report

MOST_ROWS = 500


def build_report(
    path: str, *, gold: str | None = None, group: str | None = None, most_rows: int = MOST_ROWS
) -> Report:
    """Compute the figures of an output of rate, compare, rerank, label, or of a `.json` of evaluate, probe.

    Args:
        path: The file.
        gold: In rows, the field with gold labels.
        group: In rows, the field that groups them.
        most_rows: Rows that a reader can browse at most; at least 0.

    Raises:
        ConfigError: The file does not exist.
        DataError: The file, or a row of it, is not an output of this package; names file, line and field.
    """
    if Path(path).suffix == ".json":
        if gold or group:
            raise ConfigError("--gold and --group are for rows", hint=f"{path} holds finished figures")
        record = _read_json(path)
        about = about_facts(record.get("about") or record)
        for kind, fields, parts in _MEASURED:
            if fields <= record.keys():
                return Report(kind=kind, source=path, parts=parts(record), about=about)
        raise DataError("is not an output of evaluate or probe", path=path)
    run = read_run(path, gold=gold, group=group)
    about = about_facts(run.record.get("about") or run.record.get("run", {}))
    return Report(kind=run.kind, source=path, parts=run_parts(run, most_rows), about=about)


_MEASURED: tuple[tuple[str, set[str], Callable[[dict[str, Any]], list[Part]]], ...] = (
    ("probe", {"attacks"}, probe_parts),
    ("evaluate", {"benchmark"}, benchmark_parts),
    ("evaluate", {"overall", "groups"}, evaluation_parts),
    ("evaluate", {"rows", "paired"}, selection_parts),
)


def about_facts(about: Mapping[str, Any]) -> dict[str, str]:
    """Who judged, when and how, from a run's record; what an older record does not say is left out."""
    judge = about.get("judge")
    if not isinstance(judge, Mapping):
        known = {name: about.get(name) for name in ("judge", "mode", "engine", "command")}
        return {name: str(value) for name, value in known.items() if value}
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
        "command": shlex.join([Path(command[0]).name, *command[1:]]) if command else None,
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
