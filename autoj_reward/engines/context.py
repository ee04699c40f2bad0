# SPDX-License-Identifier: Apache-2.0
"""Whether an input and what follows it fit a model's context."""

from __future__ import annotations

from autoj_reward.engines.readout import TokenTree
from autoj_reward.types import Failure, FailureReason, JudgeInput


def output_room(item: JudgeInput, tree: TokenTree | None) -> int:
    """Tokens that must be free after an input: its output, or the longest verdict and its end."""
    return item.sampling.max_new_tokens if tree is None else max(len(path) for path in tree.paths) + 1


def too_long(n_input: int, room: int, context_tokens: int | None) -> Failure | None:
    """The failure of an input that does not fit, or None where it fits or nobody knows a limit."""
    over = 0 if context_tokens is None else n_input + room - context_tokens
    if over <= 0:
        return None
    return Failure(
        reason=FailureReason.TOO_LONG,
        detail=f"{n_input} input tokens and {room} for the output exceed the context of "
        f"{context_tokens} by {over}",
        overflow_tokens=over,
    )
