# SPDX-License-Identifier: Apache-2.0
"""Build a report from any output file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.reporting.entries import read_run
from autoj_reward.reporting.figures import run_parts
from autoj_reward.reporting.measured import benchmark_parts, evaluation_parts, probe_parts
from autoj_reward.reporting.parts import Report


def build_report(path: str, *, gold: str | None = None, group: str | None = None) -> Report:
    """Compute the figures of an output of rate, compare, rerank, label, or of a `.json` of evaluate, probe.

    In rows, `gold` is the field with gold labels, and `group` the one that groups them.

    Raises:
        ConfigError: The file does not exist.
        DataError: The file, or a row of it, is not an output of this package; names file, line and field.
    """
    if Path(path).suffix == ".json":
        if gold or group:
            raise ConfigError("--gold and --group are for rows", hint=f"{path} holds finished figures")
        record = _read_json(path)
        if "attacks" in record:
            return Report(kind="probe", source=path, parts=probe_parts(record))
        if "benchmark" in record:
            return Report(kind="evaluate", source=path, parts=benchmark_parts(record))
        if "overall" in record and "groups" in record:
            return Report(kind="evaluate", source=path, parts=evaluation_parts(record))
        raise DataError("is not an output of evaluate or probe", path=path)
    run = read_run(path, gold=gold, group=group)
    return Report(kind=run.kind, source=path, parts=run_parts(run))


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
