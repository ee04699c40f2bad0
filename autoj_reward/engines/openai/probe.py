# SPDX-License-Identifier: Apache-2.0
"""Find out an endpoint's model and capabilities with a few one-token requests."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.engines.openai.connection import EndpointRejected, MalformedResponse, RequestRejected
from autoj_reward.engines.openai.identity import Said, pinned, said_by
from autoj_reward.engines.openai.responses import Answer, by_id, read_chat, read_completion
from autoj_reward.engines.openai.transport import GaveUp
from autoj_reward.errors import ConfigError, EngineContractBroken, EngineUnavailable
from autoj_reward.types import Segment

logger = logging.getLogger("autoj_reward")

T = TypeVar("T")
Ask = Callable[[str, Any, Callable[[Any], Any]], Awaitable[Any]]
"""Takes a path, a JSON body and a parser; returns what the parser makes of the response."""

Api = Literal["completions", "chat", "auto"]

MOST_LISTED = 128
"""vLLM's limit on the number of `logprob_token_ids`."""

_TOPS = (20, 10, 5)
"""Numbers of alternatives to try: chat allows 20, completions often 5."""

_CONTINUES = frozenset({"vllm", "sglang", "llamacpp"})
"""Servers that continue an unfinished assistant turn. Not probed, because others ignore the request and begin
a new turn that looks like a continuation."""

_EXTRAS = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "stop_token_ids": list[int]()}
"""Sampling fields that servers of open models accept, with values that change nothing."""

_NEARLY_GREEDY = 0.01
"""For endpoints that require a temperature above 0."""

_PROBE_TEXT = "The rating of 1 to 10 is [[7]]. 的 é\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """An endpoint's model and what its API supports.

    Attributes:
        model: Name of the model in requests.
        kind: `vllm`, `sglang`, `llamacpp`, or the `owned_by` of the model.
        identity: `root`, `parent` and `meta` of the model's entry in `/models`, as sorted items.
        context_tokens: Limit of input and output together, or None if unknown.
        completions: Whether it has the completions API.
        token_prompts: Whether completions take token ids as a prompt.
        chat: Whether it has the chat API.
        prefix: Whether chat continues an unfinished assistant turn.
        most_listed: Most token ids in `logprob_token_ids`; 0 if not supported.
        top: Most alternatives it lists for a completion's token; 0 for none.
        chat_top: Most alternatives it lists for a chat token; 0 for none.
        extras: Whether it takes `top_k`, `min_p`, `repetition_penalty` and `stop_token_ids`.
        limit_name: Chat's field for the most new tokens.
        least_temperature: Least temperature it takes; None if it takes none but its default.
        listed: Whether it has a list of models.
        answers_as: The model that its responses name, or None.
        system: Their `system_fingerprint`; None without one, or if it does not matter.
    """

    model: str
    kind: str
    identity: tuple[tuple[str, str], ...] = ()
    context_tokens: int | None = None
    completions: bool = False
    token_prompts: bool = False
    chat: bool = False
    prefix: bool = False
    most_listed: int = 0
    top: int = 0
    chat_top: int = 0
    extras: bool = False
    limit_name: str = "max_tokens"
    least_temperature: float | None = 0.0
    listed: bool = False
    answers_as: str | None = None
    system: str | None = None


async def probe(
    ask: Ask,
    *,
    ask_once: Ask,
    url: str,
    model: str | None,
    tokenizer: InjectionSafeTokenizer | None,
    api: Api,
    trusted: bool = False,
) -> Capabilities:
    """Find the model (`model`, or the only one) and the capabilities of one endpoint.

    `ask_once` does not retry. `trusted` means that the user gave the fingerprint.

    Raises:
        ConfigError: It does not serve the model or none of the APIs, its tokenizer is another one, or its
            responses name another model.
        EngineError: It cannot be reached.
    """
    heard: list[Said] = []

    async def ask_and_note(path: str, body: Any, read: Callable[[Any], Any]) -> Any:
        def noted(answer: Any) -> Any:
            value = read(answer)
            heard.append(said_by(answer))
            return value

        return await ask(path, body, noted)

    known = _model_entry(await _if_supported(ask, "/models", None, _read_models), model, url)
    if api in ("completions", "auto"):
        known = await _probe_completions(ask_and_note, known, tokenizer)
    # With token ids, chat is never used.
    if api in ("chat", "auto") and not known.token_prompts:
        known = await _probe_chat(ask_and_note, known)
    if not known.completions and not known.chat:
        wanted = "completions or chat" if api == "auto" else api
        raise ConfigError(
            f"{url} does not answer {wanted} requests for the model {known.model!r}",
            hint="is this the URL of an OpenAI-compatible API, with its /v1?",
        )
    if tokenizer is not None and known.completions:
        await _check_tokenizer(ask_once, known, tokenizer, url)
    return pinned(known, heard, url, trusted=trusted)


async def _if_supported(
    ask: Ask, path: str, body: Any, read: Callable[[Any], T], refusals: list[str] | None = None
) -> T | None:
    """The response, or None if the endpoint does not know the path or refuses the request.

    A refusal's message is appended to `refusals`.
    """
    try:
        answer: T = await ask(path, body, read)
        return answer
    except EndpointRejected as error:
        if refusals is not None:
            refusals.append(error.message)
    except RequestRejected as error:
        if error.status in (401, 402, 403):
            raise
    return None


def _read_models(body: Any) -> list[dict[str, Any]]:
    rows = body.get("data") if isinstance(body, dict) else None
    if not isinstance(rows, list) or not all(
        isinstance(r, dict) and isinstance(r.get("id"), str) for r in rows
    ):
        raise MalformedResponse("no list of models")
    return rows


def _model_entry(rows: list[dict[str, Any]] | None, model: str | None, url: str) -> Capabilities:
    if rows is None:
        if model is None:
            raise ConfigError(f"{url} does not list its models", hint="name one: model=NAME")
        return Capabilities(model=model, kind="unknown")
    names = [row["id"] for row in rows]
    if model is None:
        entry = rows[0] if len(rows) == 1 else None
    else:
        entry = next((r for r in rows if model in (r["id"], r.get("root"))), None)
    if entry is None:
        listed = ", ".join(names[:20]) or "(none)"
        what = "several models, and none is chosen" if model is None else f"no model {model!r}"
        raise ConfigError(f"{url} serves {what}", hint=f"model=NAME, one of: {listed}")
    said = {k: entry[k] for k in ("root", "parent", "meta") if entry.get(k) not in (None, "", {})}
    limit = entry.get("max_model_len")
    meta = entry.get("meta")
    if limit is None and isinstance(meta, dict):
        limit = meta.get("n_ctx")
    kind = str(entry.get("owned_by") or "unknown").lower().replace(".", "")
    return Capabilities(
        model=entry["id"],
        kind=kind,
        identity=tuple(sorted((k, repr(v)) for k, v in said.items())),
        context_tokens=limit if type(limit) is int and limit > 0 else None,
        listed=True,
    )


def served(body: Any, model: str | None, url: str) -> Capabilities:
    """What a response to `/models` says of a model; None for the only one.

    Raises:
        ConfigError: The model is not served.
        MalformedResponse: The response is not a list of models.
    """
    return _model_entry(_read_models(body), model, url)


async def _probe_completions(
    ask: Ask, known: Capabilities, tokenizer: InjectionSafeTokenizer | None
) -> Capabilities:
    """Probe completions at the least temperature that the endpoint accepts."""
    for least in (0.0, _NEARLY_GREEDY, None):
        refusals: list[str] = []
        found = await _completions_at(ask, known, tokenizer, least, refusals)
        if found.completions or not any("temperature" in message.lower() for message in refusals):
            return found
    return known


async def _completions_at(
    ask: Ask,
    known: Capabilities,
    tokenizer: InjectionSafeTokenizer | None,
    least: float | None,
    refusals: list[str],
) -> Capabilities:
    """Ask for every feature at once, as vLLM has them, and then for one after the other."""
    base: dict[str, Any] = {"model": known.model, "max_tokens": 1, "prompt": "1, 2, 3,"}
    base |= {} if least is None else {"temperature": least}
    known = replace(known, least_temperature=least)

    async def answer(**more: Any) -> Answer | None:
        return await _if_supported(ask, "/completions", {**base, **more}, read_completion, refusals)

    if tokenizer is not None:
        ids = tokenizer.encode([Segment("1, 2, 3,")])
        wanted = sorted({*ids, *tokenizer.turn_end_ids})[:4]
        found = await answer(
            prompt=ids,
            logprobs=1,
            logprob_token_ids=wanted,
            allowed_token_ids=wanted,
            return_tokens_as_token_ids=True,
            return_token_ids=True,
            ignore_eos=True,
            **_EXTRAS,
        )
        # A server that ignores these fields lists other tokens.
        if found is not None and found.steps and set(wanted) <= by_id(found.steps[0], {}).keys():
            return replace(
                known, completions=True, token_prompts=True, most_listed=MOST_LISTED, top=1, extras=True
            )
        if await answer(prompt=ids) is not None:
            known = replace(known, completions=True, token_prompts=True)
            base["prompt"] = ids
    if not known.completions:
        if await answer() is None:
            return known
        known = replace(known, completions=True)
    extras = await answer(**_EXTRAS) is not None
    return replace(known, extras=extras, top=await _most_top(lambda top: answer(logprobs=top)))


async def _most_top(answer: Callable[[int], Awaitable[Answer | None]]) -> int:
    """Most alternatives that an endpoint lists for a token."""
    for top in _TOPS:
        if (found := await answer(top)) is not None:
            return top if found.steps and len(found.steps[0].listed) > 1 else 0
    return 0


async def _probe_chat(ask: Ask, known: Capabilities) -> Capabilities:
    base: dict[str, Any] = {"model": known.model, "messages": [{"role": "user", "content": "Say 1."}]}
    refusals: list[str] = []

    async def answer(**more: Any) -> Answer | None:
        return await _if_supported(ask, "/chat/completions", {**base, **more}, read_chat, refusals)

    for name in ("max_tokens", "max_completion_tokens"):
        if await answer(**{name: 1}) is not None:
            known = replace(known, chat=True, limit_name=name)
            base[name] = 1
            break
    if not known.chat:
        return known
    for least in (0.0, _NEARLY_GREEDY):
        refusals.clear()
        if await answer(temperature=least) is not None:
            known = replace(known, least_temperature=least)
            break
        if not any("temperature" in message.lower() for message in refusals):
            break
        known = replace(known, least_temperature=None)
    return replace(
        known,
        extras=known.extras or await answer(**_EXTRAS) is not None,
        chat_top=await _most_top(lambda top: answer(logprobs=True, top_logprobs=top)),
        prefix=known.kind in _CONTINUES,
    )


async def _check_tokenizer(
    ask_once: Ask, known: Capabilities, tokenizer: InjectionSafeTokenizer, url: str
) -> None:
    """Compare with the server's tokenizer, if it has a `/tokenize` route.

    A server without it refuses, and a router in front of one may turn that into HTTP 500 or 502. Neither is
    asked again: the engine is used without the comparison, with a warning.

    Raises:
        ConfigError: They encode a text differently.
    """
    text = {"prompt": _PROBE_TEXT, "content": _PROBE_TEXT}
    body = {"model": known.model, **text, "add_special_tokens": False}
    refusals: list[str] = []
    try:
        theirs = await _if_supported(ask_once, "/../tokenize", body, lambda answer: answer, refusals)
    except (EngineContractBroken, EngineUnavailable, GaveUp) as error:
        theirs = None
        refusals.append(str(error.args[0]))
    tokens = theirs.get("tokens") if isinstance(theirs, dict) else None
    if not isinstance(tokens, list) or not all(type(t) is int for t in tokens):
        logger.warning(
            "%s has no /tokenize route%s: the given tokenizer is not compared with that of the model %r",
            url,
            "".join(f" ({said})" for said in refusals),
            known.model,
        )
        return
    if tokens != tokenizer.encode([Segment(_PROBE_TEXT)]):
        raise ConfigError(
            f"the given tokenizer is not that of the model {known.model!r} at {url}",
            hint="tokenizer=FOLDER or hub name of the served model",
        )
