# SPDX-License-Identifier: Apache-2.0
"""Label pairs with a judge's ratings, then train on them with DPO."""

from __future__ import annotations

from common import PROMPTS, options, policy_model, report, sample, settings
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer

from autoj_reward import Judge, label_dataset


def main() -> None:
    given = options(__doc__)
    with Judge.load(given.judge, engine=given.engine) as judge:
        # Of each prompt the best completion against the worst; equal ratings, and equal texts, make no pair.
        pairs = label_dataset(sample(given, 4), judge)
    print(f"{len(pairs)} pairs of {len(PROMPTS)} prompts")
    trainer = DPOTrainer(
        model=policy_model(given),
        args=DPOConfig(**settings(given), per_device_train_batch_size=2),
        processing_class=AutoTokenizer.from_pretrained(given.policy),
        train_dataset=pairs,
    )
    trainer.train()
    report(trainer)


if __name__ == "__main__":
    main()
