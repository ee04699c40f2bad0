# SPDX-License-Identifier: Apache-2.0
"""The examples train: real optimizer steps of SmolLM2-135M, with the embedded judge's rewards in the log."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autoj_reward.integrations.trl_trainer import has_ppo
from tests.conftest import REPO

pytest.importorskip("trl", reason="needs TRL: ./setup mini trl")

pytestmark = pytest.mark.slow
HAS_PPO = has_ppo()

SHOWN = {
    "grpo_rating": ["judge_rating/failure_share", "rewards/judge_rating/mean"],
    "grpo_criteria": ["judge_rating/failure_share", "rewards/judge_rating/mean"],
    "grpo_pairwise_lora": ["judge_pairwise/flat_group_share", "rewards/judge_pairwise/mean"],
    "rloo": ["rewards/judge_rating/mean", "rewards/brevity/mean"],
    "online_dpo": ["judge_pairwise/coin_for_failures", "rewards/margins"],
    "label_then_dpo": ["rewards/margins"],
    "label_then_reward": ["loss"],
    "ppo": ["objective/scores"],
}  # fmt: skip


def run(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REPO / "examples" / f"{name}.py"), "--steps", "2", "--max-new-tokens", "12",
         "-o", str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")])},
        cwd=folder, capture_output=True, text=True, check=False, timeout=800,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.ppo) if n == "ppo" else n for n in SHOWN],
)
def test_examples_train(name: str, tmp_path: Path) -> None:
    if name == "ppo" and not HAS_PPO:
        pytest.skip("needs TRL 1.12 with PPOTrainer: tests/ppo_env")
    done = run(name, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    steps = re.findall(r"^step (\d+):  (.*)$", done.stdout, re.MULTILINE)
    assert {int(step) for step, _ in steps} >= {1, 2}
    logged = " ".join(text for _, text in steps)
    for metric in SHOWN[name]:
        assert f"{metric} " in logged, done.stdout[-2000:]


@pytest.mark.skipif(HAS_PPO, reason="this TRL has PPOTrainer")
def test_the_ppo_example_names_the_extra(tmp_path: Path) -> None:
    done = run("ppo", tmp_path)
    assert done.returncode != 0
    assert "autoj-reward[ppo]" in done.stderr


def test_every_training_example_is_here() -> None:
    written = {
        p.stem for p in (REPO / "examples").glob("*.py") if re.search(r"grpo|rloo|dpo|ppo|reward", p.stem)
    }
    assert written == set(SHOWN)
