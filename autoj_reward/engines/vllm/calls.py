# SPDX-License-Identifier: Apache-2.0
"""Call vLLM with token ids, and translate its errors and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoj_reward.engines.vllm.private import abort_requests, engine_dead_error
from autoj_reward.errors import EngineContractBroken, EngineRejected, EngineUnavailable
from autoj_reward.types import Usage

Asked = tuple[list[int], Any]
"""Token ids of a request, and its `vllm.SamplingParams`."""


def ask(llm: Any, asked: Sequence[Asked], adapter: Any) -> list[Any]:
    """One vLLM call; returns its outputs in order.

    Raises:
        EngineUnavailable: vLLM's engine process died.
        EngineRejected: vLLM refused the requests.
        EngineContractBroken: It returned another number of outputs.
    """
    if not asked:
        return []
    try:
        answers: list[Any] = llm.generate(
            [{"prompt_token_ids": ids} for ids, _ in asked],
            [parameters for _, parameters in asked],
            use_tqdm=False,
            lora_request=adapter,
        )
    except engine_dead_error() as error:
        raise EngineUnavailable(
            "vLLM's engine process ended",
            hint="see vLLM's messages above; if it ran out of memory, lower memory_share; then create a new "
            "engine",
        ) from error
    except Exception as error:
        abort_requests(llm)
        raise EngineRejected(f"vLLM refused a request: {error}") from error
    except BaseException:
        # Otherwise they would be among the outputs of the next call.
        abort_requests(llm)
        raise
    if len(answers) != len(asked):
        raise EngineContractBroken(f"vLLM returned {len(answers)} outputs for {len(asked)} requests")
    return answers


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
