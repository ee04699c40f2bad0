# SPDX-License-Identifier: Apache-2.0
"""Compute logits in float32 where a model's weights have 16 bits.

In bfloat16 a logit between 16 and 32 is a multiple of 1/8, which moves a probability of 0.5 by up to 3%. The
weights and hidden states stay as they are: only their products are no longer rounded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

_ROWS = 16384
"""Rows of the weight that are converted at a time."""


def plain_head(model: Any) -> torch.nn.Linear | None:
    """A model's output layer if its weights have 16 bits and are not quantised, else None."""
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear) or head.weight.is_meta:
        return None
    return head if head.weight.dtype in (torch.bfloat16, torch.float16) else None


def head_dtype(model: Any) -> str:
    """What logits are computed in: `float32`, or the model's dtype if its output layer is of another kind."""
    own = str(model.dtype).removeprefix("torch.")
    return own if plain_head(model) is None else "float32"


@contextlib.contextmanager
def float32_logits(model: Any, n: int) -> Iterator[None]:
    """Let forward passes return float32 logits, of the last `n` columns alone."""
    head = plain_head(model)
    if head is None:
        yield
        return

    def again(_: Any, inputs: tuple[torch.Tensor, ...], __: torch.Tensor) -> torch.Tensor:
        hidden = inputs[0][:, -n:].float()
        with torch.autocast(hidden.device.type, enabled=False):
            n_tokens = len(head.weight)
            logits = hidden.new_empty(*hidden.shape[:-1], n_tokens)
            for start in range(0, n_tokens, _ROWS):
                own = slice(start, start + _ROWS)
                logits[..., own] = hidden @ head.weight[own].float().T
            return logits if head.bias is None else logits.add_(head.bias)

    handle = head.register_forward_hook(again)
    try:
        yield
    finally:
        handle.remove()
