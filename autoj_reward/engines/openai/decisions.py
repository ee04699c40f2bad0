# SPDX-License-Identifier: Apache-2.0
"""Judge with a decision endpoint (`/v1/decisions` of OpenAI, vLLM from 0.33, SGLang, or our reward server).

Each direct verdict is one question about the filled template; the answer has its probabilities. The endpoint
writes no text, so critiques need another engine.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from autoj_reward.engines.checkpoint.fingerprint import digest_of
from autoj_reward.engines.openai.connection import EndpointRejected, MalformedResponse
from autoj_reward.engines.openai.decision_questions import question_of, reading_of
from autoj_reward.engines.openai.errors import refusal
from autoj_reward.engines.openai.event_loop import LoopThread, run_all
from autoj_reward.engines.openai.identity import IdentityWatch
from autoj_reward.engines.openai.messages import plain_text
from autoj_reward.engines.openai.probe import Capabilities, served
from autoj_reward.engines.openai.retry import RetryPolicy
from autoj_reward.engines.openai.settings import api_key_or_default, endpoint_urls
from autoj_reward.engines.openai.transport import GaveUp, Transport
from autoj_reward.errors import ConfigError, EngineRejected
from autoj_reward.identity import library_versions
from autoj_reward.types import ChatWrapper, Failure, FailureReason, JudgeInput, JudgeOutput, Usage


@dataclass(frozen=True, slots=True)
class _Live:
    """The open connection of one process."""

    pid: int
    loop: LoopThread
    transport: Transport
    known: Capabilities
    watch: IdentityWatch


class DecisionEngine:
    """Reads verdicts from a decision endpoint. Nothing is sent before the first use.

    Thread-safe; a copy by pickle connects when it is first used.

    Args:
        endpoints: One or several URLs, `http://host:8000`, with or without `/v1`; all serve one model.
        model: The name the server knows; None for the only one it lists.
        concurrency: Most requests in flight at once.
        timeout_seconds: Most seconds of one attempt at a request.
        attempts: Most failed attempts at one request.
        retry_seconds: Most seconds of one request with all its attempts and waits.
        api_key: Sent as a bearer token; by default as of `ServerEngine`.
        api_key_env: Name of another environment variable that holds the key.
        allow_plain_http: Whether `api_key` may go over plain http to another machine.
        fingerprint: Identity of the served model; None derives one from the URLs and the list of models.

    Raises:
        ConfigError: A setting is wrong.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str],
        *,
        model: str | None = None,
        concurrency: int = 64,
        timeout_seconds: float = 120.0,
        attempts: int = 8,
        retry_seconds: float = 600.0,
        api_key: str | None = None,
        api_key_env: str | None = None,
        allow_plain_http: bool = False,
        fingerprint: str | None = None,
    ) -> None:
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, not {concurrency}")
        self.endpoints = endpoint_urls(endpoints)
        self.model_name = model
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
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self._live: _Live | None = None
        self._connecting = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_live", "_connecting")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    @property
    def fingerprint(self) -> str:
        if self._fingerprint is None:
            self.connect()
        assert self._fingerprint is not None
        return self._fingerprint

    def connect(self) -> Capabilities:
        """Ask the endpoints for their model now, not at the first use.

        Raises:
            ConfigError: They do not serve the model, or serve different ones.
            EngineError: One does not answer, or refuses.
        """
        return self._connected().known

    def describe(self) -> dict[str, Any]:
        """What the endpoint has said of itself so far; see `DescribedEngine.describe`."""
        return {
            "engine": "decisions",
            "fingerprint": self._fingerprint,
            "model": self.model_name,
            "source": ", ".join(self.endpoints),
            "facts": None if self._live is None else self._facts(self._live.known),
            "versions": library_versions("httpx"),
        }

    def close(self) -> None:
        """Close all connections. A second call does nothing."""
        with self._connecting:
            self._closed = True
            live, self._live = self._live, None
        if live is not None and live.pid == os.getpid():
            live.loop.stop()

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Answer every input; see `Engine.generate`.

        Raises:
            EngineRejected: An input asks for text, or a verdict set is too large for a question.
            EngineChanged: The server now serves another model than at first.
        """
        if any(item.readout is None for item in inputs):
            raise EngineRejected(
                "a decision endpoint writes no text", hint="--mode direct, or --engine server:URL"
            )
        if not inputs:
            return []
        live = self._connected()
        bodies = [self._body(item, live.known.model) for item in inputs]

        def work() -> Iterator[tuple[int, Any]]:
            for i, (item, body) in enumerate(zip(inputs, bodies, strict=True)):
                yield i, _decide(live.transport, item, body)

        results: list[Any] = [None] * len(inputs)
        for i, answer in live.loop.run(run_all(work(), at_once=self._concurrency)):
            results[i] = answer
        live.loop.run(live.watch.confirm())
        return results

    def _body(self, item: JudgeInput, model: str) -> dict[str, Any]:
        assert item.readout is not None
        system = item.wrapper.system if isinstance(item.wrapper, ChatWrapper) else None
        text = plain_text(item.body)
        return {
            "model": model,
            "input": f"{system}\n\n{text}" if system else text,
            "questions": [question_of(item.readout)],
        }

    def _connected(self) -> _Live:
        if self._live is not None and self._live.pid != os.getpid():
            # After a fork: the parent's thread and connections are left alone.
            self._reset()
        with self._connecting:
            if self._closed:
                raise EngineRejected("the engine is closed")
            if self._live is None:
                self._live = self._make_live()
            return self._live

    def _make_live(self) -> _Live:
        key = self._key()
        loop = LoopThread("autoj-reward-decisions")

        async def start() -> tuple[Transport, Capabilities]:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            transport = Transport(
                self.endpoints, policy=self._policy, concurrency=self._concurrency, headers=headers
            )
            loop.at_end.append(transport.close)
            found = []
            for endpoint in transport.endpoints:
                read = functools.partial(served, model=self.model_name, url=endpoint.url)
                found.append(await transport.ask_one(endpoint, "/models", None, read, self._policy))
                endpoint.admitted = True
            if len({(known.model, known.identity) for known in found}) > 1:
                raise ConfigError("the endpoints serve different models", hint="name one: model=NAME")
            return transport, found[0]

        try:
            transport, known = loop.run(start())
        except BaseException:
            loop.stop()
            raise
        self.model_name = known.model
        if self._fingerprint is None:
            self._fingerprint = digest_of(self._facts(known))
        watch = IdentityWatch(transport, known, lambda body, url: served(body, known.model, url))
        return _Live(os.getpid(), loop, transport, known, watch)

    def _facts(self, known: Capabilities) -> dict[str, Any]:
        return {
            "engine": "decisions",
            "endpoints": sorted(self.endpoints),
            "served model": known.model,
            "server says": dict(known.identity),
        }


async def _decide(transport: Transport, item: JudgeInput, body: dict[str, Any]) -> JudgeOutput | Failure:
    query = item.readout
    assert query is not None

    def read(answer: Any) -> JudgeOutput:
        answers = answer.get("answers") if isinstance(answer, dict) else None
        if not isinstance(answers, list) or len(answers) != 1:
            raise MalformedResponse("not one answer to one question")
        return JudgeOutput(
            text="",
            finish_reason="read",
            reading=reading_of(query, answers[0]),
            usage=_usage(answer.get("usage")),
        )

    try:
        return await transport.ask("/decisions", body, read)
    except EndpointRejected as error:
        return refusal(error, len(body["input"]), None)
    except GaveUp as error:
        return Failure(reason=FailureReason.ENGINE, detail=str(error))


def _usage(usage: Any) -> Usage:
    def count(value: Any) -> int:
        return value if type(value) is int and value > 0 else 0

    given = usage if isinstance(usage, dict) else {}
    details = given.get("input_tokens_details")
    return Usage(
        prompt_tokens=count(given.get("input_tokens")),
        cached_tokens=count(details.get("cached_tokens") if isinstance(details, dict) else None),
        completion_tokens=count(given.get("output_tokens")),
        n_requests=1,
    )
