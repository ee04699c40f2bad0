# SPDX-License-Identifier: Apache-2.0
"""Parse and validate server responses: text, tokens, log-probabilities. No I/O.

Log-probabilities come in four forms: completions' lists (OpenAI, vLLM, SGLang), the same with `token_id:N`
for each token's text (vLLM, on request), chat's `content` records, and such records with an `id` (llama.cpp,
in both APIs).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoj_reward.engines.logprobs.token_tree import NodeLogprobs, TokenPath, TokenTree, log_sum_exp
from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.engines.openai.connection import MalformedResponse
from autoj_reward.types import FinishReason, Usage

_ID_PREFIX = "token_id:"
_STOP = frozenset(
    {
        "stop", "eos", "eos_token", "eot", "end_turn", "end_of_turn", "stop_sequence", "stop_token",
        "complete", "done",
    }
)  # fmt: skip
_LENGTH = frozenset(
    {
        "length", "max_tokens", "max_output_tokens", "max_completion_tokens", "max_new_tokens", "max_length",
        "model_length", "token_limit", "model_context_window_exceeded", "limit",
    }
)  # fmt: skip
_FAILED = frozenset(
    {
        "content_filter", "content_filtered", "safety", "recitation", "refusal", "blocklist", "spii",
        "prohibited_content", "sensitive", "guardrail_intervened", "error", "abort", "aborted", "cancelled",
        "canceled", "insufficient_system_resource", "tool_calls", "tool_use", "function_call",
        "malformed_function_call",
    }
)  # fmt: skip
_MOST_PROB = 1.01
"""Upper bound of the sum of listed probabilities, with room for rounding."""

_LEAST_LOGPROB = -9000.0
"""Servers write -9999 or the like for the log of 0, because JSON has no infinity."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A listed token with log P; `id` is None if the server gives only its text."""

    text: str
    logprob: float
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A generated token and the listed alternatives, which may include it."""

    chosen: Listed
    listed: tuple[Listed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The choice in a completions or chat response.

    Attributes:
        text: The generated text; empty if the server sent none.
        finish: The server's finish reason.
        token_ids: Ids of the generated tokens, or None.
        steps: Log-probabilities of each generated token; empty if there are none.
        thinking: The reasoning, if the server sent it separately.
        refusal: The refusal message, if the server sent it separately.
        usage: Token counts; 0 for what the server does not count.
    """

    text: str
    finish: str
    token_ids: tuple[int, ...] | None
    steps: tuple[Step, ...]
    thinking: str | None
    refusal: str | None
    usage: Usage


def read_completion(body: Any) -> Answer:
    """Parse a `/completions` response with exactly one choice; raises MalformedResponse."""
    choice = _choice(body)
    return Answer(
        text=_text(choice.get("text"), "text"),
        finish=_finish(choice),
        token_ids=_ids(choice.get("token_ids")),
        steps=_steps(choice.get("logprobs")),
        thinking=_optional(choice.get("reasoning_content") or choice.get("reasoning")),
        refusal=None,
        usage=_usage(body),
    )


def read_chat(body: Any) -> Answer:
    """Parse a `/chat/completions` response with exactly one choice; raises MalformedResponse."""
    choice = _choice(body)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise MalformedResponse("a choice without a message")
    content = message.get("content")
    if isinstance(content, list):
        parts = [p.get("text") for p in content if isinstance(p, dict) and p.get("type") == "text"]
        content = "".join(p for p in parts if isinstance(p, str))
    return Answer(
        text=_text(content if content is not None else "", "content"),
        finish=_finish(choice),
        token_ids=_ids(choice.get("token_ids")),
        steps=_steps(choice.get("logprobs")),
        thinking=_optional(message.get("reasoning_content") or message.get("reasoning")),
        refusal=_optional(message.get("refusal")),
        usage=_usage(body),
    )


def _choice(body: Any) -> dict[str, Any]:
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not all(isinstance(c, dict) for c in choices):
        raise MalformedResponse("no list of choices")
    if len(choices) != 1:
        raise MalformedResponse(f"{len(choices)} choices where one was asked for")
    only: dict[str, Any] = choices[0]
    return only


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise MalformedResponse(f"{name} must be a string")
    return value


def _optional(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _finish(choice: Mapping[str, Any]) -> str:
    finish = choice.get("finish_reason")
    return finish if isinstance(finish, str) else ""


def finish_of(said: str, n_written: int, limit: int | None) -> FinishReason | None:
    """Normalise a server's finish reason; None for a refusal, an error or a tool call.

    A missing or unknown reason counts as `length` if at least `limit` tokens were written, else as `stop`.
    """
    word = said.strip().lower().replace("-", "_").removeprefix("finish_reason_")
    if word in _FAILED:
        return None
    if word in _LENGTH:
        return "length"
    return "length" if word not in _STOP and limit is not None and n_written >= limit else "stop"


def _ids(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(v) is int and v >= 0 for v in value):
        raise MalformedResponse("token_ids must be a list of integers")
    return tuple(value)


def _usage(body: Mapping[str, Any]) -> Usage:
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return Usage(n_requests=1)
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        cached_tokens=_count(cached),
        completion_tokens=_count(usage.get("completion_tokens")),
        n_requests=1,
    )


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


def _steps(logprobs: Any) -> tuple[Step, ...]:
    if logprobs is None:
        return ()
    if not isinstance(logprobs, dict):
        raise MalformedResponse("logprobs must be an object")
    content = logprobs.get("content")
    if isinstance(content, list):
        return tuple(_record_step(record) for record in content)
    tokens: Any = logprobs.get("tokens")
    chosen: Any = logprobs.get("token_logprobs")
    top: Any = logprobs.get("top_logprobs")
    if tokens is None:
        return ()
    if not isinstance(tokens, list):
        raise MalformedResponse("tokens must be a list")
    top = top if top is not None else [None] * len(tokens)
    if not all(isinstance(x, list) for x in (tokens, chosen, top)) or not (
        len(tokens) == len(chosen) == len(top)
    ):
        raise MalformedResponse("tokens, token_logprobs and top_logprobs must be lists of equal length")
    return tuple(
        _possible(Step(_listed(token, logprob), tuple(_listed(t, p) for t, p in (others or {}).items())))
        for token, logprob, others in zip(tokens, chosen, top, strict=True)
    )


def _record_step(record: Any) -> Step:
    if not isinstance(record, dict):
        raise MalformedResponse("a token's log-probabilities must be an object")
    top = record.get("top_logprobs") or []
    if not isinstance(top, list):
        raise MalformedResponse("top_logprobs must be a list")
    return _possible(Step(_record(record), tuple(_record(other) for other in top)))


def _possible(step: Step) -> Step:
    """The step, if its listed probabilities add up to no more than 1."""
    total = math.fsum(math.exp(token.logprob) for token in distinct(step.listed))
    if not total <= _MOST_PROB:
        raise MalformedResponse(f"the listed tokens' probabilities add up to {total:.3g}, more than 1")
    return step


def distinct(listed: Sequence[Listed]) -> list[Listed]:
    """Listed tokens without duplicates: by id, or by text and probability.

    Two tokens of equal text and different probabilities are different tokens.
    """
    return list({(t.id, t.text, None if t.id is not None else t.logprob): t for t in listed}.values())


def _record(record: Any) -> Listed:
    if not isinstance(record, dict):
        raise MalformedResponse("a token's log-probabilities must be an object")
    listed = _listed(record.get("token"), record.get("logprob"))
    known = record.get("id")
    return Listed(listed.text, listed.logprob, known) if type(known) is int else listed


def _listed(token: Any, logprob: Any) -> Listed:
    if not isinstance(token, str) or isinstance(logprob, bool) or not isinstance(logprob, int | float):
        raise MalformedResponse("a token without its text or its log-probability")
    # A little above 0 is rounding. The comparison also refuses NaN.
    if not logprob <= 0.01:
        raise MalformedResponse(f"{logprob!r} is not a log-probability")
    value = -math.inf if logprob < _LEAST_LOGPROB else min(float(logprob), 0.0)
    digits = token.removeprefix(_ID_PREFIX)
    named = token.startswith(_ID_PREFIX) and digits.isascii() and digits.isdigit()
    return Listed(token, value, int(digits) if named else None)


def by_id(step: Step, names: Mapping[str, int]) -> dict[int, float]:
    """log P of the listed tokens whose ids are known, from the server or by text in `names`."""
    found: dict[int, float] = {}
    for token in distinct(step.listed):
        known = token.id if token.id is not None else names.get(token.text)
        if known is not None:
            both = [token.logprob, found[known]] if known in found else [token.logprob]
            found[known] = log_sum_exp(both)
    chosen = step.chosen.id if step.chosen.id is not None else names.get(step.chosen.text)
    if chosen is not None:
        # It may also be listed.
        found.setdefault(chosen, step.chosen.logprob)
    return found


def token_names(tokenizer: InjectionSafeTokenizer, ids: Sequence[int]) -> dict[str, int]:
    """Ids by the texts under which servers list tokens: decoded alone, or as in the vocabulary.

    A text that two of the ids share is left out, so that it counts as unlisted.
    """
    names: dict[str, int] = {}
    shared: set[str] = set()
    for token in ids:
        for name in {str(tokenizer.hf.decode([token])), str(tokenizer.hf.convert_ids_to_tokens(token))}:
            if names.setdefault(name, token) != token:
                shared.add(name)
    return {name: token for name, token in names.items() if name not in shared}


def top_node_reading(tree: TokenTree, node: TokenPath, step: Step, names: Mapping[str, int]) -> NodeLogprobs:
    """Read a node of the token tree from a list of the most probable tokens.

    Unlisted tokens are bounded twice: none is more probable than the least listed one, and all together have
    at most the rest of the probability.
    """
    known = by_id(step, names)
    wanted = tree.wanted(node)
    n_missing = sum(i not in known for i in wanted)
    ends = [known[i] for i in tree.terminators if i in known]
    return NodeLogprobs(
        children={i: known[i] for i in tree.children[node] if i in known},
        end=log_sum_exp(ends) if tree.ends(node) else None,
        unlisted_prob=unlisted_prob(step, n_missing),
    )


def unlisted_prob(step: Step, n_missing: float = math.inf) -> float:
    """Upper bound of the probability of `n_missing` tokens that a step does not list, in [0, 1]."""
    if n_missing == 0:
        return 0.0
    probs = [math.exp(token.logprob) for token in distinct(step.listed)]
    if not probs:
        return 1.0
    rest = max(0.0, 1.0 - math.fsum(probs))
    return min(rest, n_missing * min(probs))
