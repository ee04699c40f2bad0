# SPDX-License-Identifier: Apache-2.0
"""What every runner keeps to; the standard library alone, because it runs in each peer's environment.

A runner is started with the files TASK and OUT. TASK holds `model` (a folder), `bodies` (the filled judge
template of each judgment, the same for all), `pairs` (prompt and completion), `max_new_tokens`, `context`,
and for a peer on a server `url` and `served_model`. It judges all twice and writes what it saw.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_RATING = re.compile(r"\[\[\s*(\d+(?:\.\d+)?)\s*\]\]")


def rating_of(text: str) -> float | None:
    """The regular expression people write: the first number in double brackets."""
    found = _RATING.search(text)
    return float(found.group(1)) if found else None


def read_task() -> dict[str, Any]:
    """The task of this runner."""
    task: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    return task


def measure(
    judge: Callable[[Sequence[int]], list[dict[str, Any]]],
    task: dict[str, Any],
    *,
    started: float,
    unreadable: str,
    versions: dict[str, str],
) -> None:
    """Judge one row, then all rows, then all again; write the seconds of each.

    Args:
        judge: Judges the rows with these indices; for each `rating` (None where unreadable) and, where the
            peer tells, `tokens` written.
        task: The task.
        started: `time.perf_counter()` at the runner's first line.
        unreadable: What the peer does with an output that it cannot read, in words.
        versions: Of the packages that matter.
    """
    n = len(task["bodies"])
    judge([0])
    first = time.perf_counter()
    answers = judge(range(n))
    cold = time.perf_counter()
    again = judge(range(n))
    warm = time.perf_counter()
    if not len(answers) == len(again) == n:
        raise SystemExit(f"{n} rows were given, {len(answers)} and then {len(again)} came back")
    tokens = [a.get("tokens") for a in answers]
    written = {
        "n": n,
        "first_seconds": first - started,
        "cold_seconds": cold - first,
        "warm_seconds": warm - cold,
        "n_unreadable": sum(a["rating"] is None for a in answers),
        "tokens": None if any(t is None for t in tokens) else sum(tokens),
        "same_when_warm": sum(a["rating"] == b["rating"] for a, b in zip(answers, again, strict=True)),
        "unreadable": unreadable,
        "versions": versions,
    }
    Path(sys.argv[2]).write_text(json.dumps(written), encoding="utf-8")


def versions_of(*packages: str) -> dict[str, str]:
    """Installed versions of packages, where they are installed."""
    import importlib.metadata

    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
