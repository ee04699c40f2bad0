# SPDX-License-Identifier: Apache-2.0
"""A judge's async calls: the requests of concurrent coroutines are judged together, in threads."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from autoj_reward.errors import EngineRejected, EngineUnavailable, StoreError
from autoj_reward.judge.batching.batcher import DynamicBatcher, Kind, Outcome
from autoj_reward.judgments import Judgment
from autoj_reward.types import Request

_OF_ALL = (EngineUnavailable, EngineRejected, StoreError)
"""Errors that concern a whole batch, not one of its requests."""
_BATCH = 1024
_WINDOW_SECONDS = 0.002

Call = Callable[[Sequence[Request]], Sequence[Judgment]]


class BatchCalls(Protocol):
    """The calls of a judge that take a whole batch."""

    @property
    def kinds_in_lists(self) -> Container[Kind]:
        """Kinds that are judged in lists, whose verdicts depend on what else is in the call."""
        ...

    def rate_requests(self, requests: Sequence[Request]) -> Sequence[Judgment]: ...
    def compare_requests(self, requests: Sequence[Request]) -> Sequence[Judgment]: ...


def judge_batch(judge: BatchCalls, kind: Kind, requests: Sequence[Request]) -> list[Outcome]:
    """One outcome for each request; if one of them cannot be judged, the others are judged one by one, unless
    they are a list.
    """
    call: Call = judge.rate_requests if kind == "rate" else judge.compare_requests
    try:
        return list(call(requests))
    except _OF_ALL as error:
        return [error] * len(requests)
    except Exception as error:
        if len(requests) == 1 or kind in judge.kinds_in_lists:
            return [error] * len(requests)
    return [judge_batch(judge, kind, [request])[0] for request in requests]


class AsyncCalls:
    """Judges for coroutines of any event loop.

    Args:
        judge: Judges batches, in two threads: one batch is prepared while another is judged.
    """

    def __init__(self, judge: BatchCalls) -> None:
        self._judge = judge
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._batchers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, DynamicBatcher] = (
            weakref.WeakKeyDictionary()
        )

    async def judge(self, kind: Kind, requests: Sequence[Request]) -> list[Judgment]:
        """Judge requests together with those of other coroutines of the loop, lists by themselves.

        Args:
            kind: Their kind.
            requests: Completions or pairs; they fit the judge's template.

        Raises:
            EngineError: The engine failed as a whole.
        """
        if not requests:
            return []
        return await self._of_loop(asyncio.get_running_loop()).judge(kind, requests, seconds=None)

    def close(self) -> None:
        """End the threads after the running batches."""
        with self._lock:
            threads, self._threads = self._threads, None
            self._batchers.clear()
        if threads is not None:
            threads.shutdown(wait=False)

    def _of_loop(self, loop: asyncio.AbstractEventLoop) -> DynamicBatcher:
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(2, thread_name_prefix="autoj-reward-async")
            if loop not in self._batchers:
                self._batchers[loop] = DynamicBatcher(
                    lambda kind, requests: judge_batch(self._judge, kind, requests),
                    self._threads,
                    sizes={"rate": _BATCH, "compare": _BATCH // 2},
                    whole=self._judge.kinds_in_lists,
                    window_seconds=_WINDOW_SECONDS,
                    at_once=1,
                )
            return self._batchers[loop]
