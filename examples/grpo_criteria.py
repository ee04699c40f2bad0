# SPDX-License-Identifier: Apache-2.0
"""GRPO with a rubric of criteria from the data set's column `rubric` as the reward."""

from __future__ import annotations

from common import options, policy_model, prompts, report, settings
from trl import GRPOConfig, GRPOTrainer

from autoj_reward import JudgeReward

# Each prompt may have criteria of its own; these fit all. A weight below 0 is a pitfall.
RUBRIC = [
    {"name": "Answer", "text": "Answers what was asked.", "weight": 3.0},
    {"name": "Short", "text": "Is at most two sentences long.", "weight": 1.0},
    {"name": "Repeats", "text": "Says the same thing again and again.", "weight": -2.0},
]


def main() -> None:
    given = options(__doc__)
    reward = JudgeReward(given.judge, engine=given.engine, rubric_column="rubric")
    dataset = prompts()
    trainer = GRPOTrainer(
        model=policy_model(given),
        reward_funcs=reward,
        args=GRPOConfig(
            **settings(given),
            num_generations=4,
            per_device_train_batch_size=4,
            max_completion_length=given.max_new_tokens,
        ),
        train_dataset=dataset.add_column("rubric", [RUBRIC] * len(dataset)),
    )
    reward.attach(trainer)
    trainer.train()
    report(trainer)


if __name__ == "__main__":
    main()
