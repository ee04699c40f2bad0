# SPDX-License-Identifier: Apache-2.0
"""GRPO with a judge's ratings as the reward."""

from __future__ import annotations

from common import options, policy_model, prompts, report, settings
from trl import GRPOConfig, GRPOTrainer

from autoj_reward import JudgeReward
from autoj_reward.integrations.trl_callback import JudgmentCallback


def main() -> None:
    given = options(__doc__)
    reward = JudgeReward(given.judge, engine=given.engine)
    trainer = GRPOTrainer(
        model=policy_model(given),
        reward_funcs=reward,
        args=GRPOConfig(
            **settings(given),
            num_generations=4,
            per_device_train_batch_size=4,
            max_completion_length=given.max_new_tokens,
        ),
        train_dataset=prompts(),
        callbacks=[JudgmentCallback(reward, every=2)],
    )
    reward.attach(trainer)
    trainer.train()
    report(trainer)


if __name__ == "__main__":
    main()
