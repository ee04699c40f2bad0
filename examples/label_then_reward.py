# SPDX-License-Identifier: Apache-2.0
"""Distil a judge into a scalar reward model: label pairs with margins, then train with RewardTrainer."""

from __future__ import annotations

from itertools import pairwise

import torch
from common import PROMPTS, options, report, sample, settings
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

from autoj_reward import Judge, rank


def main() -> None:
    given = options(__doc__)
    groups = sample(given, PROMPTS, 4)
    rows = []
    with Judge.load(given.judge, engine=given.engine) as judge:
        for prompt, group, ranking in zip(PROMPTS, groups, rank(judge, PROMPTS, groups), strict=True):
            judged = [(c.reward, group[c.index]) for c in ranking.candidates if c.reward is not None]
            # Every better one against the next worse one, as far apart as the judge has them.
            for (above, chosen), (below, rejected) in pairwise(judged):
                if above > below:
                    rows.append(
                        {
                            "prompt": [{"role": "user", "content": prompt}],
                            "chosen": [{"role": "assistant", "content": chosen}],
                            "rejected": [{"role": "assistant", "content": rejected}],
                            "margin": above - below,
                        }
                    )
    print(f"{len(rows)} pairs, margins up to {max((r['margin'] for r in rows), default=0.0):.3f}")
    tokenizer = AutoTokenizer.from_pretrained(given.policy)
    model = AutoModelForSequenceClassification.from_pretrained(
        given.policy, num_labels=1, dtype=torch.float32, pad_token_id=tokenizer.pad_token_id
    )
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(**settings(given), per_device_train_batch_size=2),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows),
    )
    trainer.train()
    report(trainer)


if __name__ == "__main__":
    main()
