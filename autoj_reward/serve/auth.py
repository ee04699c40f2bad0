# SPDX-License-Identifier: Apache-2.0
"""Bearer-token authentication, checked in constant time before the body is read."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from autoj_reward.serve.errors import Refusal

OPEN_PATHS = frozenset({"/health", "/ready"})
"""Paths without authentication; they only tell whether the server runs."""


class TokenGuard:
    """ASGI middleware that lets only requests with the token pass.

    It accepts `Authorization: Bearer TOKEN`, and Basic with the token as the password, so that trainers which
    take only a URL can use `http://any:TOKEN@host:port/get_reward`.
    Without a token all requests pass.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._digest = None if token is None else _digest(token.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._may_pass(scope):
            refusal = Refusal(401, "unauthorized", "this server needs a token: Authorization: Bearer TOKEN")
            await refusal.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        if self._digest is None or scope["path"] in OPEN_PATHS:
            return True
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        # Digests have equal lengths, so the comparison does not reveal the token's length.
        given = _digest(_token_of(shown[0]) if len(shown) == 1 else b"")
        return hmac.compare_digest(given, self._digest)


def _token_of(header: bytes) -> bytes:
    scheme, _, rest = header.partition(b" ")
    if scheme.lower() == b"bearer":
        return rest.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
