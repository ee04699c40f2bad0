# SPDX-License-Identifier: Apache-2.0
"""Read vLLM's outputs."""

from __future__ import annotations

from typing import Any

from autoj_reward.types import Usage


def usage_of(answer: Any) -> Usage:
    """Token counts of a request."""
    return Usage(
        prompt_tokens=len(answer.prompt_token_ids),
        cached_tokens=answer.num_cached_tokens or 0,
        completion_tokens=len(answer.outputs[0].token_ids),
        n_requests=1,
    )


def listed_logprobs(logprobs: Any) -> list[dict[int, float]]:
    """log P(id) of the listed ids at every step, from either of vLLM's two formats."""
    if hasattr(logprobs, "start_indices"):
        spans = zip(logprobs.start_indices, logprobs.end_indices, strict=True)
        return [dict(zip(logprobs.token_ids[a:b], logprobs.logprobs[a:b], strict=True)) for a, b in spans]
    return [{token: known.logprob for token, known in step.items()} for step in logprobs or []]
