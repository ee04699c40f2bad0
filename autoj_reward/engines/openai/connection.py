# SPDX-License-Identifier: Apache-2.0
"""Send one HTTP request and read its response within limits of time and size."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx

from autoj_reward.engines.openai.retry import retry_after_seconds, status_class
from autoj_reward.errors import EngineRejected
from autoj_reward.redact import redact

_MOST_BYTES = 64 << 20
"""Most bytes of one response body."""

_LONGEST_CONNECT_SECONDS = 10.0


class MalformedResponse(Exception):
    """A response does not follow the protocol; retried, because proxies and restarts cause this."""


class EndpointRejected(Exception):
    """The endpoint refused one request for good.

    Attributes:
        status: HTTP status.
        message: The endpoint's own message.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status
        self.message = message


class RequestRejected(EngineRejected):
    """The endpoint refuses all requests of this kind.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, status: int, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class RetryableError(Exception):
    """An attempt failed, and another one may succeed.

    Attributes:
        kind: A short label, counted in `Transport.counts`.
        wait_seconds: The wait that the endpoint asked for, or None.
        busy: Whether the endpoint works and only asks to wait.
    """

    def __init__(
        self, kind: str, detail: str, *, wait_seconds: float | None = None, busy: bool = False
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.wait_seconds = wait_seconds
        self.busy = busy


class ConnectionPool:
    """A pool of single-connection httpx clients, one per request in flight.

    httpx's own pool scans every connection for every request; with 64 connections that took longer than the
    rest of the request. Connecting takes `timeout_seconds` at most, and 10 s at most.
    """

    def __init__(self, urls: Sequence[str], *, timeout_seconds: float, headers: dict[str, str]) -> None:
        self._free: list[httpx.AsyncClient] = []
        self._all: list[httpx.AsyncClient] = []
        encrypted = any(httpx.URL(u).scheme == "https" for u in urls)
        # Proxy settings in the environment do not apply to servers on this machine.
        on_this_machine = all(httpx.URL(u).host in ("localhost", "127.0.0.1", "::1") for u in urls)
        connect = min(timeout_seconds, _LONGEST_CONNECT_SECONDS)
        self._settings: dict[str, Any] = {
            # No compression: a few kilobytes may unpack into gigabytes.
            "headers": {**headers, "accept-encoding": "identity"},
            # After connecting, the deadline of the whole request applies.
            "timeout": httpx.Timeout(None, connect=connect),
            # Servers commonly close a connection after 5 idle seconds; close it before they do.
            "limits": httpx.Limits(max_keepalive_connections=len(urls), keepalive_expiry=4.0),
            # Only for https: reading the certificates takes tens of milliseconds.
            "verify": httpx.create_ssl_context() if encrypted else False,
            "trust_env": not on_this_machine,
        }

    async def close(self) -> None:
        """Close every connection."""
        clients, self._all, self._free = self._all, [], []
        for client in clients:
            await client.aclose()

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx.AsyncClient]:
        if not self._free:
            self._free.append(httpx.AsyncClient(**self._settings))
            self._all.append(self._free[-1])
        # The last one used is the least likely to have been closed by the server.
        client = self._free.pop()
        try:
            yield client
        finally:
            self._free.append(client)

    async def exchange(self, url: str, content: bytes | None, ends: float) -> Any:
        """Send JSON with POST, or a GET without content, and return the JSON of the response.

        `ends` is the deadline in loop time.

        Raises:
            RetryableError: There was no response, or one that says to try again.
            MalformedResponse: The response is not JSON.
            EndpointRejected: This request was refused.
            RequestRejected: All requests of this kind are refused.
        """
        method, headers = ("GET", {}) if content is None else ("POST", {"content-type": "application/json"})
        try:
            # httpx's timeout is for each read; a server that sends a byte a second never exceeds it.
            async with (
                asyncio.timeout_at(ends),
                self._client() as client,
                client.stream(method, url, content=content, headers=headers) as response,
            ):
                data = await _body(response)
        except TimeoutError as error:
            raise RetryableError("timeout", f"{url} did not answer in time") from error
        except httpx.ConnectError as error:
            raise RetryableError("no connection", f"cannot connect to {url}: {error}") from error
        except httpx.TimeoutException as error:
            raise RetryableError("timeout", f"cannot connect to {url} in time") from error
        except (httpx.RequestError, OSError) as error:
            detail = str(error) or type(error).__name__
            raise RetryableError("broken connection", f"{url} broke the connection: {detail}") from error
        return _json_or_error(response, data, url)


async def _body(response: httpx.Response) -> bytes:
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise MalformedResponse("a compressed body, which was not asked for")
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > _MOST_BYTES:
            raise MalformedResponse(f"a body of more than {_MOST_BYTES >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


def _json_or_error(response: httpx.Response, data: bytes, url: str) -> Any:
    """The body as JSON; raises the error that the status means."""
    status = response.status_code
    after = retry_after_seconds(response.headers.get("retry-after"), time.time())
    kind = status_class(status, asks_to_wait=after is not None)
    message = "" if kind == "answered" else _error_message(data)
    if kind == "answered":
        try:
            body = json.loads(data)
        except (ValueError, RecursionError) as error:
            media = response.headers.get("content-type", "no content type")
            raise MalformedResponse(f"{len(data)} bytes of {media!r} are not JSON: {error}") from error
        if not isinstance(body, dict) or not body.get("error") or "choices" in body or "data" in body:
            return body
        # Some servers and proxies report errors under HTTP 200, with the status inside.
        message = _error_message(data)
        told = body["error"].get("code") if isinstance(body["error"], dict) else body.get("code")
        if type(told) is not int or not 400 <= told < 600:
            raise MalformedResponse(f"an error under HTTP 200: {message}")
        status, kind = told, status_class(told, asks_to_wait=after is not None)
    detail = f"{url} answered HTTP {status}: {message}"
    if kind in ("busy", "again"):
        raise RetryableError(f"HTTP {status}", detail, wait_seconds=after, busy=kind == "busy")
    if kind == "rejected":
        hints = {
            401: "give the key in api_key, $AUTOJ_REWARD_API_KEY or $OPENAI_API_KEY",
            403: "the API key has no permission for this",
            404: "check the URL, with its /v1, and the model's name; GET /v1/models lists the models",
        }
        moved = redact(repr(response.headers.get("location", ""))[:200])
        redirect = f"the URL moved to {moved}" if status < 400 else ""
        raise RequestRejected(status, detail, hint=redirect or hints.get(status, ""))
    raise EndpointRejected(status, message)


def _error_message(data: bytes) -> str:
    """The message in an error's body, in any of the common forms, at most 500 characters."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        body = data.decode("utf-8", "replace")
    for key in ("error", "message", "detail"):
        if isinstance(body, dict) and key in body:
            body = body[key]
    text = body if isinstance(body, str) else json.dumps(body)
    shown = "".join(c if c.isprintable() else " " for c in text[:5000])
    return redact(" ".join(shown.split()))[:500] or "no message"
