# SPDX-License-Identifier: Apache-2.0
"""Run coroutines on a background event loop, so that synchronous callers can wait for them."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from autoj_reward.errors import EngineRejected

T = TypeVar("T")

_LOOK_SECONDS = 0.5
"""Longest wait before an interruption is noticed."""


class LoopThread:
    """An event loop in a daemon thread, used by any number of threads; stops with its owner.

    If a caller is interrupted (Ctrl-C, a timeout signal), its coroutine is cancelled and cleaned up before
    the exception reaches the caller.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self.at_end: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """Coroutine functions that run last in the loop, however it ends."""
        self._thread = threading.Thread(target=_serve, args=(self._loop, self.at_end), name=name, daemon=True)
        self._thread.start()
        # Also called at interpreter exit, so that an engine that was never closed leaves no open sockets.
        self.stop = weakref.finalize(self, _stop, self._loop, self._thread, os.getpid())
        """Cancel running coroutines and end the thread. A second call does nothing."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine and return its result.

        Raises:
            EngineRejected: The loop was stopped before the coroutine ended.
        """
        outcome: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        def start() -> None:
            tasks.append(self._loop.create_task(work))
            tasks[0].add_done_callback(finish)

        def finish(task: asyncio.Task[T]) -> None:
            if task.cancelled():
                outcome.set_exception(EngineRejected("the engine was closed during the call"))
            elif (error := task.exception()) is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(task.result())

        try:
            self._loop.call_soon_threadsafe(start)
        except RuntimeError:
            work.close()
            raise EngineRejected("the engine is closed") from None
        try:
            _await(outcome)
        except BaseException:
            if not outcome.done():
                self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())
                _await(outcome)
            raise
        return outcome.result()


def _await(outcome: Future[Any]) -> None:
    """Wait until it is done or an exception interrupts the wait.

    In short waits, because a signal handled by another thread, or just before a wait begins, does not end the
    wait: Python raises its exception only afterwards.
    """
    while not wait([outcome], _LOOK_SECONDS).done:
        pass


def _serve(loop: asyncio.AbstractEventLoop, at_end: list[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        for end in at_end:
            loop.run_until_complete(end())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, pid: int) -> None:
    if pid != os.getpid():
        # A forked child does not have the thread and must not wake the parent's loop.
        return
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():
        thread.join(timeout=10)


async def run_all(work: Iterator[tuple[int, Coroutine[Any, Any, T]]], *, at_once: int) -> list[tuple[int, T]]:
    """Run coroutines in order, at most `at_once` at a time; the first that fails cancels all.

    The bound counts inputs, not requests: if an input's next request queued behind all other inputs, its
    prefix would have left the server's cache by then.

    Returns:
        Indexes and results, in order of completion.
    """
    results: list[tuple[int, T]] = []

    async def worker() -> None:
        for i, one in work:
            results.append((i, await one))

    await together([worker() for _ in range(at_once)])
    return results


async def together(work: list[Any]) -> list[Any]:
    """Run coroutines together; the first that fails cancels the others."""
    if len(work) == 1:
        return [await work[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from first.__cause__
    return [task.result() for task in tasks]
