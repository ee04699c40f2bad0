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
"""How long an interruption that did not end a wait goes unnoticed."""


class LoopThread:
    """Runs coroutines for any number of threads, and ends with its owner.

    A caller that is interrupted (Ctrl-C, a timeout signal) takes its coroutine with it: the coroutine is
    cancelled, and has cleaned up, before the interruption reaches its caller.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self.at_end: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """What runs last in the loop, however it ends."""
        self._thread = threading.Thread(target=_serve, args=(self._loop, self.at_end), name=name, daemon=True)
        self._thread.start()
        # Also runs when the interpreter ends, so that an engine that was never closed leaves no open sockets.
        self.stop = weakref.finalize(self, _stop, self._loop, self._thread, os.getpid())
        """Cancel what still runs and end the thread. A second call does nothing."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns or raises.

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
    """Wait until it is done, or interrupted.

    In short waits: a signal that another thread is handed, or that comes just before a wait begins, does not
    end it, and Python raises its exception only afterwards.
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
        # A forked child has neither the thread nor a right to wake the parent's loop.
        return
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():
        thread.join(timeout=10)


async def run_all(work: Iterator[tuple[int, Coroutine[Any, Any, T]]], *, at_once: int) -> list[tuple[int, T]]:
    """Run coroutines, a bounded number at once, begun in their order; the first that fails ends all.

    Bounded by inputs, not requests: what an input asks for next must not queue behind all other inputs,
    or its beginning has left the server's prefix cache by then.

    Args:
        work: Places and coroutines; made when their turn comes.
        at_once: Most of them running at once.

    Returns:
        Places and results, in the order in which they came.
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
