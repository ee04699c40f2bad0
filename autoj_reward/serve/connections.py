# SPDX-License-Identifier: Apache-2.0
"""Limits on connections before authentication: their number, every wait, the size of heads.

Everything runs on the event loop, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import json
import resource
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from autoj_reward.serve.settings import ServeSettings

_LINGER_SECONDS = 5.0
"""Extra time for a client to stop sending, or to read its last response."""

_MOST_PIPELINED = 4
_SHARE_OF_FILES = 0.75
"""Share of the process's file limit for connections; the cache and the engine need the rest."""

_WORDS = {
    400: "this is not an HTTP request",
    408: "the request did not arrive in time",
    431: "the head of the request is too long",
    503: "too many connections are in use",
}


class Room:
    """Counts a server's connections and closes idle ones when there are too many.

    A new connection over the limit closes the one that has waited longest without a complete request, so
    silent connections cannot keep others out. It is refused only if all others have a request.
    """

    def __init__(self, settings: ServeSettings) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = settings.max_connections if soft == resource.RLIM_INFINITY else int(soft * _SHARE_OF_FILES)
        self.most = max(1, min(settings.max_connections, files))
        self.most_per_peer = settings.max_connections_per_peer
        self.n = 0
        self._peers: dict[str, int] = {}
        # By peer, in the order in which they began to wait.
        self._idle: dict[str, dict[LimitedProtocol, None]] = {}

    def enter(self, one: LimitedProtocol) -> bool:
        """Count a new connection; return whether it may stay."""
        of_peer = self._peers.get(one.peer, 0)
        may_stay = True
        if of_peer >= self.most_per_peer:
            may_stay = self._make_room(one.peer)
        elif self.n >= self.most:
            # Close one of the peer with most connections.
            waiting = max(self._idle, key=lambda peer: self._peers.get(peer, 0), default=None)
            may_stay = waiting is not None and self._make_room(waiting)
        self.n += 1
        self._peers[one.peer] = self._peers.get(one.peer, 0) + 1
        return may_stay

    def leave(self, one: LimitedProtocol) -> None:
        """Remove a connection."""
        self.n -= 1
        self._peers[one.peer] -= 1
        if not self._peers[one.peer]:
            del self._peers[one.peer]
        self.use(one)

    def wait(self, one: LimitedProtocol) -> None:
        """Mark a connection as waiting for its client."""
        self._idle.setdefault(one.peer, {})[one] = None

    def use(self, one: LimitedProtocol) -> None:
        """Mark a connection as having a complete request."""
        idle = self._idle.get(one.peer, {})
        idle.pop(one, None)
        if not idle:
            self._idle.pop(one.peer, None)

    def _make_room(self, peer: str) -> bool:
        oldest = next(iter(self._idle.get(peer, {})), None)
        if oldest is None:
            return False
        self.use(oldest)
        oldest.end(at_once=True)
        return True


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's connection with a timeout for every wait; made by `limited_protocol`."""

    settings: ServeSettings
    room: Room
    peer = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.peer = self.client[0] if self.client else ""
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._in_head, self._complete, self._moved = True, True, False
        self._n_quiet = 0
        self._status = 400
        self._running: RequestResponseCycle | None = None
        if self.room.enter(self):
            self.room.wait(self)
            self._within(self.settings.head_seconds)
        else:
            self._refuse(503)

    def connection_lost(self, exc: Exception | None) -> None:
        self.room.leave(self)
        for timer in (self._timer, self._writing, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()
        self._stop_cycles()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head and self._complete and not self._n_quiet:
            # The first bytes of a request start the time limit for its head.
            self._within(self.settings.head_seconds)
        self._moved = False
        super().data_received(data)
        # Bytes other than body that complete no head (headers, trailers, chunk extensions) are limited,
        # because the parser collects them by copying.
        self._n_quiet = 0 if self._moved else self._n_quiet + len(data)
        if self._n_quiet > self.settings.max_head_bytes:
            self._refuse(431)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= _MOST_PIPELINED:
            raise _TooMuch
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # Ignore trailers, which come after the checks of the head.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.settings.max_head_bytes or len(self.headers) > self.settings.max_headers:
            self._status = 431
            raise _TooMuch
        self._in_head, self._complete, self._moved = False, False, True
        # The application answers a late body with 408; this closes a connection that continues after it.
        self._within(self.settings.body_seconds + _LINGER_SECONDS)
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        self._moved = True

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head, self._complete, self._moved = True, True, True
        if self.cycle.response_complete:
            self._rest()
        else:
            self._within(None)
            self.room.use(self)
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_later()
        elif self.cycle.response_complete and self._complete:
            self._rest()
        elif self.cycle.response_complete:
            # Answered before the body was complete; give the client a moment to notice.
            self._within(_LINGER_SECONDS)
        if self.transport.get_write_buffer_size():
            self._write_within(self.settings.write_seconds)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._writing is None:
            self._write_within(self.settings.write_seconds)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write_within(None)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._abort_later()

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self._abort_later()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._status)

    def _rest(self) -> None:
        """Wait for the next request."""
        self.room.wait(self)
        self._within(self.settings.idle_seconds)

    def _refuse(self, status: int) -> None:
        """Answer a request that never reaches the application, in its error format, and close."""
        if self.transport.is_closing():
            return
        if self._running is None or self._running.response_complete or not self._running.response_started:
            error = {"type": "refused", "message": _WORDS[status], "where": ""}
            content = json.dumps({"error": error}).encode()
            self.transport.write(
                STATUS_LINE[status] + b"content-type: application/json\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(content), content)
            )
        self.end()

    def _within(self, seconds: float | None) -> None:
        """Close the connection after a time without progress; None stops the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        if self._running is not None and not self._running.response_complete and self._complete:
            # Stray bytes during the response.
            self._within(self.settings.head_seconds)
        elif self._in_head and self._n_quiet:
            self._refuse(408)
        else:
            self.end()

    def _write_within(self, seconds: float | None) -> None:
        if self._writing is not None:
            self._writing.cancel()
        self._writing = None if seconds is None else self.loop.call_later(seconds, self._unread)

    def _unread(self) -> None:
        self._writing = None
        if self.transport.get_write_buffer_size():
            self.end(at_once=True)

    def end(self, *, at_once: bool = False) -> None:
        """Close the connection and stop its application."""
        self._stop_cycles()
        if at_once:
            self.transport.abort()
        else:
            self.transport.close()
            self._abort_later()

    def _stop_cycles(self) -> None:
        for cycle in (self._running, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()

    def _abort_later(self) -> None:
        """Abort a closed connection whose client does not read the rest in time."""
        self._within(None)
        self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)


class _TooMuch(Exception):
    """Stops the parser."""


def limited_protocol(settings: ServeSettings) -> type[LimitedProtocol]:
    """The protocol class for one server, for uvicorn's `http` setting."""
    members: dict[str, Any] = {"settings": settings, "room": Room(settings)}
    return type("LimitedProtocol", (LimitedProtocol,), members)
