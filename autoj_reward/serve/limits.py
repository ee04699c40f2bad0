# SPDX-License-Identifier: Apache-2.0
"""How much of a request is read: so many bytes, within so many seconds."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autoj_reward.serve.errors import Refusal


class BodyLimit:
    """Refuses bodies that are too long (413) or do not come (408).

    Args:
        app: What gets the request.
        max_bytes: Longest body. A `Content-Length` above it is refused before a byte is read.
        seconds: Longest wait for the next piece of a body.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, seconds: float = 30.0) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if announced.isdigit() and int(announced[:20]) > self._max_bytes:
            message = f"the body is longer than {self._max_bytes:,} bytes"
            await Refusal(413, "too_large", message).response()(scope, receive, send)
            return
        n_read = 0
        complete = False

        async def limited() -> Message:
            nonlocal n_read, complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout(self._seconds):
                    message = await receive()
            except TimeoutError:
                # The one kind of exception that FastAPI lets through while it reads a body.
                raise HTTPException(408, "the body did not come in time") from None
            n_read += len(message.get("body", b""))
            if n_read > self._max_bytes:
                raise HTTPException(413, f"the body is longer than {self._max_bytes:,} bytes")
            complete = not message.get("more_body", False)
            return message

        await self._app(scope, limited, send)
