# SPDX-License-Identifier: Apache-2.0
"""Real trainers on a policy that is small enough for a step to take no time."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

PROMPTS = ["Name a prime.", "Say hello.", "What is rain?", "Count to three."]


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer Llama and the embedded judge's tokenizer."""
    for package in ("trl", "torch"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: ./setup mini trl")
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from autoj_reward.engines.checkpoint.embedded import embedded_checkpoint

    folder = tmp_path_factory.mktemp("policy")
    tokenizer = AutoTokenizer.from_pretrained(embedded_checkpoint())
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
