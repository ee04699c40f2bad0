# SPDX-License-Identifier: Apache-2.0
"""Requests to one or several endpoints: balanced, retried, bounded in time. Everything runs in one loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from autoj_reward.engines.server_retry import Breaker, RetryPolicy, retry_after_seconds, status_verdict
from autoj_reward.errors import EngineContractBroken, EngineRejected, EngineUnavailable

logger = logging.getLogger("autoj_reward")

T = TypeVar("T")

_MOST_BYTES = 64 << 20
"""Of one body: a server gone mad must not fill this process's memory."""

_LONGEST_CONNECT_SECONDS = 10.0


class Malformed(Exception):
    """A body is not what the protocol says; asked again, because proxies and restarts do that."""


class Refused(Exception):
    """The endpoint refused one request, for good.

    Attributes:
        status: HTTP status.
        message: The endpoint's own words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status
        self.message = message


class Rejected(EngineRejected):
    """The endpoint refuses all requests of this kind.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, status: int, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class GaveUp(Exception):
    """One request had no answer after all attempts, though others had."""


class _Again(Exception):
    """An attempt failed in a way that another may not.

    Args:
        kind: A few words, counted in `Transport.counts`.
        detail: What happened.
        wait_seconds: What the endpoint asked to be spared, or None.
        busy: Whether the endpoint is alive and only wants us to wait.
    """

    def __init__(
        self, kind: str, detail: str, *, wait_seconds: float | None = None, busy: bool = False
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.wait_seconds = wait_seconds
        self.busy = busy


@dataclass(slots=True, eq=False)
class Endpoint:
    """One server, and how it has been doing.

    Attributes:
        url: Its address, up to and with the API's version: `http://host:port/v1`.
        in_flight: Requests under way.
        paused_until: Loop time before which it asked not to be asked.
        admitted: Whether it has been looked at, and serves what the others serve.
    """

    url: str
    breaker: Breaker = field(default_factory=Breaker)
    in_flight: int = 0
    paused_until: float = 0.0
    admitted: bool = False

    def ready_in(self, now: float) -> float | None:
        """Seconds until it may be asked; None while a trial request decides that."""
        ready = self.breaker.ready_in(now)
        return None if ready is None else max(ready, self.paused_until - now, 0.0)


class Transport:
    """Sends JSON and reads JSON.

    Args:
        urls: Endpoints' addresses, at least one.
        policy: How patient a request is.
        concurrency: Most requests under way at once.
        headers: Sent with every request.
    """

    def __init__(
        self, urls: Sequence[str], *, policy: RetryPolicy, concurrency: int, headers: dict[str, str]
    ) -> None:
        self.endpoints = [Endpoint(url) for url in urls]
        self.policy = policy
        self.counts: Counter[str] = Counter()
        """What happened so far: `requests`, and `retried: KIND`, `gave up: KIND`, `left alone`."""
        self.background: list[asyncio.Task[None]] = []
        """Tasks that live as long as the transport."""
        self._slots = asyncio.Semaphore(concurrency)
        self._changed = asyncio.Event()
        self._answered_at = -1.0
        # A proxy from the environment has nothing to do with servers on this machine.
        on_this_machine = all(httpx.URL(u).host in ("localhost", "127.0.0.1", "::1") for u in urls)
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(
                None, connect=min(policy.timeout_seconds, _LONGEST_CONNECT_SECONDS), pool=None
            ),
            # Servers commonly close after 5 idle seconds; a little less avoids meeting them at it.
            limits=httpx.Limits(
                max_connections=concurrency, max_keepalive_connections=concurrency, keepalive_expiry=4.0
            ),
            trust_env=not on_this_machine,
        )

    async def close(self) -> None:
        """Close every connection, and end the background."""
        for task in self.background:
            task.cancel()
        await asyncio.gather(*self.background, return_exceptions=True)
        await self._client.aclose()

    async def ask(self, path: str, body: Any, read: Callable[[Any], T]) -> T:
        """What `read` makes of an endpoint's answer.

        Args:
            path: After the endpoint's address.
            body: Sent as JSON.
            read: Checks and reads a JSON value; raises `Malformed`, and then the request is retried.

        Raises:
            Refused: The endpoint refused this request.
            GaveUp: No attempt was answered; other requests were.
            EngineUnavailable: No attempt was answered, and nothing else was.
            EngineContractBroken: Answers came, none of them of the right shape.
            EngineRejected: The endpoint refuses all requests.
        """
        content = json.dumps(body).encode()
        # Held while waiting too: an overloaded server is not sent other requests in the meantime.
        async with self._slots:
            return await self._persist(path, content, read, None, self.policy)

    async def ask_one(
        self, endpoint: Endpoint, path: str, body: Any, read: Callable[[Any], T], policy: RetryPolicy
    ) -> T:
        """`ask` of one endpoint, admitted or not, outside the bound on requests.

        Args:
            endpoint: The one.
            path: After its address; `/../` leads to its root.
            body: Sent as JSON with POST; None sends a GET.
            read: As for `ask`.
            policy: How patient this request is.
        """
        content = None if body is None else json.dumps(body).encode()
        return await self._persist(path, content, read, endpoint, policy)

    async def _persist(
        self,
        path: str,
        content: bytes | None,
        read: Callable[[Any], T],
        only: Endpoint | None,
        policy: RetryPolicy,
    ) -> T:
        loop = asyncio.get_running_loop()
        began = loop.time()
        ends = began + policy.retry_seconds
        n_failed = n_busy = 0
        last: Endpoint | None = None
        problem = _Again("left alone", "no endpoint was ready in time")
        while True:
            endpoint = await self._choose([only] if only else self._admitted(), ends, last)
            if endpoint is None:
                raise self._given_up(began, problem, n_failed) from problem
            try:
                answer = read(await self._attempt(endpoint, path, content, policy, ends))
            except Malformed as error:
                # The endpoint speaks, so this is nothing for its breaker.
                problem = _Again("wrong shape", f"{endpoint.url} answered out of shape: {error}")
            except _Again as error:
                problem = error
            else:
                self._answered_at = loop.time()
                return answer
            last = endpoint
            if asked := problem.wait_seconds:
                endpoint.paused_until = max(endpoint.paused_until, loop.time() + asked)
            # A busy endpoint costs time, which is bounded, and no attempt.
            n_failed, n_busy = (n_failed, n_busy + 1) if problem.busy else (n_failed + 1, n_busy)
            wait = 0.0 if asked else policy.wait_seconds(n_failed + n_busy)
            if n_failed >= policy.attempts or loop.time() + wait >= ends:
                raise self._given_up(began, problem, n_failed) from problem
            self.counts[f"retried: {problem.kind}"] += 1
            await asyncio.sleep(wait)

    def _admitted(self) -> list[Endpoint]:
        return [e for e in self.endpoints if e.admitted]

    async def _choose(self, among: Sequence[Endpoint], ends: float, last: Endpoint | None) -> Endpoint | None:
        """The endpoint that has least to do, once one may be asked; None if none may be in time."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            waits = {e: e.ready_in(now) for e in among}
            ready = [e for e, wait in waits.items() if wait == 0.0]
            if ready:
                # After a failure another one is better, whatever it has to do.
                return min(ready, key=lambda e: (e is last, e.in_flight, random.random()))
            soonest = min((w for w in waits.values() if w is not None), default=ends - now)
            if now >= ends or now + soonest > ends:
                return None
            # Those who wait for the same moment do not all come at it.
            spread = random.uniform(0.0, min(0.5, soonest / 4))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(soonest + spread):
                    await self._changed.wait()

    async def _attempt(
        self, endpoint: Endpoint, path: str, content: bytes | None, policy: RetryPolicy, ends: float
    ) -> Any:
        loop = asyncio.get_running_loop()
        trial = endpoint.breaker.begin()
        endpoint.in_flight += 1
        self.counts["requests"] += 1
        told = False
        try:
            answer = await self._exchange(
                endpoint, path, content, min(loop.time() + policy.timeout_seconds, ends)
            )
            endpoint.breaker.succeeded()
            told = True
            return answer
        except (Malformed, Refused, EngineRejected):
            endpoint.breaker.succeeded()
            told = True
            raise
        except _Again as error:
            told = True
            if error.busy:
                endpoint.breaker.succeeded()
            elif endpoint.breaker.failed(loop.time(), trial=trial):
                self.counts["left alone"] += 1
                logger.info("%s is left alone for a while: %s", endpoint.url, error)
            raise
        finally:
            if not told:
                endpoint.breaker.abandoned(trial=trial)
            endpoint.in_flight -= 1
            # Whoever waits for a trial, or for an endpoint, looks again.
            self._changed.set()
            self._changed = asyncio.Event()

    async def _exchange(self, endpoint: Endpoint, path: str, content: bytes | None, ends: float) -> Any:
        """One request and its whole answer, as JSON."""
        url = _joined(endpoint.url, path)
        method, headers = ("GET", {}) if content is None else ("POST", {"content-type": "application/json"})
        try:
            # httpx bounds each read, and a server that drips a byte a second passes that for ever.
            async with asyncio.timeout_at(ends):
                async with self._client.stream(method, url, content=content, headers=headers) as response:
                    data = await _body(response)
        except TimeoutError as error:
            raise _Again("timeout", f"{url} did not answer in time") from error
        except httpx.ConnectError as error:
            raise _Again("no connection", f"cannot connect to {url}: {error}") from error
        except httpx.TimeoutException as error:
            raise _Again("timeout", f"cannot connect to {url} in time") from error
        except (httpx.RequestError, OSError) as error:
            detail = str(error) or type(error).__name__
            raise _Again("broken connection", f"{url} broke off: {detail}") from error
        return _judged(response, data, url)

    def _given_up(self, began: float, problem: _Again, n_failed: int) -> Exception:
        """What a request without an answer is: its own misfortune, or the end of the call."""
        self.counts[f"gave up: {problem.kind}"] += 1
        detail = f"{problem}, after {n_failed} failed attempt{'' if n_failed == 1 else 's'}"
        if self._answered_at >= began:
            return GaveUp(detail)
        if problem.kind == "wrong shape":
            return EngineContractBroken(
                detail, hint="is this the address of an OpenAI-compatible API, with its /v1?"
            )
        where = ", ".join(e.url for e in self.endpoints)
        return EngineUnavailable(
            detail, hint=f"is a server running at {where}? Its own log says more; see also retry_seconds"
        )


def _joined(base: str, path: str) -> str:
    if path.startswith("/../"):
        return base.rpartition("/")[0] + path.removeprefix("/..")
    return base + path


async def _body(response: httpx.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > _MOST_BYTES:
            raise Malformed(f"a body of more than {_MOST_BYTES >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


def _judged(response: httpx.Response, data: bytes, url: str) -> Any:
    """The body as JSON, or the error that the status stands for."""
    status = response.status_code
    after = retry_after_seconds(response.headers.get("retry-after"), time.time())
    verdict = status_verdict(status, asks_to_wait=after is not None)
    if verdict == "answered":
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            kind = response.headers.get("content-type", "no content type")
            raise Malformed(f"{len(data)} bytes of {kind} are no JSON: {error}") from error
    message = _error_message(data)
    detail = f"{url} answered HTTP {status}: {message}"
    if verdict in ("busy", "again"):
        raise _Again(f"HTTP {status}", detail, wait_seconds=after, busy=verdict == "busy")
    if verdict == "rejected":
        hints = {
            401: "give the key in api_key, $AUTOJ_REWARD_API_KEY or $OPENAI_API_KEY",
            403: "the key in use may not do this",
            404: "is the address right, with its /v1, and does the server know the model? See GET /v1/models",
        }
        redirect = f"the address moved to {response.headers.get('location')}" if status < 400 else ""
        raise Rejected(status, detail, hint=redirect or hints.get(status, ""))
    raise Refused(status, message)


def _error_message(data: bytes) -> str:
    """What an error's body says, in the forms in use, at most 500 characters."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        body = data.decode("utf-8", "replace")
    for key in ("error", "message", "detail"):
        if isinstance(body, dict) and key in body:
            body = body[key]
    text = body if isinstance(body, str) else json.dumps(body)
    return " ".join(text.split())[:500] or "no further word"
