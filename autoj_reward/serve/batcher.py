# SPDX-License-Identifier: Apache-2.0
"""Dynamic batching: merge the requests of many clients within milliseconds, first come first served.

Everything but the judging happens on the event loop, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Literal, Protocol

from autoj_reward.judgments import Judgment
from autoj_reward.serve.errors import Refusal
from autoj_reward.types import Request

Kind = Literal["rate", "compare"]
Outcome = Judgment | Exception
"""What became of one request of a batch."""

_LONGEST_RETRY_SECONDS = 60


class Watch(Protocol):
    """Who is told about batches."""

    def batch_done(self, kind: Kind, outcomes: Sequence[Outcome], seconds: float) -> None: ...


@dataclass(slots=True, eq=False)
class _Pending:
    """One client's request: some judgments, and who waits for them."""

    answered: asyncio.Future[list[Judgment]]
    results: list[Judgment | None]
    n_left: int
    n_waiting: int


@dataclass(slots=True)
class _Slot:
    """One judgment that waits."""

    ticket: _Pending
    index: int
    request: Request
    since: float


@dataclass(slots=True)
class _Queue:
    """What waits of one kind, and how many make a full batch."""

    size: int
    places: deque[_Slot] = field(default_factory=deque)
    n_live: int = 0


class DynamicBatcher:
    """Merges requests into batches and has them judged in threads.

    A batch that is not full goes when its first request has waited for the window and fewer than `at_once`
    batches are running; one more full batch may be prepared, so that the engine never waits for a batch
    to be laid out. While the engine is busy, batches fill by themselves.

    Args:
        judge: Judges a batch of one kind; one outcome for each request, in order. Called in threads.
        executor: Runs it; needs `at_once` + 1 threads.
        sizes: For each kind, how many requests make a full batch.
        window_seconds: How long the first request of a batch waits for others.
        at_once: Batches running at the same time.
        max_waiting: Judgments that may wait.
        watch: Told about every batch.
    """

    def __init__(
        self,
        judge: Callable[[Kind, list[Request]], list[Outcome]],
        executor: Executor,
        *,
        sizes: Mapping[Kind, int],
        window_seconds: float,
        at_once: int,
        max_waiting: int,
        watch: Watch,
    ) -> None:
        self._judge = judge
        self._executor = executor
        self._lanes = {kind: _Queue(size) for kind, size in sizes.items()}
        self._window = window_seconds
        self._at_once = at_once
        self._max_waiting = max_waiting
        self._watch = watch
        self._timer: asyncio.TimerHandle | None = None
        self._rate = 0.0
        self.n_waiting = 0
        """Judgments that wait for a batch."""
        self.n_batches = 0
        """Running batches."""

    async def judge(self, kind: Kind, requests: Sequence[Request], *, seconds: float) -> list[Judgment]:
        """Have requests judged.

        Args:
            kind: Of all of them.
            requests: Completions or pairs, at least one.
            seconds: The deadline.

        Returns:
            One judgment for each, in order.

        Raises:
            Refusal: Too much waits already (429), or the deadline passed (504).
            Exception: The judging failed.
        """
        if self.n_waiting + len(requests) > self._max_waiting:
            raise Refusal(
                429,
                "queue_full",
                f"{self.n_waiting:,} judgments wait already; {self._max_waiting:,} may",
                retry_after=self._retry_seconds(),
            )
        loop = asyncio.get_running_loop()
        n = len(requests)
        ticket = _Pending(loop.create_future(), [None] * n, n, n)
        lane = self._lanes[kind]
        now = loop.time()
        lane.places.extend(_Slot(ticket, i, request, now) for i, request in enumerate(requests))
        lane.n_live += n
        self.n_waiting += n
        self._go_on()
        try:
            async with asyncio.timeout(seconds):
                return await ticket.answered
        except TimeoutError:
            raise Refusal(504, "deadline", f"not judged within {seconds:g} seconds", retry_after=1) from None
        finally:
            self._leave(ticket, lane)

    def _leave(self, ticket: _Pending, lane: _Queue) -> None:
        """Give up the places of a request whose client is gone."""
        if not ticket.n_waiting:
            return
        self.n_waiting -= ticket.n_waiting
        lane.n_live -= ticket.n_waiting
        ticket.n_waiting = 0
        if len(lane.places) > lane.n_live + self._max_waiting:
            # While an engine hangs, clients that come and go would fill the memory with what they left.
            lane.places = deque(place for place in lane.places if place.ticket.n_waiting)

    def _go_on(self) -> None:
        """Start every batch that is due, and look again when the next one will be."""
        loop = asyncio.get_running_loop()
        while (kind := self._due(loop.time())) is not None:
            self._start(kind, self._take(self._lanes[kind]))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        heads = [lane.places[0].since for lane in self._lanes.values() if lane.places]
        if heads and self.n_batches < self._at_once:
            self._timer = loop.call_at(min(heads) + self._window, self._go_on)

    def _due(self, now: float) -> Kind | None:
        """The kind whose batch goes next: among those that may, the one that has waited longest."""
        for lane in self._lanes.values():
            while lane.places and not lane.places[0].ticket.n_waiting:
                lane.places.popleft()
        full = {kind for kind, lane in self._lanes.items() if lane.n_live >= lane.size}
        waited = [
            (lane.places[0].since, kind)
            for kind, lane in self._lanes.items()
            if lane.places and (kind in full or now >= lane.places[0].since + self._window)
        ]
        idle = self.n_batches < self._at_once
        # A full batch opens the place ahead, and the one that has waited longest takes it: full batches
        # of one kind would otherwise keep the other kind out for ever.
        ahead = self.n_batches == self._at_once and bool(full)
        return min(waited)[1] if waited and (idle or ahead) else None

    def _take(self, lane: _Queue) -> list[_Slot]:
        batch: list[_Slot] = []
        while lane.places and len(batch) < lane.size:
            place = lane.places.popleft()
            if place.ticket.n_waiting:
                place.ticket.n_waiting -= 1
                batch.append(place)
        lane.n_live -= len(batch)
        self.n_waiting -= len(batch)
        return batch

    def _start(self, kind: Kind, batch: list[_Slot]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.n_batches += 1

        def done(judged: asyncio.Future[list[Outcome]]) -> None:
            self.n_batches -= 1
            seconds = loop.time() - began
            error = judged.exception()
            outcomes = [error] * len(batch) if isinstance(error, Exception) else judged.result()
            if not isinstance(error, Exception):
                now = len(batch) / max(seconds, 1e-6)
                self._rate = now if not self._rate else 0.8 * self._rate + 0.2 * now
            self._watch.batch_done(kind, outcomes, seconds)
            _hand_out(batch, outcomes)
            self._go_on()

        requests = [place.request for place in batch]
        loop.run_in_executor(self._executor, self._judge, kind, requests).add_done_callback(done)

    def _retry_seconds(self) -> int:
        """When what waits now will have been judged, at the rate of the last batches."""
        if not self._rate:
            return 1
        rate = self._rate * min(self._at_once, max(self.n_batches, 1))
        return max(1, min(_LONGEST_RETRY_SECONDS, math.ceil(self.n_waiting / rate)))


def _hand_out(batch: Sequence[_Slot], outcomes: Sequence[Outcome]) -> None:
    for place, outcome in zip(batch, outcomes, strict=True):
        ticket = place.ticket
        if ticket.answered.done():
            continue
        if isinstance(outcome, Exception):
            ticket.answered.set_exception(outcome)
            continue
        ticket.results[place.index] = outcome
        ticket.n_left -= 1
        if not ticket.n_left:
            ticket.answered.set_result([result for result in ticket.results if result is not None])
