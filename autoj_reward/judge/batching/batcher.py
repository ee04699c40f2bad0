# SPDX-License-Identifier: Apache-2.0
"""Dynamic batching: merge requests of many callers into batches, first come first served.

Everything but the judging runs on the event loop, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Literal, Protocol

from autoj_reward.judgments import Judgment
from autoj_reward.types import Request

Kind = Literal["rate", "compare"]
Outcome = Judgment | Exception
"""Result of one request of a batch."""

_LONGEST_RETRY_SECONDS = 60


class QueueFull(Exception):
    """Too many judgments wait; `retry_seconds` says when fewer should."""

    def __init__(self, message: str, retry_seconds: int) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class DeadlinePassed(Exception):
    """A request was not judged in time."""


class Watch(Protocol):
    """Is told about every batch."""

    def batch_done(self, kind: Kind, outcomes: Sequence[Outcome], seconds: float) -> None: ...


@dataclass(slots=True, eq=False)
class _Pending:
    """One client's request: its judgments so far, and the future that waits for them."""

    answered: asyncio.Future[list[Judgment]]
    results: list[Judgment | None]
    n_left: int
    n_waiting: int


@dataclass(slots=True)
class _Slot:
    """One judgment in a queue."""

    pending: _Pending
    index: int
    request: Request
    since: float


@dataclass(slots=True)
class _Queue:
    """The waiting judgments of one kind, the size of a full batch, and whether a batch is one call's."""

    size: int
    whole: bool = False
    slots: deque[_Slot] = field(default_factory=deque)
    n_live: int = 0


class DynamicBatcher:
    """Merges requests into batches and has them judged in threads.

    A batch that is not full starts when its first request has waited for the window and fewer than `at_once`
    batches run. One more full batch may start, so that the engine never waits for a batch to be prepared.
    While the engine is busy, batches fill.

    Args:
        judge: Judges a batch of one kind: one outcome for each request, in order.
        executor: Runs `judge`; needs `at_once` + 1 threads.
        sizes: Size of a full batch, by kind.
        whole: Kinds of which each call is a batch of its own, neither cut nor mixed with others.
        window_seconds: How long the first request of a batch waits for others.
        at_once: Batches that run concurrently.
        max_waiting: Most judgments that may wait.
        watch: Told about every batch; None for no one.
    """

    def __init__(
        self,
        judge: Callable[[Kind, list[Request]], list[Outcome]],
        executor: Executor,
        *,
        sizes: Mapping[Kind, int],
        whole: Container[Kind] = (),
        window_seconds: float,
        at_once: int,
        max_waiting: float = math.inf,
        watch: Watch | None = None,
    ) -> None:
        self._judge = judge
        self._executor = executor
        self._queues = {kind: _Queue(size, kind in whole) for kind, size in sizes.items()}
        self._window = window_seconds
        self._at_once = at_once
        self._max_waiting = max_waiting
        self._watch = watch
        self._timer: asyncio.TimerHandle | None = None
        self._rate = 0.0
        self.n_waiting = 0
        """Judgments in the queues."""
        self.n_batches = 0
        """Running batches."""

    async def judge(
        self, kind: Kind, requests: Sequence[Request], *, seconds: float | None
    ) -> list[Judgment]:
        """Judge requests.

        Args:
            kind: Their kind.
            requests: Completions or pairs, at least one.
            seconds: The deadline; None for none.

        Returns:
            One judgment for each, in order.

        Raises:
            QueueFull: Too many wait already.
            DeadlinePassed: The deadline passed.
            Exception: Judging failed.
        """
        if self.n_waiting + len(requests) > self._max_waiting:
            raise QueueFull(
                f"{self.n_waiting:,} judgments are waiting; at most {self._max_waiting:,} may",
                self._retry_seconds(),
            )
        loop = asyncio.get_running_loop()
        n = len(requests)
        pending = _Pending(loop.create_future(), [None] * n, n, n)
        queue = self._queues[kind]
        now = loop.time()
        queue.slots.extend(_Slot(pending, i, request, now) for i, request in enumerate(requests))
        queue.n_live += n
        self.n_waiting += n
        self._start_due()
        try:
            async with asyncio.timeout(seconds):
                return await pending.answered
        except TimeoutError:
            raise DeadlinePassed(f"not judged within {seconds:g} seconds") from None
        finally:
            self._leave(pending, queue)

    def _leave(self, pending: _Pending, queue: _Queue) -> None:
        """Remove a request that is done or whose client left from its queue."""
        if not pending.n_waiting:
            return
        self.n_waiting -= pending.n_waiting
        queue.n_live -= pending.n_waiting
        pending.n_waiting = 0
        if len(queue.slots) > queue.n_live + self._max_waiting:
            # Clients that come and go while an engine hangs must not fill the memory with their slots.
            queue.slots = deque(slot for slot in queue.slots if slot.pending.n_waiting)

    def _start_due(self) -> None:
        """Start every batch that is due, and set a timer for the next one."""
        loop = asyncio.get_running_loop()
        while (kind := self._due(loop.time())) is not None:
            self._start(kind, self._take(self._queues[kind]))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        heads = [queue.slots[0].since for queue in self._queues.values() if queue.slots]
        if heads and self.n_batches < self._at_once:
            self._timer = loop.call_at(min(heads) + self._window, self._start_due)

    def _due(self, now: float) -> Kind | None:
        """The kind whose batch starts next: of those that may, the one that has waited longest."""
        for queue in self._queues.values():
            while queue.slots and not queue.slots[0].pending.n_waiting:
                queue.slots.popleft()
        full = {kind for kind, queue in self._queues.items() if queue.n_live >= queue.size}
        waited = [
            (queue.slots[0].since, kind)
            for kind, queue in self._queues.items()
            if queue.slots and (kind in full or now >= queue.slots[0].since + self._window)
        ]
        idle = self.n_batches < self._at_once
        # Any full batch allows one more batch, and the one that has waited longest starts: otherwise full
        # batches of one kind could keep the other kind waiting for ever.
        ahead = self.n_batches == self._at_once and bool(full)
        return min(waited)[1] if waited and (idle or ahead) else None

    def _take(self, queue: _Queue) -> list[_Slot]:
        batch: list[_Slot] = []
        while queue.slots and (queue.whole or len(batch) < queue.size):
            if queue.whole and batch and queue.slots[0].pending is not batch[0].pending:
                break
            slot = queue.slots.popleft()
            if slot.pending.n_waiting:
                slot.pending.n_waiting -= 1
                batch.append(slot)
        queue.n_live -= len(batch)
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
            if self._watch is not None:
                self._watch.batch_done(kind, outcomes, seconds)
            _hand_out(batch, outcomes)
            self._start_due()

        requests = [slot.request for slot in batch]
        loop.run_in_executor(self._executor, self._judge, kind, requests).add_done_callback(done)

    def _retry_seconds(self) -> int:
        """Seconds until the queues are judged, at the rate of the last batches."""
        if not self._rate:
            return 1
        rate = self._rate * min(self._at_once, max(self.n_batches, 1))
        return max(1, min(_LONGEST_RETRY_SECONDS, math.ceil(self.n_waiting / rate)))


def _hand_out(batch: Sequence[_Slot], outcomes: Sequence[Outcome]) -> None:
    for slot, outcome in zip(batch, outcomes, strict=True):
        pending = slot.pending
        if pending.answered.done():
            continue
        if isinstance(outcome, Exception):
            pending.answered.set_exception(outcome)
            continue
        pending.results[slot.index] = outcome
        pending.n_left -= 1
        if not pending.n_left:
            pending.answered.set_result([result for result in pending.results if result is not None])
