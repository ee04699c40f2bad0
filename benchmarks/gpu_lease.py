# SPDX-License-Identifier: Apache-2.0
"""Every measurement on a GPU by one command, in order of worth, each with a limit of its own.

For a machine that is at hand for some minutes only. Every step is a process that writes its results as they
come, into the folder given; the next step starts when it ends or its limit is reached.

    python benchmarks/gpu_lease.py OUT
    python benchmarks/gpu_lease.py OUT --steps 13b-bf16 13b-fp8
    python benchmarks/gpu_lease.py OUT --tiny
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

STEPS: dict[str, tuple[int, list[str]]] = {
    "mini": (200, ["gpu_mini.py"]),
    "13b-bf16": (150, ["gpu.py", "--name", "gpu_13b_bf16", "--precisions", "bf16"]),
    "13b-fp8": (150, ["gpu.py", "--name", "gpu_13b_fp8", "--precisions", "fp8 weights and cache"]),
    "grpo-sleep": (140, ["gpu_grpo.py", "--engine", "vllm"]),
    "grpo-server": (160, ["gpu_grpo.py", "--engine", "vllm-server"]),
    "resolution": (120, ["resolution.py", "--engine", "vllm", "--dtypes", "bfloat16", "--heads", "model",
                         "float32"]),
    "small": (150, ["selection.py", "--judge", "small", "--engine", "vllm", "--no-cache", "--limit", "40",
                    "--strategies", "greedy", "pointwise", "knockout", "--name", "gpu_small_selection"]),
    "train-small": (450, ["-m", "autoj_reward", "train-judge", "examples/train_small.toml", "--output",
                          "{out}/small"]),
    "lora": (120, ["-m", "pytest", "-q", "-m", "", "tests/engines/vllm/test_engine.py", "-k", "adapter"]),
    "gptq": (120, ["-m", "pytest", "-q", "-m", "", "tests/engines/vllm/test_gptq.py"]),
}  # fmt: skip
"""Seconds that a step may take, and what it runs; `{out}` is the folder given."""

TINY: dict[str, list[str]] = {
    "mini": ["--limit", "1", "--tokens", "8", "--repeats", "1", "--cache-gib", "0.5", "--eager"],
    "13b-bf16": [
        "--shape",
        "tiny",
        "--limit",
        "1",
        "--tokens",
        "4",
        "--repeats",
        "1",
        "--cache-gib",
        "0.25",
        "--eager",
    ],
    "grpo-sleep": ["--engine", "transformers", "--steps", "4", "--generations", "2", "--tokens", "8"],
}
"""What a step gets besides on a machine without a GPU, to see that it runs; others are left out."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    arguments.add_argument("--seconds", type=float, default=840, help="for all steps together")
    arguments.add_argument("--limit", type=float, help="seconds of each step, instead of its own")
    arguments.add_argument("--tiny", action="store_true", help="small shapes; runs without a GPU")
    given = arguments.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + given.seconds
    done: list[dict[str, object]] = []
    for name in given.steps:
        if given.tiny and name not in TINY:
            continue
        limit, order = STEPS[name]
        left = min(given.limit or limit, end - time.monotonic())
        if left < 20:
            done.append({"step": name, "left_out": "no time left"})
            continue
        done.append(run(name, [*order, *(TINY[name] if given.tiny else [])], left, given.out))
        print(json.dumps(done[-1]), flush=True)
        (given.out / "steps.json").write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")


def run(name: str, order: list[str], limit: float, out: Path) -> dict[str, object]:
    """One step: its log goes to OUT/NAME.log, its results to OUT."""
    order = [part.format(out=out.resolve()) for part in order]
    script = [str(HERE / order[0]), *order[1:]] if order[0].endswith(".py") else order
    environment = {**os.environ, "AUTOJ_REWARD_RESULTS": str(out.resolve()), "PYTHONUNBUFFERED": "1"}
    start = time.monotonic()
    with open(out / f"{name}.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, *script],
            cwd=HERE.parent,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # Whatever the step left running would hold the GPU's memory.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return {"step": name, "exit": code, "limit": round(limit), "seconds": round(time.monotonic() - start, 1)}


if __name__ == "__main__":
    main()
