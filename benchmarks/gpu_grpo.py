# SPDX-License-Identifier: Apache-2.0
"""GRPO with policy and judge on one GPU: what of a step is the judge's, and what stays behind?

Ten steps of TRL's GRPO on the embedded policy, with the judge in this process (`--engine vllm`, which sleeps
between calls) or in a server of its own (`--engine vllm-server`). Each step's seconds, the judge's share, and
the memory in use are written as they come. Then the same run is killed (SIGKILL) in its third step, and what
still runs or still holds memory of the GPU is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from report import publish

MARK = "AUTOJ_REWARD_BENCHMARK_RUN"
"""Environment variable by which the processes of a run are found."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--engine", default="vllm", help="vllm, vllm-server or transformers")
    arguments.add_argument("--judge", default="mini")
    arguments.add_argument("--steps", type=int, default=10)
    arguments.add_argument("--generations", type=int, default=16)
    arguments.add_argument("--tokens", type=int, default=128, help="most tokens of a completion")
    arguments.add_argument("--memory-share", type=float, default=0.3)
    arguments.add_argument("--patience", type=float, default=60, help="seconds after the kill")
    arguments.add_argument("--trl-vllm", action="store_true", help="the policy generates with vLLM as well")
    arguments.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.train:
        train(given)
        return

    before = gpu_mib()
    results: dict[str, Any] = {"engine": given.engine, "judge": given.judge, "mib_before": before}
    name = f"gpu_grpo_{given.engine.replace('-', '_')}"
    question = "a GRPO step with judge and policy on one GPU"

    def keep(steps: list[dict[str, Any]]) -> None:
        publish(name, question, {**results, "steps": steps})

    steps = run(given, keep=keep)
    if len(steps) < given.steps:
        publish(name, question, {**results, "steps": steps, "failed": "the run ended early; see its log"})
        raise SystemExit(1)
    # The first step starts the judge.
    later = steps[1:] or steps
    results |= {
        "steps": steps,
        "step_seconds": statistics.median(s["seconds"] for s in later) if later else None,
        "judge_seconds": statistics.median(s["judge_seconds"] for s in later) if later else None,
        "mib_growth": steps[-1]["mib"] - later[0]["mib"] if later and before is not None else None,
    }
    publish(name, question, results)
    results["killed_after_steps"] = len(run(given, stop_at=3))
    deadline = time.time() + given.patience
    while processes_of(os.environ[MARK]) and time.time() < deadline:
        time.sleep(0.5)
    results |= {"left_processes": len(processes_of(os.environ[MARK])), "mib_after_kill": gpu_mib()}
    publish(name, question, results)


def run(
    given: argparse.Namespace,
    *,
    stop_at: int | None = None,
    keep: Callable[[list[dict[str, Any]]], None] | None = None,
) -> list[dict[str, Any]]:
    """One training run in a process of its own, killed after so many steps; returns its steps."""
    os.environ[MARK] = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, __file__, "--train", *sys.argv[1:]], stdout=subprocess.PIPE, text=True
    )
    steps = []
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith('{"step"'):
            steps.append(json.loads(line))
            print(line, end="", flush=True)
            if keep is not None:
                keep(steps)
            if len(steps) == stop_at:
                process.send_signal(signal.SIGKILL)
                break
    process.wait()
    return steps


def train(given: argparse.Namespace) -> None:
    import torch
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from autoj_reward import JudgeReward
    from autoj_reward.engines.checkpoint.embedded import embedded_checkpoint

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
    from common import prompts

    on_gpu = torch.cuda.is_available()
    options: dict[str, Any] = {}
    if on_gpu and given.engine.startswith("vllm"):
        options = {"memory_share": given.memory_share}
        if given.engine == "vllm":
            options["sleep"] = True
    spent = 0.0

    class TimedReward(JudgeReward):
        def __call__(self, *given: Any, **columns: Any) -> Any:
            nonlocal spent
            start = time.perf_counter()
            rewards = super().__call__(*given, **columns)
            spent += time.perf_counter() - start
            return rewards

    reward = TimedReward(given.judge, engine=given.engine, judge_mode="direct", **options)

    class Reporter(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            nonlocal spent
            seconds = time.perf_counter() - self.start
            step = {"step": state.global_step, "seconds": seconds, "judge_seconds": spent, "mib": gpu_mib()}
            print(json.dumps(step), flush=True)
            spent = 0.0

    with_vllm = {"use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": 0.2}
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(str(embedded_checkpoint()), dtype=torch.float32),
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir="runs/gpu_grpo",
            max_steps=given.steps,
            num_generations=given.generations,
            per_device_train_batch_size=given.generations,
            max_completion_length=given.tokens,
            report_to="none",
            save_strategy="no",
            use_cpu=not on_gpu,
            bf16=on_gpu,
            disable_tqdm=True,
            **(with_vllm if given.trl_vllm else {}),
        ),
        train_dataset=prompts(),
        callbacks=[Reporter()],
    )
    reward.attach(trainer)
    trainer.train()
    reward.judge.close()


def gpu_mib() -> int | None:
    """Memory in use on the first GPU; None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    order = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return int(subprocess.run(order, capture_output=True, text=True, check=True).stdout)


def processes_of(mark: str) -> list[int]:
    """Processes of a run that still live, this one left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if int(folder.name) != os.getpid() and f"{MARK}={mark}".encode() in environment:
            found.append(int(folder.name))
    return found


if __name__ == "__main__":
    main()
