# SPDX-License-Identifier: Apache-2.0
"""Error responses of the reward server: one shape, without the client's text."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from autoj_reward.errors import AutojRewardError, EngineError, EngineUnavailable, StoreError


class Refusal(Exception):
    """A request that gets an error response.

    Args:
        status: HTTP status.
        kind: Error type for programs, one word.
        message: One sentence for people, without any text of the client.
        where: The wrong place in the body, such as `rows[3].prompt`; empty for the whole request.
        retry_after: Seconds after which to retry, or None.
    """

    def __init__(
        self, status: int, kind: str, message: str, *, where: str = "", retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.where = where
        self.retry_after = retry_after

    def response(self) -> Response:
        """The HTTP response."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="autoj-reward", Basic realm="autoj-reward"'
        error = {"type": self.kind, "message": str(self), "where": self.where}
        return json_response({"error": error}, status=self.status, headers=headers)


def of_engine(error: AutojRewardError) -> Refusal:
    """The refusal for the requests of a failed batch.

    The engine's message may name addresses and files of the server, so it stays in the server's log.
    """
    if isinstance(error, EngineUnavailable):
        return Refusal(503, "engine_unavailable", "the judge's engine does not answer", retry_after=5)
    if isinstance(error, StoreError):
        return Refusal(503, "cache_unusable", "the server's cache cannot be used", retry_after=30)
    if isinstance(error, EngineError):
        return Refusal(502, "engine_failed", "the judge's engine refused, or its response cannot be read")
    return Refusal(422, "invalid_request", "the judge cannot take this request")


def json_response(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Strict JSON in ASCII, because critiques may hold lone surrogates, which UTF-8 cannot encode."""
    content = json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    return Response(content, status, headers, media_type="application/json")
