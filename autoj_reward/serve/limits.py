# SPDX-License-Identifier: Apache-2.0
"""ASGI middleware: limits on request bodies, and a check of the Host header."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autoj_reward.serve.errors import Refusal

_AT_ONCE = 64
"""Memory limit for all bodies, in bodies of the largest size."""

_LEAST_BYTES = 16
"""A body may hold one list or object per this many bytes of the largest size; real ones hold far fewer."""

_LOOKS = 4
"""Turns of the event loop between a request's last byte and its handling."""


class BodyLimit:
    """Reads a whole body before the application runs, and cancels the application when its client leaves.

    Refuses bodies that are longer than `max_bytes` (413; by `Content-Length` before reading), late (408) or
    compressed (415), or that do not fit the memory for bodies now (503).
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, seconds: float = 60.0) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._n_held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parts: list[bytes] = []
        try:
            body = await self._body(dict(scope["headers"]), receive, parts)
            if body is not None:
                await self._run(scope, receive, send, body)
        except Refusal as refusal:
            response = refusal.response()
            # The rest of the body is not read.
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
        finally:
            self._n_held -= sum(map(len, parts))

    async def _body(self, headers: dict[bytes, bytes], receive: Receive, parts: list[bytes]) -> bytes | None:
        """The whole body, or None if the client left before its end."""
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and (len(announced) > 20 or int(announced) > self._max_bytes):
            raise self._too_large()
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            raise Refusal(415, "encoded", "the body is compressed; send it uncompressed")
        n = 0
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    part = message.get("body", b"")
                    parts.append(part)
                    n += len(part)
                    self._n_held += len(part)
                    if n > self._max_bytes:
                        raise self._too_large()
                    if self._n_held > self._max_bytes * _AT_ONCE:
                        raise Refusal(503, "busy", "too many bodies are being read", retry_after=5)
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise Refusal(408, "http", "the body did not arrive in time") from None
        body = b"".join(parts)
        if body.count(b"{") + body.count(b"[") > self._max_bytes // _LEAST_BYTES:
            # Parsing blocks the event loop, and a list costs 20 times its two bytes.
            raise Refusal(413, "too_large", "the body holds too many lists and objects")
        return body

    async def _run(self, scope: Scope, receive: Receive, send: Send, body: bytes) -> None:
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                # Only this class reads from uvicorn; the application is cancelled instead.
                await asyncio.get_running_loop().create_future()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def until_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        watching = asyncio.create_task(until_gone())
        for _ in range(_LOOKS):
            # A client that leaves at once has left by now, and its request is not judged.
            await asyncio.sleep(0)
        if watching.done():
            return
        working = asyncio.ensure_future(self._app(scope, replay, send))
        try:
            await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        finally:
            watching.cancel()
            if not working.done():
                # Judging it would delay clients that still wait.
                working.cancel()
                await asyncio.wait((working,))
        if not working.cancelled():
            working.result()

    def _too_large(self) -> Refusal:
        return Refusal(413, "too_large", f"the body is longer than {self._max_bytes:,} bytes")


class HostCheck:
    """Refuses requests whose `Host` header is not this server's name.

    This stops DNS rebinding: a web page can point its own name to this machine and make a browser send
    requests here; `Host` then holds the page's name. `hosts` None allows any.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self._app = app
        self._hosts = None if hosts is None else {_plain(host) for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._hosts is not None:
            named = [value for name, value in scope["headers"] if name == b"host"]
            if len(named) != 1 or _host_of(named[0]) not in self._hosts:
                message = "unknown host name; allow it with --allow-host"
                await Refusal(421, "unknown_host", message).response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _host_of(header: bytes) -> str:
    """The host of a `Host` header, without its port."""
    text = header.decode("latin-1").strip()
    name, colon, port = text.rpartition(":")
    return _plain(name if colon and (port.isdigit() or not port) and not name.endswith(":") else text)


def _plain(host: str) -> str:
    """One spelling: lower case, no brackets, no final dot, addresses in their short form."""
    bare = host.lower().removeprefix("[").removesuffix("]").removesuffix(".")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return bare
