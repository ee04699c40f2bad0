# SPDX-License-Identifier: Apache-2.0
"""RLOO with two rewards that are awaited together: a judge, and a preference for short answers."""

from __future__ import annotations

from typing import Any

from common import options, policy_model, prompts, report, settings
from trl import RLOOConfig, RLOOTrainer

from autoj_reward import JudgeReward, async_reward


async def brevity(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [-0.002 * len(ids) for ids in completion_ids]


def main() -> None:
    given = options(__doc__)
    reward = JudgeReward(given.judge, engine=given.engine)
    trainer = RLOOTrainer(
        model=policy_model(given),
        reward_funcs=[async_reward(reward), brevity],
        args=RLOOConfig(
            **settings(given),
            num_generations=4,
            per_device_train_batch_size=4,
            max_completion_length=given.max_new_tokens,
        ),
        train_dataset=prompts(),
    )
    reward.attach(trainer)
    trainer.train()
    report(trainer)


if __name__ == "__main__":
    main()
