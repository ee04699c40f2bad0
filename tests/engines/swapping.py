# SPDX-License-Identifier: Apache-2.0
"""Tiny judges on disk, and ways to change them under a cache."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from autoj_reward.judge.judge import Judge
from tests.engines.tokenizers import CHAT_TEMPLATE, whole_ten

ROWS = (("Name a prime.", "7 is a prime."), ("What is 2 + 2?", "It is 4."))
_VOCABULARY = 5000
"""Large enough for a weights file of more than 1 MiB, whose hash is remembered."""


def save_judge(folder: Path, *, seed: int = 0) -> Path:
    """A random model of two layers with a tokenizer, as a checkpoint of about 1.3 MB."""
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=_backend(), bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    _model(seed).save_pretrained(folder)
    return folder


@functools.cache
def _backend() -> Any:
    return whole_ten()


def _model(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=_VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            bos_token_id=1,
            eos_token_id=2,
            initializer_range=0.4,
        )
    )


def save_adapter(folder: Path, base: Path, *, seed: int) -> Path:
    """A random LoRA adapter that names its base."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    model: Any = LlamaForCausalLM.from_pretrained(base)
    get_peft_model(model, config).save_pretrained(folder)
    return folder


def in_place(path: Path, content: bytes, *, keep_times: bool) -> None:
    """Overwrite a file as `tar x` or `cp -p` do: the same inode, and with `keep_times` the same time."""
    before = path.stat()
    with open(path, "r+b") as file:
        file.write(content)
        file.truncate()
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swap_weights(folder: Path, seed: int, *, keep_times: bool) -> None:
    """Other weights of the same size."""
    other = folder.parent / f"{folder.name}.other"
    _model(seed).save_pretrained(other)
    content = (other / "model.safetensors").read_bytes()
    in_place(folder / "model.safetensors", content, keep_times=keep_times)
    shutil.rmtree(other)


def swap_adapter(folder: Path, base: Path, seed: int, *, keep_times: bool) -> None:
    """Another adapter of the same size."""
    other = save_adapter(folder.parent / f"{folder.name}.other", base, seed=seed)
    content = (other / "adapter_model.safetensors").read_bytes()
    in_place(folder / "adapter_model.safetensors", content, keep_times=keep_times)
    shutil.rmtree(other)


def swap_tokenizer(folder: Path, n: int, *, keep_times: bool) -> None:
    """One merge fewer in the tokenizer, so that texts are cut differently."""
    path = folder / "tokenizer.json"
    layout = json.loads(path.read_text(encoding="utf-8"))
    merges = layout["model"]["merges"]
    merges.pop(n % len(merges))
    in_place(path, json.dumps(layout).encode(), keep_times=keep_times)


def swap_chat_template(folder: Path, n: int, *, keep_times: bool) -> None:
    """Other words in the checkpoint's chat template."""
    path = folder / "chat_template.jinja"
    changed = CHAT_TEMPLATE.replace("<|im_end|>", f" [{n}]<|im_end|>", 1)
    in_place(path, changed.encode(), keep_times=keep_times)


def ratings(model: Path, **options: Any) -> list[float | None]:
    """Expected ratings of `ROWS` by a judge that is made for this call alone."""
    return rated(lambda: Judge.load(str(model), **how(**options)))


def rated(make: Callable[[], Judge]) -> list[float | None]:
    """Expected ratings of `ROWS`."""
    prompts, completions = zip(*ROWS, strict=True)
    with make() as judge:
        return [j.expected_rating for j in judge.rate(list(prompts), list(completions))]


def how(**options: Any) -> dict[str, Any]:
    """Keyword arguments of `Judge.load` for a random model: any reading counts."""
    return {
        "engine": "transformers", "mode": "direct", "dtype": "float32", "device": "cpu", "min_mass": 1e-12,
        **options,
    }  # fmt: skip
