# SPDX-License-Identifier: Apache-2.0
"""Check whether an input and its output fit into the model's context."""

from __future__ import annotations

import logging
from typing import Any

from autoj_reward.engines.logprobs.token_tree import TokenTree
from autoj_reward.types import Failure, FailureReason, JudgeInput

logger = logging.getLogger("autoj_reward")

ASSUMED_CONTEXT_TOKENS = 8192
"""Context of a model whose configuration and tokenizer state none."""

_NAMES = (
    "max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length", "n_ctx",
)  # fmt: skip
_UNSTATED = 100_000_000
"""A tokenizer without a limit states 10^30."""


def context_limit(config: Any, tokenizer: Any, model: str) -> int:
    """Most tokens of input and output together.

    From the configuration (its text part), else the tokenizer's `model_max_length`. Recurrent models and some
    with relative positions state none: then it is `ASSUMED_CONTEXT_TOKENS`, with a warning.
    """
    text = config.get_text_config(decoder=True)
    for name in _NAMES:
        stated = getattr(text, name, None)
        if isinstance(stated, int) and stated > 0:
            return stated
    stated = getattr(tokenizer, "model_max_length", None)
    if isinstance(stated, int) and 0 < stated < _UNSTATED:
        return stated
    logger.warning(
        "%s states no context length: assuming %d tokens; set context_tokens if it was trained for another",
        model,
        ASSUMED_CONTEXT_TOKENS,
    )
    return ASSUMED_CONTEXT_TOKENS


def output_room(item: JudgeInput, tree: TokenTree | None) -> int:
    """Tokens needed after an input: its output, or the longest verdict and its terminator."""
    return item.sampling.max_new_tokens if tree is None else tree.longest + 1


def too_long(n_input: int, room: int, context_tokens: int | None) -> Failure | None:
    """The failure of an input that does not fit; None if it fits or the limit is unknown."""
    over = 0 if context_tokens is None else n_input + room - context_tokens
    if over <= 0:
        return None
    return Failure(
        reason=FailureReason.TOO_LONG,
        detail=f"{n_input} input tokens and {room} for the output exceed the context of "
        f"{context_tokens} by {over}",
        overflow_tokens=over,
    )
