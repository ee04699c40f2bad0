# SPDX-License-Identifier: Apache-2.0
"""GRPO with a LoRA policy; the reward is each completion's chance to win against others of its group."""

from __future__ import annotations

from common import options, policy_model, prompts, report, settings
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

from autoj_reward import JudgeReward


def main() -> None:
    given = options(__doc__)
    reward = JudgeReward(given.judge, engine=given.engine, mode="pairwise", schedule="ring")
    trainer = GRPOTrainer(
        model=policy_model(given),
        reward_funcs=reward,
        args=GRPOConfig(
            **{**settings(given), "learning_rate": 1e-4},
            num_generations=4,
            per_device_train_batch_size=4,
            max_completion_length=given.max_new_tokens,
        ),
        train_dataset=prompts(),
        peft_config=LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    reward.attach(trainer)
    trainer.train()
    report(trainer)


if __name__ == "__main__":
    main()
