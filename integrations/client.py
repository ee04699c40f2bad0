# SPDX-License-Identifier: Apache-2.0
"""HTTP client of the reward server (`autoj-reward serve`): retries, thread-safe, picklable.

It does not import the server, or anything heavier than httpx.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

from autoj_reward.engines.openai.retry import retry_after_seconds
from autoj_reward.errors import ConfigError, EngineContractBroken, EngineRejected, EngineUnavailable
from autoj_reward.integrations.remote.judge_methods import ServedJudge
from autoj_reward.judge.messages.columns import as_column
from autoj_reward.judge.messages.parts import kind_of
from autoj_reward.redact import redact
from autoj_reward.reward.scale import Scale
from autoj_reward.types import Text

Row = dict[str, Any]

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 20.0
_MOST_BYTES = 256 << 20
"""Largest response."""

_MOST_BROKEN = 4
"""Attempts after which a request that the server fails on (HTTP 500) is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """One attempt's rows, or why it failed."""

    rows: list[Row] | None = None
    wait_seconds: float | None = None
    """The server's Retry-After."""
    broken: bool = False
    """Whether the server failed (HTTP 500) instead of being busy."""
    problem: str = ""


class JudgeClient(ServedJudge):  # type: ignore[misc] # a base of another folder is not typed
    """A client of the reward server.

    While the server is busy, unreachable or starting, a request is retried until `patience_seconds` have
    passed. Retries cost nothing: the server answers from its cache what it has answered before. A request
    that the server rejects raises at once.

    Each process, and for coroutines each event loop, opens its own connections. Connections and a token from
    the environment are not pickled.

    Args:
        url: URL of the server, such as `http://judge:8100`.
        token: The server's token; None reads `$AUTOJ_REWARD_TOKEN` when the client is used.
        patience_seconds: Longest time of one request, all attempts and waits included.
        timeout_seconds: Longest time of one attempt.
        rows_per_request: Rows per HTTP request; the server limits the completions of a request.

    Raises:
        ConfigError: `url` is not an HTTP URL, or a number is not above 0.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        patience_seconds: float = 900.0,
        timeout_seconds: float = 180.0,
        rows_per_request: int = 128,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"{redact(url)!r} is not a server URL", hint="such as http://judge:8100")
        if rows_per_request < 1 or patience_seconds <= 0 or timeout_seconds <= 0:
            raise ConfigError("rows_per_request, patience_seconds and timeout_seconds must be above 0")
        self.url = url.rstrip("/")
        self._token = token
        self._patience = patience_seconds
        self._timeout = timeout_seconds
        self._rows_per_request = rows_per_request
        self._sync: httpx.Client | None = None
        self._forget_connections()

    def __repr__(self) -> str:
        return f"JudgeClient({redact(self.url)!r})"

    def __getstate__(self) -> dict[str, Any]:
        own = ("url", "_token", "_patience", "_timeout", "_rows_per_request")
        return {name: getattr(self, name) for name in own}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_connections()

    def rank(self, rows: Sequence[Row]) -> list[Row]:
        """Order groups: rows with `prompt` and `completions`; otherwise as `rate`."""
        return self._ask("/v1/rank", rows)

    def rewards(self, prompts: Sequence[Text], completions: Sequence[Text]) -> list[float | None]:
        """The reward of each completion; None without a verdict. Raises as `rate`."""
        return [row["reward"] for row in self.rate(_rows(prompts, completions))]

    async def rate_async(
        self, rows: Sequence[Row], *, scale: Scale | None = None, resolution: float | None = None
    ) -> list[Row]:
        """`rate`, as a coroutine."""
        return await self._ask_async("/v1/rate", rows, scale=scale, resolution=resolution)

    async def compare_async(self, rows: Sequence[Row]) -> list[Row]:
        """`compare`, as a coroutine."""
        return await self._ask_async("/v1/compare", rows)

    async def rank_async(self, rows: Sequence[Row]) -> list[Row]:
        """`rank`, as a coroutine."""
        return await self._ask_async("/v1/rank", rows)

    async def rewards_async(self, prompts: Sequence[Text], completions: Sequence[Text]) -> list[float | None]:
        """`rewards`, as a coroutine."""
        return [row["reward"] for row in await self.rate_async(_rows(prompts, completions))]

    def close(self) -> None:
        """Close the connections of the methods that are not coroutines; a later call opens new ones."""
        with self._opening:
            client, self._sync = self._sync, None
        if client is not None:
            client.close()

    async def close_async(self) -> None:
        """Close the connections of the running event loop; a later call opens new ones."""
        with self._opening:
            client = self._by_loop.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _forget_connections(self) -> None:
        self._opening = threading.Lock()
        self._sync = None
        self._owner = os.getpid()
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            weakref.WeakKeyDictionary()
        )

    def _ask(self, path: str, rows: Sequence[Row], **options: Any) -> list[Row]:
        if os.getpid() != self._owner:
            # A forked child shares its parent's sockets and would read its responses.
            self._forget_connections()
        with self._opening:
            if self._sync is None:
                self._sync = httpx.Client(**self._options())
            client = self._sync
        answers: list[Row] = []
        for content, n in self._bodies(rows, options):
            ends, n_failed = time.monotonic() + self._patience, 0
            while True:
                try:
                    attempt = self._attempt(client, path, content, n)
                except httpx.HTTPError as error:
                    attempt = _Attempt(problem=f"{type(error).__name__}: {error}")
                if attempt.rows is not None:
                    answers += attempt.rows
                    break
                n_failed += 1
                time.sleep(self._wait(attempt, n_failed, ends))
        return answers

    async def _ask_async(self, path: str, rows: Sequence[Row], **options: Any) -> list[Row]:
        if os.getpid() != self._owner:
            self._forget_connections()
        loop = asyncio.get_running_loop()
        with self._opening:
            if loop not in self._by_loop:
                self._by_loop[loop] = httpx.AsyncClient(**self._options())
            client = self._by_loop[loop]

        async def ask(content: bytes, n: int) -> list[Row]:
            ends, n_failed = time.monotonic() + self._patience, 0
            while True:
                try:
                    async with asyncio.timeout(self._timeout):
                        attempt = await self._attempt_async(client, path, content, n)
                except httpx.HTTPError as error:
                    attempt = _Attempt(problem=f"{type(error).__name__}: {error}")
                except TimeoutError:
                    attempt = _Attempt(problem=f"no complete response within {self._timeout:g} seconds")
                if attempt.rows is not None:
                    return attempt.rows
                n_failed += 1
                await asyncio.sleep(self._wait(attempt, n_failed, ends))

        parts = await asyncio.gather(*(ask(content, n) for content, n in self._bodies(rows, options)))
        return [row for part in parts for row in part]

    def _attempt(self, client: httpx.Client, path: str, content: bytes, n: int) -> _Attempt:
        ends = time.monotonic() + self._timeout
        with client.stream("POST", path, content=content, headers=self._headers()) as response:
            _refuse_encoded(response)
            data = bytearray()
            for part in response.iter_raw():
                data += part
                _refuse_endless(response, len(data))
                if time.monotonic() > ends:
                    raise httpx.ReadTimeout(f"no complete response within {self._timeout:g} seconds")
            return _read(response, bytes(data), n)

    async def _attempt_async(self, client: httpx.AsyncClient, path: str, content: bytes, n: int) -> _Attempt:
        async with client.stream("POST", path, content=content, headers=self._headers()) as response:
            _refuse_encoded(response)
            data = bytearray()
            async for part in response.aiter_raw():
                data += part
                _refuse_endless(response, len(data))
            return _read(response, bytes(data), n)

    def _options(self) -> dict[str, Any]:
        return {
            "base_url": self.url,
            "timeout": httpx.Timeout(self._timeout, pool=None),
            "limits": httpx.Limits(max_connections=256, max_keepalive_connections=64),
            # A proxy of the environment would see prompts.
            "trust_env": False,
        }

    def _headers(self) -> dict[str, str]:
        token = self._token or os.environ.get("AUTOJ_REWARD_TOKEN", "").strip()
        # A few compressed kilobytes can unpack into gigabytes.
        plain = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        return plain | ({"Authorization": f"Bearer {token}"} if token else {})

    def _bodies(self, rows: Sequence[Row], options: Mapping[str, Any]) -> list[tuple[bytes, int]]:
        given = {name: value for name, value in options.items() if value is not None}
        further = "".join(f", {json.dumps(name)}: {json.dumps(value)}" for name, value in given.items())
        size = self._rows_per_request
        texts = [_written(i, row) for i, row in enumerate(as_column("rows", rows))]
        parts = [texts[start : start + size] for start in range(0, len(texts), size)]
        return [(f'{{"rows": [{", ".join(part)}]{further}}}'.encode("ascii"), len(part)) for part in parts]

    def _wait(self, attempt: _Attempt, n_failed: int, ends: float) -> float:
        """Seconds until the next attempt; raises if that is too late, or the request breaks the server."""
        backoff = random.uniform(0.1, min(_LONGEST_WAIT, 0.25 * 2.0 ** min(n_failed, 10)))
        if attempt.broken and n_failed >= _MOST_BROKEN:
            raise EngineRejected(
                f"{redact(self.url)} failed {n_failed} times on a request: {attempt.problem}",
                hint="the server's log says how",
            )
        # Jitter: clients that were told to wait together should not return together.
        named = attempt.wait_seconds
        wait = backoff if named is None else named + random.uniform(0.0, 0.5 + named / 4)
        if time.monotonic() + wait > ends:
            raise EngineUnavailable(
                f"{redact(self.url)} did not judge within {self._patience:g} seconds, {n_failed} attempts; "
                f"the last: {attempt.problem}",
                hint="is `autoj-reward serve` running there? Raise patience_seconds to wait longer",
            )
        return wait


def _rows(prompts: Sequence[Text], completions: Sequence[Text]) -> list[Row]:
    prompts = as_column("prompts", prompts)
    completions = as_column("completions", completions, len(prompts))
    return [{"prompt": p, "completion": c} for p, c in zip(prompts, completions, strict=True)]


def _written(i: int, row: Any) -> str:
    """A row as JSON, in ASCII because texts may hold lone surrogates."""
    if not isinstance(row, Mapping):
        raise ConfigError(f"rows[{i}] must be an object, is {kind_of(row)}")
    try:
        return json.dumps(dict(row))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"rows[{i}] cannot be written as JSON: {error}") from None


def _refuse_encoded(response: httpx.Response) -> None:
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise EngineContractBroken(
            f"{redact(str(response.url))} sent a compressed response, which was not asked for"
        )


def _refuse_endless(response: httpx.Response, size: int) -> None:
    if size > _MOST_BYTES:
        raise EngineContractBroken(
            f"{redact(str(response.url))} sent a response of more than {_MOST_BYTES >> 20} MiB",
            hint="lower rows_per_request",
        )


def _read(response: httpx.Response, data: bytes, n: int) -> _Attempt:
    """A response's rows, or why to retry; raises if a retry would not help."""
    if response.status_code == 200:
        try:
            rows = json.loads(data)["rows"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise EngineContractBroken(
                f"{redact(str(response.url))} did not send a reward server's response"
            ) from error
        if not isinstance(rows, list) or len(rows) != n:
            raise EngineContractBroken(
                f"{redact(str(response.url))} was asked for {n} rows and sent another number"
            )
        return _Attempt(rows=rows)
    try:
        refusal = json.loads(data)["error"]
        problem = redact(f"HTTP {response.status_code}: {refusal['message']!s:.500}")
        where = str(refusal.get("where") or "")
    except (ValueError, KeyError, TypeError, RecursionError):
        problem, where = f"HTTP {response.status_code}", ""
    if response.status_code in _AGAIN:
        asked = retry_after_seconds(response.headers.get("retry-after"), time.time())
        return _Attempt(wait_seconds=asked, problem=problem, broken=response.status_code == 500)
    hint = {
        401: "set $AUTOJ_REWARD_TOKEN to the server's token, or give token=",
        404: "is this the URL of `autoj-reward serve`?",
        413: "lower rows_per_request, or raise the server's --max-body-mb or --max-completions",
    }.get(response.status_code, "")
    place = f" ({where})" if where else ""
    raise EngineRejected(f"{redact(str(response.url))} refused: {problem}{place}", hint=hint)
