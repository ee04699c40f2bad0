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
    """One request had no answer after all attempts, though others had."""


@dataclass(slots=True, eq=False)
class Endpoint:
    """One server, and how it has been doing.

    Attributes:
        url: Its address, up to and with the API's version: `http://host:port/v1`.
        in_flight: Requests sent and not yet answered.
        paused_until: Loop time before which it asked not to be asked.
        admitted: Whether it has been looked at, and serves what the others serve.
    """

    url: str
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
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
        concurrency: Most requests in flight at once.
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
        self._lines = ConnectionPool(urls, timeout_seconds=policy.timeout_seconds, headers=headers)

    async def close(self) -> None:
        """Close every connection, and end the background."""
        for task in self.background:
            task.cancel()
        await asyncio.gather(*self.background, return_exceptions=True)
        await self._lines.close()

    async def ask(self, path: str, body: Any, read: Callable[[Any], T]) -> T:
        """What `read` makes of an endpoint's answer.

        Args:
            path: After the endpoint's address.
            body: Sent as JSON.
            read: Checks and reads a JSON value; raises `MalformedResponse`, and then the request is retried.

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
        problem = RetryableError("left alone", "no endpoint was ready in time")
        while True:
            endpoint = await self._choose([only] if only else self._admitted(), ends, last)
            if endpoint is None:
                raise self._given_up(began, problem, n_failed) from problem
            try:
                answer = read(await self._attempt(endpoint, path, content, policy, ends))
            except MalformedResponse as error:
                # The endpoint speaks, so this is nothing for its breaker.
                problem = RetryableError("wrong shape", f"{endpoint.url} answered out of shape: {error}")
            except RetryableError as error:
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
            deadline = min(loop.time() + policy.timeout_seconds, ends)
            answer = await self._lines.exchange(_joined(endpoint.url, path), content, deadline)
            endpoint.breaker.succeeded()
            told = True
            return answer
        except (MalformedResponse, EndpointRejected, EngineRejected):
            endpoint.breaker.succeeded()
            told = True
            raise
        except RetryableError as error:
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

    def _given_up(self, began: float, problem: RetryableError, n_failed: int) -> Exception:
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
