# SPDX-License-Identifier: Apache-2.0
"""Label pairs with a judge's ratings, then train on them with DPO."""

from __future__ import annotations

from common import PROMPTS, options, policy_model, report, sample, settings
from datasets import Dataset
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer

from autoj_reward import Judge, rank


def main() -> None:
    given = options(__doc__)
    groups = sample(given, PROMPTS, 4)
    rows = []
    with Judge.load(given.judge, engine=given.engine) as judge:
        for prompt, group, ranking in zip(PROMPTS, groups, rank(judge, PROMPTS, groups), strict=True):
            judged = [c for c in ranking.candidates if c.reward is not None]
            # Equal ratings, and equal texts, make no pair.
            if len(judged) > 1 and judged[0].reward != judged[-1].reward:
                rows.append(
                    {
                        "prompt": [{"role": "user", "content": prompt}],
                        "chosen": [{"role": "assistant", "content": group[judged[0].index]}],
                        "rejected": [{"role": "assistant", "content": group[judged[-1].index]}],
                    }
                )
    print(f"{len(rows)} pairs of {len(PROMPTS)} prompts")
    trainer = DPOTrainer(
        model=policy_model(given),
        args=DPOConfig(**settings(given), per_device_train_batch_size=2),
        processing_class=AutoTokenizer.from_pretrained(given.policy),
        train_dataset=Dataset.from_list(rows),
    )
    trainer.train()
    report(trainer)


if __name__ == "__main__":
    main()
