# SPDX-License-Identifier: Apache-2.0
"""One of two processes of a run: `two_ranks.py WHAT FOLDER [POLICY]` writes what it saw to FOLDER/RANK.json."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from accelerate import PartialState

from autoj_reward import Failure, FailureReason, Judge, JudgeReward, testing
from autoj_reward.engines import Engine
from autoj_reward.types import JudgeInput
from tests.quality import QualityEngine

QUALITIES = [[("P", 2), ("P", 3), ("Q", 8)], [("P", 5), ("Q", 6), ("P", 2), ("P", 7)]]
"""What each rank has: both prompts' groups are split, unevenly."""


def wins(engine: Engine, **options: Any) -> JudgeReward:
    judge = Judge.load("mini", mode="direct", engine=engine)
    return JudgeReward(judge, **{"mode": "pairwise", "scale": "unit", "resolution": 0, **options})


def judge_alone(rank: int) -> dict[str, Any]:
    engine = QualityEngine()
    mine = QUALITIES[rank]
    reward = wins(engine)
    rewards = reward([p for p, _ in mine], [f"q={q}" for _, q in mine])
    (report,) = reward.take_reports()
    return {
        "rewards": rewards,
        "asked": [list(texts) for texts in engine.asked],
        "most": max(engine.asked.values(), default=0),
        "incomplete": report.metrics["incomplete_groups"],
    }


def rate_with_a_failure(rank: int) -> dict[str, Any]:
    reward = wins(QualityEngine(), mode="rating", scale="raw")
    completions = [["q=4", "q=6"], ["mumble", "q=2"]][rank]
    return {"rewards": reward(["P", "P"], completions)}


def fail_on_rank_1(rank: int) -> dict[str, Any]:
    """Rank 0 is busy for much longer than rank 1 takes to fail."""
    answered = []

    def read(item: JudgeInput) -> Failure:
        time.sleep(120.0)
        answered.append(item)
        return Failure(reason=FailureReason.ENGINE, detail="too late")

    engine = QualityEngine(dies="q=") if rank == 1 else testing.ScriptedEngine(read=read)
    try:
        wins(engine)(["P"] * 4, [f"q={q + 4 * rank}" for q in range(1, 5)])
    except Exception as error:
        return {
            "error": type(error).__name__,
            "message": str(error),
            "notes": getattr(error, "__notes__", []),
            "answered": len(answered),
        }
    return {"error": None}


def fail_before_judging(rank: int) -> dict[str, Any]:
    """Rank 1's completions cannot be laid out."""
    try:
        wins(QualityEngine())(["P"], ["q=1"] if rank == 0 else [[{"role": "tool", "content": "q=2"}]])
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {"error": None}


def train(rank: int) -> dict[str, Any]:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    engine = QualityEngine()
    reward = wins(engine)
    trainer = GRPOTrainer(
        model=sys.argv[3],
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=sys.argv[2], num_generations=4, per_device_train_batch_size=2, max_steps=1,
            max_completion_length=6, use_cpu=True, bf16=False, report_to="none", save_strategy="no",
            logging_steps=1, temperature=1.0, disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"prompt": ["Name a prime.", "Say hello."]}),
    )  # fmt: skip
    reward.attach(trainer)
    trainer.train()
    (report,) = reward.take_reports()
    return {
        "rewards": list(trainer._logs["rewards"]["judge_pairwise"]),
        "completions": list(trainer._logs["completion"]),
        "local": len(report.rows),
        "incomplete": report.metrics["incomplete_groups"],
        "asked": [list(texts) for texts in engine.asked],
        "most": max(engine.asked.values(), default=0),
    }


def main() -> None:
    state = PartialState(cpu=True)
    what = globals()[sys.argv[1]]
    seen = what(state.process_index)
    Path(sys.argv[2], f"{state.process_index}.json").write_text(json.dumps(seen), encoding="utf-8")
    # Also after an error, which both ranks know of by now: a group left behind may abort the interpreter's end.
    state.destroy_process_group()


if __name__ == "__main__":
    main()
