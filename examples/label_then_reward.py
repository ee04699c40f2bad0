# SPDX-License-Identifier: Apache-2.0
"""Distil a judge into a scalar reward model: label pairs with margins, then train with RewardTrainer."""

from __future__ import annotations

import torch
from common import options, report, sample, settings
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

from autoj_reward import Judge, LabelSettings, label_dataset


def main() -> None:
    given = options(__doc__)
    with Judge.load(given.judge, engine=given.engine) as judge:
        # Each completion against every worse one, with the margin that the judge sees between them.
        pairs = label_dataset(sample(given, 4), judge, settings=LabelSettings(pairs="all"))
    print(f"{len(pairs)} pairs, margins up to {max(pairs['margin'], default=0.0):.3f}")
    tokenizer = AutoTokenizer.from_pretrained(given.policy)
    model = AutoModelForSequenceClassification.from_pretrained(
        given.policy, num_labels=1, dtype=torch.float32, pad_token_id=tokenizer.pad_token_id
    )
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(**settings(given), per_device_train_batch_size=2),
        processing_class=tokenizer,
        train_dataset=pairs,
    )
    trainer.train()
    report(trainer)


if __name__ == "__main__":
    main()
