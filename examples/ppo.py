# SPDX-License-Identifier: Apache-2.0
"""PPO with a judge as the reward model. PPOTrainer left TRL after 1.12: install the `ppo` extra."""

from __future__ import annotations

import os

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

from typing import Any

from common import options, policy_model, prompts, report, settings
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from autoj_reward import JudgeReward
from autoj_reward.integrations.trl_ppo import JudgeRewardModel, ppo_classes


def main() -> None:
    given = options(__doc__)
    config_class, trainer_class = ppo_classes()
    tokenizer = AutoTokenizer.from_pretrained(given.policy, padding_side="left")

    def encoded(row: dict[str, Any]) -> dict[str, Any]:
        text = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
        return {"input_ids": tokenizer(text, add_special_tokens=False)["input_ids"]}

    rows = prompts().map(encoded)
    reward = JudgeReward(given.judge, engine=given.engine, trainer="ppo")
    trainer = trainer_class(
        args=config_class(
            **settings(given),
            per_device_train_batch_size=4,
            gradient_accumulation_steps=1,
            num_mini_batches=1,
            num_ppo_epochs=1,
            total_episodes=4 * given.steps,
            response_length=given.max_new_tokens,
            stop_token="eos",
            num_sample_generations=0,
        ),
        processing_class=tokenizer,
        model=policy_model(given),
        ref_model=policy_model(given),
        reward_model=JudgeRewardModel(reward, tokenizer, rows),
        value_model=AutoModelForSequenceClassification.from_pretrained(given.policy, num_labels=1),
        train_dataset=rows.select_columns("input_ids"),
    )
    trainer.train()
    report(trainer)


if __name__ == "__main__":
    main()
