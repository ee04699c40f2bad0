# SPDX-License-Identifier: Apache-2.0
"""Does judging on Ray give the rows of one machine, also if a worker is killed?

Rows go through a recorded engine, first with `autoj-reward rate`, then with `rate --ray local` on a cluster
of two workers. When a fifth of the blocks is there, one worker gets SIGKILL. The output must be complete,
hold no row twice, and equal the one-machine output as a set. `--embedded` does the same with the embedded
judge, on a few rows: its numbers depend a little on what else is in a batch, so there they may differ by the
engine's resolution, and nothing else may. With `--criteria` two of three rows have a rubric of criteria in a
column.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyarrow as pa
import pyarrow.parquet as pq
from report import publish, show

COMMAND = [
    sys.executable,
    "-m",
    "autoj_reward.cli",
    "rate",
    "in.parquet",
    "--no-cache",
    "--mode",
    "direct",
    "--allow-failures",
]
ANSWERS = [
    {"contains": ["0 is"], "reading": {"9": 0.6, "8": 0.4}},
    {"contains": ["7 is"], "reading": {"5": 0.0001}},
    {"contains": [], "reading": {"5": 0.75, "6": 0.25}},
]
RUBRIC = [
    {"text": "The answer is a number.", "weight": 2, "essential": True},
    {"name": "Modest", "text": "The answer speaks of its author.", "weight": -1},
    {"text": "The answer is short.", "choices": ["long", "in between", "short"]},
]


def workers_of(driver: int) -> list[int]:
    """Processes of the cluster's actors: they carry the class's name, and descend from the driver."""
    parents: dict[int, int] = {}
    named = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            words = (path / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        parents[int(path.name)] = int(fields[1])
        if (words.startswith("ray::") and "_MapWorker" in words) or "MapBatches(BlockJudge)" in words:
            named.append(int(path.name))
    return [pid for pid in named if _descends(pid, driver, parents)]


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid in parents:
        if pid == ancestor:
            return True
        pid = parents[pid]
    return False


def drill(folder: Path, n: int, block: int, engine: list[str], *, criteria: bool) -> dict[str, Any]:
    """Judge `n` rows both ways, and compare."""
    rows: list[dict[str, Any]] = [
        {"id": k, "prompt": f"Name number {k % 97}.", "completion": f"I say {k} is it."} for k in range(n)
    ]
    if criteria:
        rows = [row | {"rubric": json.dumps(RUBRIC) if row["id"] % 3 else None} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), folder / "in.parquet")
    began = time.monotonic()
    subprocess.run([*COMMAND, "-o", "one.parquet", *engine, "--quiet"], cwd=folder, check=True)
    alone = time.monotonic() - began
    began = time.monotonic()
    cluster = ["--ray", "local", "--ray-workers", "2", "--ray-block", str(block)]
    running = subprocess.Popen([*COMMAND, "-o", "many", *engine, *cluster, "--quiet"], cwd=folder)
    killed = parts_at_kill = 0
    n_blocks = -(-n // block)
    while running.poll() is None:
        parts = len(list((folder / "many").glob("part-*.parquet")))
        if not killed and parts >= max(1, n_blocks // 5) and (workers := workers_of(running.pid)):
            killed, parts_at_kill = workers[0], parts
            os.kill(killed, signal.SIGKILL)
        time.sleep(0.005)
    spent = time.monotonic() - began
    if running.returncode:
        raise SystemExit(f"the run on Ray ended with {running.returncode}")
    one, many = (pq.read_table(folder / name).to_pylist() for name in ("one.parquet", "many"))
    ids = [row["id"] for row in many]
    texts = [{json.dumps(row, sort_keys=True) for row in rows} for rows in (one, many)]
    apart = difference(*(sorted(rows, key=lambda row: row["id"]) for rows in (one, many)))
    return {
        "rows": n,
        "blocks": n_blocks,
        "killed_a_worker": bool(killed),
        "parts_when_killed": parts_at_kill,
        "rows_in_output": len(many),
        "rows_by_criteria": sum(len(row.get("criteria") or ()) == len(RUBRIC) for row in many),
        "rows_twice": len(ids) - len(set(ids)),
        "equal_as_a_set": texts[0] == texts[1],
        "largest_difference": apart,
        "left_behind": [
            p.name for p in (folder / "many").iterdir() if p.name.startswith("_") and p.name != "_run.json"
        ],
        "seconds_one_machine": round(alone, 1),
        "seconds_on_ray": round(spent, 1),
    }


def difference(one: Any, other: Any) -> float:
    """Largest difference of two numbers at the same place; infinite where anything else differs."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other)
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return max((difference(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max(map(difference, one, other), default=0.0)
    return 0.0 if one == other else math.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--block", type=int, default=500)
    parser.add_argument(
        "--embedded", action="store_true", help="the embedded judge in the place of the recorded one"
    )
    parser.add_argument("--criteria", action="store_true", help="two of three rows have a rubric of criteria")
    parser.add_argument("--dry", action="store_true", help="print the figures, and keep no file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.embedded:
            engine = ["--engine", "transformers", "--engine-option", "dtype=float32"]
        else:
            recorded = folder / "recorded.jsonl"
            recorded.write_text("".join(json.dumps(a) + "\n" for a in ANSWERS), encoding="utf-8")
            engine = ["--engine", f"recorded:{recorded}"]
        figures = drill(folder, options.rows, options.block, engine, criteria=options.criteria)
    show([{k: v for k, v in figures.items() if k != "left_behind"}])
    figures["engine"] = "embedded, float32" if options.embedded else "recorded"
    if options.dry:
        print(json.dumps(figures))
    else:
        publish(
            "ray_drill" + "_embedded" * options.embedded + "_criteria" * options.criteria,
            "Is a corpus judged on Ray, with a worker killed, the corpus judged on one machine?",
            figures,
        )
    whole = figures["rows_in_output"] == figures["rows"] and not figures["rows_twice"]
    equal = figures["largest_difference"] <= (1e-4 if options.embedded else 0.0)
    sys.exit(not (whole and equal and figures["killed_a_worker"]))


if __name__ == "__main__":
    main()
