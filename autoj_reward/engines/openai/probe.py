# SPDX-License-Identifier: Apache-2.0
"""Find out an endpoint's model and capabilities with a few one-token requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.engines.openai.connection import EndpointRejected, MalformedResponse, RequestRejected
from autoj_reward.engines.openai.identity import Said, pinned, said_by
from autoj_reward.engines.openai.responses import Answer, by_id, read_chat, read_completion
from autoj_reward.errors import ConfigError
from autoj_reward.types import Segment

T = TypeVar("T")
Ask = Callable[[str, Any, Callable[[Any], Any]], Awaitable[Any]]
"""Path, JSON body and reader in, what the reader made of the answer out."""

Api = Literal["completions", "chat", "auto"]

MOST_LISTED = 128
"""Most ids of vLLM's `logprob_token_ids`, by its own limit."""

_TOPS = (20, 10, 5)
"""Alternatives to ask for, most first: chat allows 20, completions in many places 5."""

_CONTINUES = frozenset({"vllm", "sglang", "llamacpp"})
"""Kinds of server that continue a begun assistant turn. Others ignore the request, and begin a new turn that
looks like an answer: so this is known, and not tried."""

_EXTRAS = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "stop_token_ids": list[int]()}
"""Sampling fields that servers of open models take, set to what changes nothing."""

_ANSWERS = ("/completions", "/chat/completions")

_NEARLY_GREEDY = 0.01
"""For endpoints that want a temperature above 0."""

_PROBE_TEXT = "The rating of 1 to 10 is [[7]]. 的 é\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an endpoint serves, and what it can do.

    Attributes:
        model: The name under which it is asked.
        kind: `vllm`, `sglang`, `llamacpp`, or the owner that it names for the model.
        identity: What else it says of the model, as sorted items; empty where it says nothing.
        context_tokens: Its limit of input and output together, or None where it does not say.
        completions: Whether it has the completions API.
        token_prompts: Whether completions take token ids as a prompt.
        chat: Whether it has the chat API.
        prefix: Whether chat continues a begun assistant turn.
        most_listed: Most token ids whose log-probabilities it gives by name; 0 for none.
        top: Most alternatives it lists for a completion's token; 0 for none.
        chat_top: Most alternatives it lists for a chat token; 0 for none.
        extras: Whether it takes `top_k`, `min_p`, `repetition_penalty` and `stop_token_ids`.
        limit_name: What chat calls the limit of new tokens.
        least_temperature: 0, or the least it takes in its place; None where it takes none but its own.
        listed: Whether it has a list of models.
        answers_as: The model that its answers name; None where they name none.
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
    url: str,
    model: str | None,
    tokenizer: InjectionSafeTokenizer | None,
    api: Api,
    trusted: bool = False,
) -> Capabilities:
    """What the endpoint behind `ask` serves and can do.

    Args:
        ask: Asks this endpoint.
        url: Its address, for messages.
        model: The name of the model, or None for the only one there.
        tokenizer: The model's, or None.
        api: What may be used; the other API is not tried.
        trusted: Whether the user has said what serves it.

    Raises:
        ConfigError: It does not serve the model, or has none of the APIs, or its tokenizer is another, or its
            answers name another model.
        EngineError: It cannot be asked.
    """
    heard: list[Said] = []

    async def listening(path: str, body: Any, read: Callable[[Any], Any]) -> Any:
        def noted(answer: Any) -> Any:
            value = read(answer)
            heard.append(said_by(answer) if path in _ANSWERS else Said(None, None))
            return value

        return await ask(path, body, noted)

    known = _model_entry(await _if_there(ask, "/models", None, _read_models), model, url)
    if api in ("completions", "auto"):
        known = await _probe_completions(listening, known, tokenizer)
    # With token ids everything goes to completions.
    if api in ("chat", "auto") and not known.token_prompts:
        known = await _probe_chat(listening, known)
    if not known.completions and not known.chat:
        wanted = "completions nor chat" if api == "auto" else api
        raise ConfigError(
            f"{url} answers neither {wanted} for the model {known.model!r}"
            if api == "auto"
            else f"{url} does not answer {wanted} requests for the model {known.model!r}",
            hint="is the address that of an OpenAI-compatible API, with its /v1?",
        )
    if tokenizer is not None and known.completions:
        await _check_tokenizer(ask, known, tokenizer, url)
    return pinned(known, heard, url, trusted=trusted)


async def _if_there(
    ask: Ask, path: str, body: Any, read: Callable[[Any], T], told: list[str] | None = None
) -> T | None:
    """The answer, or None where the endpoint does not know the path or refuses the question.

    Args:
        ask: Asks the endpoint.
        path: As for `ask`.
        body: As for `ask`.
        read: As for `ask`.
        told: Takes the words of a refusal.
    """
    try:
        answer: T = await ask(path, body, read)
    except EndpointRejected as error:
        if told is not None:
            told.append(error.message)
        return None
    except RequestRejected as error:
        if error.status in (401, 402, 403):
            raise
        return None
    return answer


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
            raise ConfigError(f"{url} does not say which models it serves", hint="name one: model=NAME")
        return Capabilities(model=model, kind="unknown")
    names = [row["id"] for row in rows]
    if model is None:
        entry = rows[0] if len(rows) == 1 else None
    else:
        entry = next((r for r in rows if model in (r["id"], r.get("root"))), None)
    if entry is None:
        listed = ", ".join(names[:20]) or "none at all"
        what = "several models; which one is meant?" if model is None else f"no model {model!r}"
        raise ConfigError(f"{url} serves {what}", hint=f"model=NAME; it serves {listed}")
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


def served(body: Any, model: str, url: str) -> Capabilities:
    """What an answer to `/models` says of a model.

    Raises:
        ConfigError: It is not served.
        MalformedResponse: This is not such an answer.
    """
    return _model_entry(_read_models(body), model, url)


async def _probe_completions(
    ask: Ask, known: Capabilities, tokenizer: InjectionSafeTokenizer | None
) -> Capabilities:
    """Ask for all there is, then for less and less; without temperature 0 where that is what is refused."""
    for least in (0.0, _NEARLY_GREEDY, None):
        told: list[str] = []
        found = await _completions_at(ask, known, tokenizer, least, told)
        if found.completions or not any("temperature" in words.lower() for words in told):
            return found
    return known


async def _completions_at(
    ask: Ask,
    known: Capabilities,
    tokenizer: InjectionSafeTokenizer | None,
    least: float | None,
    told: list[str],
) -> Capabilities:
    base: dict[str, Any] = {"model": known.model, "max_tokens": 1, "prompt": "1, 2, 3,"}
    base |= {} if least is None else {"temperature": least}
    known = replace(known, least_temperature=least)

    async def answer(**more: Any) -> Answer | None:
        return await _if_there(ask, "/completions", {**base, **more}, read_completion, told)

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
        # A server that does not know these fields ignores them and lists what it likes.
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
    known = replace(known, extras=await answer(**_EXTRAS) is not None)
    for top in _TOPS:
        found = await answer(logprobs=top)
        if found is not None:
            listed = len(found.steps[0].listed) if found.steps else 0
            return replace(known, top=top if listed > 1 else 0)
    return known


async def _probe_chat(ask: Ask, known: Capabilities) -> Capabilities:
    base: dict[str, Any] = {"model": known.model, "messages": [{"role": "user", "content": "Say 1."}]}

    told: list[str] = []

    async def answer(**more: Any) -> Answer | None:
        return await _if_there(ask, "/chat/completions", {**base, **more}, read_chat, told)

    for name in ("max_tokens", "max_completion_tokens"):
        if await answer(**{name: 1}) is not None:
            known = replace(known, chat=True, limit_name=name)
            base[name] = 1
            break
    if not known.chat:
        return known
    for least in (0.0, _NEARLY_GREEDY):
        told.clear()
        if await answer(temperature=least) is not None:
            known = replace(known, least_temperature=least)
            break
        if not any("temperature" in words.lower() for words in told):
            break
        known = replace(known, least_temperature=None)
    if not known.extras:
        accepted = await answer(**_EXTRAS)
        known = replace(known, extras=accepted is not None)
    for top in _TOPS:
        found = await answer(logprobs=True, top_logprobs=top)
        if found is not None:
            listed = len(found.steps[0].listed) if found.steps else 0
            known = replace(known, chat_top=top if listed > 1 else 0)
            break
    return replace(known, prefix=known.kind in _CONTINUES)


async def _check_tokenizer(
    ask: Ask, known: Capabilities, tokenizer: InjectionSafeTokenizer, url: str
) -> None:
    """Compare with the server's own tokenizer, where it shows it: the wrong one would give nonsense.

    Raises:
        ConfigError: They cut a text differently.
    """
    fields = {
        "model": known.model,
        "prompt": _PROBE_TEXT,
        "content": _PROBE_TEXT,
        "add_special_tokens": False,
    }
    theirs = await _if_there(ask, "/../tokenize", fields, lambda body: body)
    tokens = theirs.get("tokens") if isinstance(theirs, dict) else None
    if not isinstance(tokens, list) or not all(type(t) is int for t in tokens):
        return
    if tokens != tokenizer.encode([Segment(_PROBE_TEXT)]):
        raise ConfigError(
            f"the tokenizer given is not that of the model {known.model!r} at {url}",
            hint="tokenizer=FOLDER or hub name of the model that is served",
        )
