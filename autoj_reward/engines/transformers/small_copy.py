# SPDX-License-Identifier: Apache-2.0
"""Build a small random copy of a model's architecture, whose attention can be tested within 40 tokens."""

from __future__ import annotations

import copy
import re
from typing import Any

import torch

CUT = 16
"""Tokens to which windows, chunks and the like are cut."""

N_TOKENS = 61
"""Vocabulary of the copy."""

TRIED = ("sdpa", "eager", None)
"""Attention implementations that run on a CPU; the copy uses the first if the model has another."""

_MOST_PARAMETERS = 40_000_000
_MOST_KINDS = 8

_REACHES = re.compile(
    r"window(_size)?$|chunk(_size)?$|^local_attention|attention_block_size|index_topk$"
    r"|(^|_)original_max_position_embeddings$|^block_size$|^floor_scale$"
)
"""Settings for how far a layer sees, or from which length a model computes differently."""

_INDEXES = re.compile(r"layers|idx|indic")
"""Names of lists of layer indexes, such as the layers with experts."""

_SIZES = {
    "intermediate_size": 64, "intermediate_size_mlp": 64, "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32, "ffn_dim": 64, "n_inner": 64, "q_lora_rank": 32,
    "kv_lora_rank": 32, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "vocab_size": N_TOKENS, "vocab_size_per_layer_input": N_TOKENS,
}  # fmt: skip
"""Upper bounds of sizes that do not change how tokens attend to each other."""


class CannotShrink(Exception):
    """This module cannot make the configuration small."""


def small_copy(model: Any) -> tuple[Any, int | None]:
    """A model of the same class, on the CPU in float32, with few and small layers and random weights.

    Its layers are the first of each kind, at least two. torch's random state is unchanged.

    Args:
        model: A `transformers` model.

    Returns:
        The copy, and the number of tokens up to which the real model's windows and the like (`CUT` in the
        copy) have no effect; None if it has none.

    Raises:
        CannotShrink: The copy would not be small.
    """
    config, reach = _small_config(model.config)
    if getattr(config, "_attn_implementation", None) not in TRIED:
        config._attn_implementation = TRIED[0]
    cls: Any = type(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with torch.device("meta"):
            n = sum(p.numel() for p in cls(copy.deepcopy(config)).parameters())
        if n > _MOST_PARAMETERS:
            raise CannotShrink(f"the copy would have {n:,} parameters")
        small = cls(config).float().eval()
        with torch.no_grad():
            for parameter in small.parameters():
                # Large weights, so that masks matter.
                if parameter.dim() > 1:
                    parameter.normal_(std=2.0 / parameter.shape[-1] ** 0.5)
    return small, reach


def _small_config(config: Any) -> tuple[Any, int | None]:
    whole = copy.deepcopy(config)
    text = whole.get_text_config(decoder=True)
    for name in getattr(whole, "sub_configs", None) or {}:
        other = getattr(whole, name, None)
        if other is not None and other is not text and getattr(other, "num_hidden_layers", None):
            other.num_hidden_layers = 1
            if hasattr(other, "intermediate_size"):
                other.intermediate_size = 64
    if hasattr(whole, "quantization_config"):
        del whole.quantization_config
    _cut_layers(text)
    _cut_heads(text)
    for name, size in _SIZES.items():
        value = getattr(text, name, None)
        if isinstance(value, int) and value > size:
            setattr(text, name, size)
    whole.pad_token_id = text.pad_token_id = None
    return whole, _cut_reaches(text)


def _cut_layers(text: Any) -> None:
    """Keep the first layer of each kind, and at least two layers."""
    n = text.num_hidden_layers
    lists = {k: list(v) for k, v in vars(text).items() if isinstance(v, list | tuple) and v}
    numbers = {k: v for k, v in lists.items() if _INDEXES.search(k) and _are_indexes(v, n)}
    each = {k: v for k, v in lists.items() if k not in numbers and len(v) == n}
    kinds: dict[Any, int] = {}
    for i in range(n):
        own = [repr(v[i]) for v in each.values()] + [str(i in v) for v in numbers.values()]
        kinds.setdefault(tuple(own), i)
    kept = sorted(kinds.values())
    if len(kept) > _MOST_KINDS:
        raise CannotShrink(f"its layers are of {len(kept)} kinds")
    if len(kept) == 1:
        kept = list(range(min(n, 2)))
    text.num_hidden_layers = len(kept)
    for name, values in each.items():
        setattr(text, name, [values[i] for i in kept])
    for name, values in numbers.items():
        setattr(text, name, [kept.index(i) for i in values if i in kept])


def _are_indexes(values: list[Any], n: int) -> bool:
    rising = all(isinstance(v, int) for v in values) and sorted(set(values)) == values
    return rising and values[-1] < n and (len(values) < n or values == list(range(n)))


def _cut_heads(text: Any) -> None:
    """Fewer heads of the same size, so that rotary settings still fit them."""
    heads = getattr(text, "num_attention_heads", None)
    if not isinstance(heads, int):
        if all(isinstance(getattr(text, name, None), int) for name in ("num_heads", "head_dim", "expand")):
            text.num_heads, text.n_groups = 4, 1  # as in Mamba 2
            text.hidden_size = 4 * text.head_dim // text.expand
        return
    own = getattr(text, "num_key_value_heads", None)
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    groups = min(own if isinstance(own, int) else heads, 2)
    each = 1 if not isinstance(own, int) or own == heads else 2
    text.num_attention_heads = groups * each
    if isinstance(own, int):
        text.num_key_value_heads = groups
    text.hidden_size = groups * each * size


def _cut_reaches(text: Any) -> int | None:
    cut: list[int] = []
    for holder in _holders(text):
        names = list(holder) if isinstance(holder, dict) else list(vars(holder))
        for name in names:
            value = holder[name] if isinstance(holder, dict) else getattr(holder, name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 1 and _REACHES.search(name):
                cut.append(value)
                _put(holder, name, CUT)
        # Depends on the input's length beyond the trained length.
        if isinstance(holder, dict) and holder.get("rope_type") == "dynamic":
            cut.append(text.max_position_embeddings)
            text.max_position_embeddings = CUT
    return min(cut, default=None)


def _holders(text: Any) -> list[Any]:
    """The configuration and its dictionaries, which hold rotary settings by kind of layer."""
    found: list[Any] = [text]
    for value in vars(text).values():
        if isinstance(value, dict):
            found += [value, *(v for v in value.values() if isinstance(v, dict))]
    return found


def _put(holder: Any, name: str, value: int) -> None:
    if isinstance(holder, dict):
        holder[name] = value
    else:
        setattr(holder, name, value)
