# SPDX-License-Identifier: Apache-2.0
"""Run forward passes of a `transformers` model, and pick a verdict tree's log-probabilities."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from autoj_reward.engines.logprobs.token_tree import NodeLogprobs, TokenPath, TokenTree
from autoj_reward.engines.transformers.head import float32_logits


def last_logprobs(model: Any, n: int, **inputs: Any) -> torch.Tensor:
    """log P(next token) at the last `n` columns of a forward pass.

    Args:
        model: A causal language model of `transformers`.
        n: Number of columns, at least 1.
        **inputs: For the model's `forward`.

    Returns:
        float32 of shape (rows, n, vocabulary).
    """
    known = inspect.signature(plain_model(model).forward).parameters
    if "logits_to_keep" in known:
        inputs["logits_to_keep"] = n
    if "use_cache" not in known:
        inputs.pop("use_cache", None)
    reset_growing_rotations(model)
    with float32_logits(plain_model(model), n):
        logits: torch.Tensor = model(**inputs).logits[:, -n:].float()
    # Not log_softmax: on a CPU it sums sequentially in float32, which loses 5e-5 of the mass.
    return logits - torch.logsumexp(logits, dim=-1, keepdim=True)


def left_padded(rows: Sequence[Sequence[int]], pad: int, device: Any) -> dict[str, torch.Tensor]:
    """Keyword arguments of `forward` for rows as `generate` pads them: on the left, with mask and positions.

    Rows of equal length get neither.
    """
    width = max(len(ids) for ids in rows)
    tokens = torch.tensor([[pad] * (width - len(ids)) + list(ids) for ids in rows], device=device)
    if all(len(ids) == width for ids in rows):
        return {"input_ids": tokens}
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in rows], device=device)
    positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
    return {"input_ids": tokens, "attention_mask": mask, "position_ids": positions}


def picked(tree: TokenTree, nodes: Sequence[TokenPath], logprobs: torch.Tensor) -> list[NodeLogprobs]:
    """The log-probabilities that the tree needs at each of `nodes`, which may repeat.

    `logprobs` is log P(next token) at each of them, of shape (nodes, vocabulary).
    """
    # Only the needed columns are copied from the device.
    wanted = sorted({token for children in tree.children.values() for token in children})
    column = {token: n for n, token in enumerate(wanted)}
    values = logprobs[:, wanted].tolist()
    ends = torch.logsumexp(logprobs[:, list(tree.terminators)], dim=-1).tolist()
    return [
        NodeLogprobs(
            children={token: own[column[token]] for token in tree.children[node]},
            end=end if tree.ends(node) else None,
        )
        for node, own, end in zip(nodes, values, ends, strict=True)
    ]


def plain_model(model: Any) -> Any:
    """The model inside a PEFT wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def reset_growing_rotations(model: Any) -> None:
    """Make "dynamic" rotary scaling depend on the current input only.

    `transformers` keeps the frequencies of the longest input so far, so results would depend on earlier
    inputs.
    """
    for module in model.modules():
        if getattr(module, "rope_type", None) == "dynamic" and hasattr(module, "max_seq_len_cached"):
            module.max_seq_len_cached = 0


class FindsNaN:
    """A logits processor that records the rows with NaN logits and leaves the others unchanged."""

    def __init__(self, n_rows: int) -> None:
        self.found = [False] * n_rows

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        broken = scores.isnan().any(dim=-1)
        if not bool(broken.any()):
            return scores
        self.found = [old or new for old, new in zip(self.found, broken.tolist(), strict=True)]
        return scores.masked_fill(broken[:, None], 0.0)
