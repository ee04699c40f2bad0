# SPDX-License-Identifier: Apache-2.0
"""Send requests to one or several endpoints with load balancing, retries and deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from autoj_reward.engines.openai.connection import (
    ConnectionPool,
    EndpointRejected,
    MalformedResponse,
    RetryableError,
)
from autoj_reward.engines.openai.retry import CircuitBreaker, RetryPolicy
from autoj_reward.errors import EngineContractBroken, EngineRejected, EngineUnavailable

logger = logging.getLogger("autoj_reward")

T = TypeVar("T")


class GaveUp(Exception):
    """Retries exhausted for this request; other requests succeeded."""


@dataclass(slots=True, eq=False)
class Endpoint:
    """One server and its state.

    Attributes:
        url: Base URL with the API's version: `http://host:port/v1`.
        in_flight: Requests sent and not yet answered.
        paused_until: Loop time until which it asked for no requests (`Retry-After`).
        admitted: Whether it was probed and serves the same model as the others.
    """

    url: str
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    in_flight: int = 0
    paused_until: float = 0.0
    admitted: bool = False

    def ready_in(self, now: float) -> float | None:
        """Seconds until it may be used; None while a trial request is in flight."""
        ready = self.breaker.ready_in(now)
        return None if ready is None else max(ready, self.paused_until - now, 0.0)


class Transport:
    """Send JSON to the least busy of several endpoints, and read its JSON response."""

    def __init__(
        self, urls: Sequence[str], *, policy: RetryPolicy, concurrency: int, headers: dict[str, str]
    ) -> None:
        self.endpoints = [Endpoint(url) for url in urls]
        self.policy = policy
        self.counts: Counter[str] = Counter()
        """Counts of `requests`, `retried: KIND`, `gave up: KIND` and `left alone`."""
        self.background: list[asyncio.Task[None]] = []
        """Tasks that are cancelled when the transport closes."""
        self._slots = asyncio.Semaphore(concurrency)
        self._changed = asyncio.Event()
        self._answered_at = -1.0
        self._pool = ConnectionPool(urls, timeout_seconds=policy.timeout_seconds, headers=headers)

    async def close(self) -> None:
        """Cancel the background tasks and close every connection."""
        for task in self.background:
            task.cancel()
        await asyncio.gather(*self.background, return_exceptions=True)
        await self._pool.close()

    async def ask(self, path: str, body: Any, read: Callable[[Any], T]) -> T:
        """Send one request, with retries, and return what `read` makes of the response.

        Args:
            path: Appended to the endpoint's URL.
            body: Sent as JSON.
            read: Parses the JSON value; the request is retried if it raises `MalformedResponse`.

        Raises:
            EndpointRejected: The endpoint refused this request.
            GaveUp: No attempt was answered; other requests were.
            EngineUnavailable: Neither this nor any other request was answered.
            EngineContractBroken: All responses were malformed.
            EngineRejected: The endpoint refuses all requests.
        """
        # Held during waits too: an overloaded server gets no other requests in the meantime.
        async with self._slots:
            return await self._persist(path, body, read, None, self.policy)

    async def ask_one(
        self, endpoint: Endpoint, path: str, body: Any, read: Callable[[Any], T], policy: RetryPolicy
    ) -> T:
        """`ask` one endpoint, admitted or not, not counted in `concurrency`.

        Without a body it sends a GET. A path that begins with `/../` leads to the server's root.
        """
        return await self._persist(path, body, read, endpoint, policy)

    async def _persist(
        self,
        path: str,
        body: Any,
        read: Callable[[Any], T],
        only: Endpoint | None,
        policy: RetryPolicy,
    ) -> T:
        content = None if body is None else json.dumps(body).encode()
        loop = asyncio.get_running_loop()
        began = loop.time()
        ends = began + policy.retry_seconds
        n_failed = n_busy = 0
        last: Endpoint | None = None
        problem = RetryableError("left alone", "no endpoint was ready in time")
        while True:
            among = [only] if only else [e for e in self.endpoints if e.admitted]
            endpoint = await self._choose(among, ends, last)
            if endpoint is None:
                raise self._given_up(began, problem, n_failed) from problem
            try:
                answer = read(await self._attempt(endpoint, path, content, policy, ends))
            except MalformedResponse as error:
                problem = RetryableError("wrong shape", f"{endpoint.url} sent a malformed response: {error}")
            except RetryableError as error:
                problem = error
            else:
                self._answered_at = loop.time()
                return answer
            last = endpoint
            if asked := problem.wait_seconds:
                endpoint.paused_until = max(endpoint.paused_until, loop.time() + asked)
            # Waiting for a busy endpoint is bounded by `retry_seconds`, not by `attempts`.
            n_failed, n_busy = (n_failed, n_busy + 1) if problem.busy else (n_failed + 1, n_busy)
            wait = 0.0 if asked else policy.wait_seconds(n_failed + n_busy)
            if n_failed >= policy.attempts or loop.time() + wait >= ends:
                raise self._given_up(began, problem, n_failed) from problem
            self.counts[f"retried: {problem.kind}"] += 1
            await asyncio.sleep(wait)

    async def _choose(self, among: Sequence[Endpoint], ends: float, last: Endpoint | None) -> Endpoint | None:
        """Wait for the least busy usable endpoint; None if none is usable before `ends`."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            waits = {e: e.ready_in(now) for e in among}
            ready = [e for e, wait in waits.items() if wait == 0.0]
            if ready:
                # A retry goes to another endpoint than the last if possible.
                return min(ready, key=lambda e: (e is last, e.in_flight, random.random()))
            soonest = min((w for w in waits.values() if w is not None), default=ends - now)
            if now >= ends or now + soonest > ends:
                return None
            # Jitter, so that requests that wait for the same moment do not arrive together.
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
        deadline = min(loop.time() + policy.timeout_seconds, ends)
        try:
            answer = await self._pool.exchange(endpoint.url + path, content, deadline)
        except RetryableError as error:
            if error.busy:
                endpoint.breaker.succeeded()
            elif endpoint.breaker.failed(loop.time(), trial=trial):
                self.counts["left alone"] += 1
                logger.info("%s fails repeatedly and is not used for a while: %s", endpoint.url, error)
            raise
        except (MalformedResponse, EndpointRejected, EngineRejected):
            endpoint.breaker.succeeded()
            raise
        except BaseException:
            endpoint.breaker.abandoned(trial=trial)
            raise
        else:
            endpoint.breaker.succeeded()
            return answer
        finally:
            endpoint.in_flight -= 1
            # Wake the requests that wait for an endpoint or a trial.
            self._changed.set()
            self._changed = asyncio.Event()

    def _given_up(self, began: float, problem: RetryableError, n_failed: int) -> Exception:
        """The error of a request without a response: its own failure, or that of the whole call."""
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
