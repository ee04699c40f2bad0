# SPDX-License-Identifier: Apache-2.0
"""Tiny models that were taught to go on in a few given ways, with the chat template of a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.engines.tokenizers import whole_ten

_STEPS = 60
PROMPT, COMPLETION = "Name a prime.", "7 is one."
BODY = f"Q: {PROMPT}\nA: {COMPLETION}\nRate it."

JUDGE = """
name = "taught"
model = "{model}"
min_mass = 1e-6
[wrapper]
kind = "chat"
{wrapper}
[sampling]
max_new_tokens = {max_new_tokens}
{thinking}
[rating]
template = "short"
text = "Q: {{prompt}}\\nA: {{completion}}\\nRate it."
verdict_prefix = "Rating: [["
scale = {{ low = 1, high = 9, step = 1 }}
"""


def tokenizer(template: Any, special: Sequence[str] = (), *, eos: str = "</s>") -> Any:
    """A byte-level tokenizer with a chat template, and with special tokens besides its own few."""
    backend = whole_ten()
    backend.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    backend.add_special_tokens([AddedToken(token, special=True) for token in special])
    hf: Any = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token=eos)
    hf.chat_template = template
    return hf


def teach(folder: Path, hf: Any, continuations: Mapping[str, int]) -> Path:
    """A checkpoint of a model that goes on after the judge's input in these ways.

    Args:
        folder: Where to.
        hf: Its tokenizer, with a chat template.
        continuations: What it writes right after the rendered input, special tokens and all, and how often it
            is shown that. Cut into tokens piece by piece at `¦`.
    """
    hf.save_pretrained(folder)
    asked = hf.apply_chat_template(
        [{"role": "user", "content": BODY}], tokenize=False, add_generation_prompt=True
    )
    rows = [
        [i for piece in (asked + text).split("¦") for i in hf(piece, add_special_tokens=False)["input_ids"]]
        for text in continuations
    ]
    begin = len(hf(asked, add_special_tokens=False)["input_ids"])
    width = max(map(len, rows))
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(hf),
            hidden_size=128,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            bos_token_id=hf.bos_token_id,
            eos_token_id=hf.eos_token_id,
        )
    )
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    labels = torch.tensor([[-100] * begin + r[begin:] + [-100] * (width - len(r)) for r in rows])
    times = list(continuations.values())
    pick = torch.tensor([i for i, n in enumerate(times) for _ in range(n)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(_STEPS):
        loss = model(input_ids=ids[pick], labels=labels[pick]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.02:
            break
    model.save_pretrained(folder)
    return folder


def judge_file(model: Path, *, thinking: str = "", wrapper: str = "", max_new_tokens: int = 64) -> str:
    """A judge of a taught model, as a TOML file beside it."""
    path = model / "judge.toml"
    text = JUDGE.format(model=model, thinking=thinking, wrapper=wrapper, max_new_tokens=max_new_tokens)
    path.write_text(text, encoding="utf-8")
    return str(path)
