# SPDX-License-Identifier: Apache-2.0
"""Judge with any OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp or a hosted API.

With the model's tokenizer, inputs are sent as token ids: special tokens in untrusted text stay text, and
verdicts are read exactly if the server gives log-probabilities of chosen ids (vLLM), otherwise from its most
probable tokens. Without the tokenizer, text or chat messages are sent. Endpoints without log-probabilities
give point distributions, marked as such.
"""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoj_reward.engines.checkpoint.embedded import resolve_model
from autoj_reward.engines.checkpoint.fingerprint import digest_of
from autoj_reward.engines.logprobs.context import output_room, too_long
from autoj_reward.engines.logprobs.token_tree import TokenTree, token_tree
from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.engines.openai.calls import ServerCalls
from autoj_reward.engines.openai.connect import connect_all
from autoj_reward.engines.openai.event_loop import LoopThread, run_all
from autoj_reward.engines.openai.identity import IdentityWatch
from autoj_reward.engines.openai.probe import Api, Capabilities, served
from autoj_reward.engines.openai.retry import RetryPolicy
from autoj_reward.engines.openai.settings import api_key_or_default, endpoint_urls, load_tokenizer
from autoj_reward.engines.openai.transport import Transport
from autoj_reward.errors import ConfigError, EngineRejected
from autoj_reward.identity import library_versions, template_id
from autoj_reward.types import Failure, JudgeInput, JudgeOutput


@dataclass(frozen=True, slots=True)
class _Live:
    """The open connection of one process; never pickled or used after a fork."""

    pid: int
    loop: LoopThread
    transport: Transport
    calls: ServerCalls
    watch: IdentityWatch


class ServerEngine:
    """A model behind an OpenAI-compatible API. Nothing is sent before `connect` or the first use.

    Thread-safe, with or without an event loop in the calling thread. A pickle holds the settings, the key if
    `api_key` gave one, and what was found out about the endpoints; its copy connects when it is first used.

    Args:
        endpoints: One or several URLs, `http://host:8000`, with or without `/v1`; all serve one model. Each
            request goes to the least busy one, and a retry to another one than the last.
        model: The name the server knows; None for the only one it serves.
        tokenizer: Folder or hub name of the model's tokenizer, or the embedded model's name. None sends
            text, with special tokens broken up in untrusted parts.
        revision: Hub revision of the tokenizer.
        context_tokens: Most tokens of input and output together; None takes what the server says.
        api: completions, chat, or auto: completions if the endpoint has them, else chat.
        concurrency: Most requests in flight at once, over all threads.
        timeout_seconds: Most seconds of one attempt at a request, to the last byte of its response.
        attempts: Most failed attempts at one request. 408, 425, 429, and 503 with `Retry-After`, do not
            count.
        retry_seconds: Most seconds of one request with all its attempts and waits.
        api_key: Sent as a bearer token; None takes $AUTOJ_REWARD_API_KEY, or $OPENAI_API_KEY if every
            endpoint is https or on this machine.
        api_key_env: Name of another environment variable that holds the key; it is sent to any endpoint.
        allow_plain_http: Whether `api_key` may go over plain http to another machine.
        fingerprint: Identity of the served model; equal fingerprints mean exchangeable outputs. None derives
            one from the URLs and what the server says of itself, so two URLs never share cached outputs.

    Raises:
        ConfigError: A setting is wrong, or the tokenizer cannot be loaded.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str],
        *,
        model: str | None = None,
        tokenizer: str | None = None,
        revision: str | None = None,
        context_tokens: int | None = None,
        api: Api = "auto",
        concurrency: int = 64,
        timeout_seconds: float = 120.0,
        attempts: int = 8,
        retry_seconds: float = 600.0,
        api_key: str | None = None,
        api_key_env: str | None = None,
        allow_plain_http: bool = False,
        fingerprint: str | None = None,
    ) -> None:
        self.endpoints = endpoint_urls(endpoints)
        if api not in ("completions", "chat", "auto"):
            raise ConfigError(f"api must be completions, chat or auto, not {api!r}")
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, not {concurrency}")
        self.model_name = model
        self.context_tokens = context_tokens
        self._tokenizer_name = None if tokenizer in (None, "none") else tokenizer
        self._revision = revision
        self._api: Api = api
        self._concurrency = concurrency
        self._policy = RetryPolicy(
            attempts=attempts, timeout_seconds=timeout_seconds, retry_seconds=retry_seconds
        )
        self._key = functools.partial(
            api_key_or_default,
            api_key,
            self.endpoints,
            variable=api_key_env,
            allow_plain_http=allow_plain_http,
        )
        self._key()
        self._fingerprint = fingerprint
        self._is_given = fingerprint is not None
        self._known: Capabilities | None = None
        self._closed = False
        self._reset()
        self.tokenizer = self._load_tokenizer()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._live: _Live | None = None
        self._connecting = threading.Lock()

    def _load_tokenizer(self) -> InjectionSafeTokenizer | None:
        if self._tokenizer_name is None or self._api == "chat":
            return None
        return load_tokenizer(resolve_model(self._tokenizer_name), self._revision)

    def __getstate__(self) -> dict[str, Any]:
        left_out = {"_pid", "_live", "_connecting", "tokenizer", "_abandoned"}
        return {k: v for k, v in self.__dict__.items() if k not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()
        self.tokenizer = self._load_tokenizer()

    @property
    def fingerprint(self) -> str:
        if self._fingerprint is None:
            self._connected()
        assert self._fingerprint is not None
        return self._fingerprint

    @property
    def counts(self) -> Counter[str]:
        """Requests and failures since connecting: `requests`, `retried: KIND`, `gave up: KIND`."""
        return Counter() if self._live is None else Counter(self._live.transport.counts)

    def connect(self) -> Capabilities:
        """Probe the endpoints for their model and capabilities now, not at the first use.

        Raises:
            ConfigError: They do not serve the model, or differ, or the tokenizer is not the model's.
            EngineUnavailable: None of them answers.
            EngineRejected: They refuse, or the engine is closed.
        """
        return self._connected().calls.known

    def close(self) -> None:
        """Close all connections; running calls end with an error. A second call does nothing."""
        with self._connecting:
            self._closed = True
            live, self._live = self._live, None
        if live is not None and live.pid == os.getpid():
            live.loop.stop()

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Answer every input; see `Engine.generate`.

        Inputs with token ids are sent in their order, so that a server's prefix cache serves neighbours with
        a common beginning.

        Raises:
            EngineChanged: The server now serves another model than at first.
        """
        if self._closed:
            raise EngineRejected("the engine is closed")
        if not inputs:
            return []
        live = self._connected()
        results: list[JudgeOutput | Failure | None] = [None] * len(inputs)
        rows: list[tuple[int, list[int] | None, TokenTree | None]] = []
        for i, item in enumerate(inputs):
            if live.calls.route(item) != "ids":
                rows.append((i, None, None))
                continue
            assert self.tokenizer is not None
            ids = self.tokenizer.encode_input(item)
            tree = None if item.readout is None else token_tree(item.readout, self.tokenizer)
            if failure := too_long(len(ids), output_room(item, tree), self.context_tokens):
                results[i] = failure
            else:
                rows.append((i, ids, tree))
        rows.sort(key=lambda row: row[1] or [])

        def work() -> Iterator[tuple[int, Any]]:
            for i, ids, tree in rows:
                yield i, live.calls.answer(inputs[i], ids, tree)

        for i, answer in live.loop.run(run_all(work(), at_once=self._concurrency)):
            results[i] = answer
        live.loop.run(live.watch.confirm())
        return [r for r in results if r is not None]

    def _connected(self) -> _Live:
        if self._pid != os.getpid():
            # After a fork: closing the parent's thread and connections here would disturb it.
            self._abandoned = self._live
            self._reset()
        with self._connecting:
            if self._closed:
                raise EngineRejected("the engine is closed")
            if self._live is None:
                self._live = self._make_live()
            return self._live

    def _make_live(self) -> _Live:
        key = self._key()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        loop = LoopThread("autoj-reward-server")

        async def start() -> tuple[Transport, Capabilities]:
            transport = Transport(
                self.endpoints, policy=self._policy, concurrency=self._concurrency, headers=headers
            )
            loop.at_end.append(transport.close)
            known = await connect_all(
                transport,
                model=self.model_name,
                tokenizer=self.tokenizer,
                api=self._api,
                before=self._known,
                trusted=self._is_given,
            )
            return transport, known

        try:
            transport, known = loop.run(start())
        except BaseException:
            loop.stop()
            raise
        self._known, self.model_name = known, known.model
        limits = [n for n in (self.context_tokens, known.context_tokens) if n is not None]
        self.context_tokens = min(limits, default=None)
        if self._fingerprint is None:
            self._fingerprint = digest_of(self._facts(known))
        calls = ServerCalls(transport, known, self.tokenizer)
        watch = IdentityWatch(transport, known, lambda body, url: served(body, known.model, url))
        return _Live(os.getpid(), loop, transport, calls, watch)

    def describe(self) -> dict[str, Any]:
        """What the server has said of itself so far; see `DescribedEngine.describe`."""
        known = self._known
        return {
            "engine": "server",
            "fingerprint": self._fingerprint,
            "model": self.model_name,
            "source": ", ".join(self.endpoints),
            "facts": None if known is None else self._facts(known),
            "context_tokens": self.context_tokens,
            "chat_template": None if self.tokenizer is None else template_id(self.tokenizer.hf),
            "versions": library_versions("httpx", "transformers"),
        }

    def _facts(self, known: Capabilities) -> dict[str, Any]:
        """What the outputs depend on: the server's model, and the way it is asked."""
        if self._is_given:
            return {"engine": "server", "given": self._fingerprint, "served model": known.model}
        return {
            "engine": "server",
            "endpoints": sorted(self.endpoints),
            "served model": known.model,
            "server says": dict(known.identity),
            "answers as": known.answers_as,
            "system fingerprint": known.system,
            # Other ways of asking give other numbers.
            "abilities": repr(
                replace(known, model="", identity=(), context_tokens=None, answers_as=None, system=None)
            ),
            "tokenizer": None if self.tokenizer is None else _tokenizer_hash(self.tokenizer),
        }


def _tokenizer_hash(tokenizer: InjectionSafeTokenizer) -> str:
    """Hash of the vocabulary, the chat template and the tokens that end a turn."""
    hf = tokenizer.hf
    layout = [
        hf.backend_tokenizer.to_str(), repr(hf.chat_template), repr(sorted(hf.special_tokens_map.items())),
        repr(sorted(tokenizer.turn_end_ids)),
    ]  # fmt: skip
    return hashlib.sha256("\0".join(layout).encode("utf-8", "surrogatepass")).hexdigest()[:32]
