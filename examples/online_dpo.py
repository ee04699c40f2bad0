# SPDX-License-Identifier: Apache-2.0
"""OnlineDPO: the judge compares the two completions of each prompt."""

from __future__ import annotations

import os

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

from common import options, policy_model, prompts, report, settings
from transformers import AutoTokenizer
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

from autoj_reward import JudgeReward
from autoj_reward.integrations.trl_callback import JudgmentCallback


def main() -> None:
    given = options(__doc__)
    reward = JudgeReward(given.judge, engine=given.engine, mode="pairwise")
    trainer = OnlineDPOTrainer(
        model=policy_model(given),
        reward_funcs=reward,
        args=OnlineDPOConfig(
            **settings(given), per_device_train_batch_size=2, max_new_tokens=given.max_new_tokens
        ),
        processing_class=AutoTokenizer.from_pretrained(given.policy),
        train_dataset=prompts(),
        callbacks=[JudgmentCallback(reward, every=2)],
    )
    reward.attach(trainer)
    trainer.train()
    report(trainer)


if __name__ == "__main__":
    main()
