# SPDX-License-Identifier: Apache-2.0
"""Win rates of a policy that really trains, against given completions and against itself before training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoj_reward import ConfigError, Judge
from tests.integrations.conftest import PROMPTS
from tests.integrations.test_trainers import COMMON, dataset
from tests.quality import QualityEngine, quality, win_prob

trl = pytest.importorskip("trl", reason="needs TRL: ./setup mini trl")
win_rate = pytest.importorskip("autoj_reward.integrations.trl_win_rate", exc_type=ImportError)

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning"
)
BASELINES = ["q=2", "q=9", "q=5", "mumble"]


def judge() -> Judge:
    return Judge.load("mini", mode="direct", engine=QualityEngine())


def sft(policy: Path, folder: Path, **settings: Any) -> Any:
    """A trainer that takes no reward and replaces its rows by tokens."""
    from datasets import Dataset

    rows = Dataset.from_dict({"text": [f"{prompt} Yes." for prompt in PROMPTS]})
    common = {name: value for name, value in COMMON.items() if name != "temperature"}
    config = trl.SFTConfig(
        output_dir=str(folder), max_length=16, eval_strategy="steps", eval_steps=1, **{**common, **settings}
    )
    return trl.SFTTrainer(model=str(policy), args=config, train_dataset=rows, eval_dataset=rows)


def logged(trainer: Any) -> list[dict[str, float]]:
    return [row for row in trainer.state.log_history if "eval_win_failures" in row]


@pytest.mark.slow
def test_against_a_column(tiny_policy: Path, tmp_path: Path) -> None:
    trainer = sft(tiny_policy, tmp_path, learning_rate=0.1)
    callback = win_rate.WinRateCallback(
        judge(), trainer, dataset=dataset(gold=BASELINES), baseline_column="gold"
    )
    trainer.add_callback(callback)
    trainer.train()
    (row,) = logged(trainer)
    # The policy stays as it was at its last evaluation, and decodes greedily.
    texts = callback._completions()
    wins = [win_prob(quality(t), quality(b)) for t, b in zip(texts[:3], BASELINES, strict=False)]
    assert row["eval_win_failures"] == 0.25
    assert row["eval_win_prob"] == pytest.approx(sum(wins) / 3, abs=1e-4)
    assert row["eval_win_rate"] == pytest.approx(sum(w > 0.5 for w in wins) / 3)


@pytest.mark.slow
def test_against_the_policy_before_training(tiny_policy: Path, tmp_path: Path) -> None:
    """A policy that does not move ties with itself, also in its sampling's place."""
    trainer = sft(tiny_policy, tmp_path, learning_rate=0.0)
    trainer.add_callback(win_rate.WinRateCallback(judge(), trainer, dataset=dataset(), n_prompts=3))
    trainer.evaluate()
    assert logged(trainer) == []
    trainer.train()
    (row,) = logged(trainer)
    assert (row["eval_win_rate"], row["eval_win_prob"], row["eval_win_failures"]) == (0.5, 0.5, 0.0)


def test_what_cannot_be_compared_is_said() -> None:
    rows = dataset(gold=BASELINES)
    trainer = SimpleNamespace(eval_dataset=rows.remove_columns("prompt"), args=SimpleNamespace())
    with pytest.raises(
        ConfigError, match=r"need the columns \['prompt'\], and the evaluation set has \['gold'\]"
    ):
        win_rate.WinRateCallback(judge(), trainer)
    with pytest.raises(ConfigError, match="gold2"):
        win_rate.WinRateCallback(judge(), trainer, dataset=rows, baseline_column="gold2")
    with pytest.raises(ConfigError, match="n_prompts = 0"):
        win_rate.WinRateCallback(judge(), trainer, dataset=rows, n_prompts=0)
    with pytest.raises(ConfigError, match="and the evaluation set has"):
        win_rate.WinRateCallback(judge(), SimpleNamespace(eval_dataset=None, args=SimpleNamespace()))
