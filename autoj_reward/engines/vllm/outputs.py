# SPDX-License-Identifier: Apache-2.0
"""Read vLLM's outputs."""

from __future__ import annotations

from collections.abc import Iterator
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


def listed_logprobs(logprobs: Any) -> Iterator[dict[int, float]]:
    """log P(id) of the listed ids at every step, from either of vLLM's two formats; made as they are used."""
    if hasattr(logprobs, "start_indices"):
        for a, b in zip(logprobs.start_indices, logprobs.end_indices, strict=True):
            yield dict(zip(logprobs.token_ids[a:b], logprobs.logprobs[a:b], strict=True))
    else:
        for step in logprobs or []:
            yield {token: known.logprob for token, known in step.items()}
