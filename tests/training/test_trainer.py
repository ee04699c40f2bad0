# SPDX-License-Identifier: Apache-2.0
"""The loss, against the plain one over a whole batch with a mask."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig

from autoj_reward.judge.presets import load_spec
from autoj_reward.training.config import TrainConfig
from autoj_reward.training.data import IGNORED
from autoj_reward.training.trainer import VerdictTrainer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")]


def test_the_loss_is_that_of_a_masked_batch(config: TrainConfig, tmp_path: Path) -> None:
    """Rows of different lengths, padded on the right: no mask is given, and none is missed."""
    folder = load_spec(config.judge).model
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(task_type="CAUSAL_LM"))
    rng = torch.Generator().manual_seed(0)
    rows = [torch.randint(5, 60, (n,), generator=rng).tolist() for n in (7, 19, 12)]
    examples = [{"input_ids": row, "labels": [IGNORED] * (len(row) - 3) + row[-3:]} for row in rows]
    trainer = VerdictTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(tmp_path),
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            use_cpu=True,
            bf16=False,
            report_to="none",
        ),
        train_dataset=_dataset(examples),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    batch = trainer.data_collator(examples)
    assert (batch["attention_mask"] == 0).any()
    plain = model(**batch).loss
    torch.testing.assert_close(trainer.compute_loss(model, batch), plain)


def _dataset(examples: list[dict[str, list[int]]]) -> object:
    from datasets import Dataset

    return Dataset.from_list(examples)
