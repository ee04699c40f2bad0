# SPDX-License-Identifier: Apache-2.0
"""Dynamic batching: merging, bounded waiting and deadlines, with a judge that waits at a gate."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from autoj_reward.judge.batching.batcher import DeadlinePassed, DynamicBatcher, Kind, Outcome, QueueFull
from autoj_reward.judgments import Provenance, RatingJudgment
from autoj_reward.types import Request, Usage


class Watched:
    """A judge that answers while its gate is open, and remembers its batches."""

    def __init__(self, *, open: bool = True) -> None:
        self.gate = threading.Event()
        if open:
            self.gate.set()
        self.batches: list[tuple[Kind, list[str]]] = []
        self.done: list[int] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        self.broken = ""

    def judge(self, kind: Kind, requests: list[Request]) -> list[Outcome]:
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            self.batches.append((kind, [str(r.prompt) for r in requests]))
        assert self.gate.wait(20)
        with self._lock:
            self._now -= 1
        if self.broken:
            raise RuntimeError(self.broken)
        return [judgment_of(str(r.prompt)) for r in requests]

    def batch_done(self, kind: Kind, outcomes: Sequence[Outcome], seconds: float) -> None:
        self.done.append(len(outcomes))

    async def has_begun(self, n_batches: int) -> None:
        """Wait until so many batches are at the gate or through it."""
        async with asyncio.timeout(10):
            while len(self.batches) < n_batches:
                await asyncio.sleep(0.001)


def judgment_of(name: str) -> RatingJudgment:
    provenance = Provenance(judge=name, template="", engine="")
    return RatingJudgment(
        mode="direct", distribution=None, samples=(), failure=None, usage=Usage(), provenance=provenance
    )


def requests(*names: str) -> list[Request]:
    return [Request(prompt=name, completions=("",)) for name in names]


def run(watched: Watched, steps: Callable[[DynamicBatcher], Awaitable[Any]], **settings: Any) -> Any:
    sizes: dict[Kind, int] = {"rate": 4, "compare": 2}
    given: dict[str, Any] = {
        "window_seconds": 0.02, "at_once": 1, "max_waiting": 100, "sizes": sizes, **settings,
    }  # fmt: skip

    async def inside() -> Any:
        window = DynamicBatcher(watched.judge, pool, watch=watched, **given)
        return await steps(window)

    with ThreadPoolExecutor(given["at_once"] + 1) as pool:
        return asyncio.run(inside())


def names(judgments: Sequence[Any]) -> list[str]:
    return [j.provenance.judge for j in judgments]


def test_requests_within_the_window_are_one_batch_and_each_gets_its_own_answers() -> None:
    watched = Watched()

    async def steps(window: DynamicBatcher) -> Any:
        return await asyncio.gather(
            window.judge("rate", requests("a", "b"), seconds=5),
            window.judge("rate", requests("c"), seconds=5),
        )

    first, second = run(watched, steps)
    assert names(first) == ["a", "b"]
    assert names(second) == ["c"]
    assert watched.batches == [("rate", ["a", "b", "c"])]


def test_a_large_request_is_cut_into_batches_and_put_together_again() -> None:
    watched = Watched()
    wanted = [str(n) for n in range(11)]
    judged = run(watched, lambda w: w.judge("rate", requests(*wanted), seconds=5))
    assert names(judged) == wanted
    assert [len(batch) for _, batch in watched.batches] == [4, 4, 3]


def test_a_full_batch_does_not_wait_for_the_window() -> None:
    """It would be refused at its deadline, long before the window ends."""
    judged = run(Watched(), lambda w: w.judge("rate", requests(*"abcd"), seconds=5), window_seconds=3600.0)
    assert names(judged) == list("abcd")


def test_kinds_are_judged_in_batches_of_their_own_and_the_longest_waiting_first() -> None:
    watched = Watched()

    async def steps(window: DynamicBatcher) -> None:
        await asyncio.gather(
            window.judge("compare", requests("p"), seconds=5), window.judge("rate", requests("a"), seconds=5)
        )

    run(watched, steps)
    assert [kind for kind, _ in watched.batches] == ["compare", "rate"]


def test_while_the_engine_is_busy_batches_fill_and_one_full_one_is_prepared() -> None:
    watched = Watched(open=False)

    async def steps(window: DynamicBatcher) -> None:
        tasks = [asyncio.create_task(window.judge("rate", requests("first"), seconds=5))]
        await watched.has_begun(1)
        for name in "abcdefghij":
            tasks.append(asyncio.create_task(window.judge("rate", requests(name), seconds=5)))
            await asyncio.sleep(0)
        await watched.has_begun(2)
        assert window.n_batches == 2
        assert window.n_waiting == 6
        watched.gate.set()
        await asyncio.gather(*tasks)

    run(watched, steps)
    assert [len(batch) for _, batch in watched.batches] == [1, 4, 4, 2]
    assert watched.most_at_once == 2


def test_full_batches_of_one_kind_do_not_keep_the_other_kind_waiting() -> None:
    watched = Watched(open=False)

    async def steps(window: DynamicBatcher) -> None:
        ended = False

        async def crowd() -> None:
            while not ended:
                await window.judge("rate", requests("r"), seconds=5)

        tasks = [asyncio.create_task(crowd()) for _ in range(13)]
        await watched.has_begun(2)
        compared = asyncio.create_task(window.judge("compare", requests("c"), seconds=5))
        await asyncio.sleep(0)
        watched.gate.set()
        await compared
        ended = True
        await asyncio.gather(*tasks)

    run(watched, steps, window_seconds=0.0)
    # Two batches were running, and two full ones had waited longer.
    assert [kind for kind, _ in watched.batches].index("compare") == 4


def test_engines_that_batch_by_themselves_are_asked_several_times_at_once() -> None:
    watched = Watched(open=False)

    async def steps(window: DynamicBatcher) -> None:
        tasks = []
        for n, name in enumerate("abc", start=1):
            tasks.append(asyncio.create_task(window.judge("rate", requests(name), seconds=5)))
            await watched.has_begun(n)
        watched.gate.set()
        await asyncio.gather(*tasks)

    run(watched, steps, at_once=3)
    assert watched.most_at_once == 3


def test_past_the_queue_is_refused_with_a_time_and_not_a_wait() -> None:
    watched = Watched(open=False)

    async def steps(window: DynamicBatcher) -> QueueFull:
        waiting = [asyncio.create_task(window.judge("rate", requests(*"abcd"), seconds=5)) for _ in range(3)]
        await watched.has_begun(2)
        assert window.n_waiting == 4
        with pytest.raises(QueueFull) as refused:
            await window.judge("rate", requests("x", "y", "z"), seconds=5)
        watched.gate.set()
        await asyncio.gather(*waiting)
        assert names(await window.judge("rate", requests("later"), seconds=5)) == ["later"]
        return refused.value

    # A request that waits while the gate is shut ends at its deadline instead.
    refusal = run(watched, steps, max_waiting=6)
    assert 1 <= refusal.retry_seconds <= 60


def test_a_deadline_gives_up_the_places_and_spares_the_engine() -> None:
    watched = Watched(open=False)

    async def steps(window: DynamicBatcher) -> None:
        first = asyncio.create_task(window.judge("rate", requests("first"), seconds=5))
        await watched.has_begun(1)
        with pytest.raises(DeadlinePassed):
            await window.judge("rate", requests("late"), seconds=0.05)
        assert window.n_waiting == 0
        watched.gate.set()
        await first
        await window.judge("rate", requests("next"), seconds=5)

    run(watched, steps)
    assert watched.batches == [("rate", ["first"]), ("rate", ["next"])]


def test_a_client_that_leaves_in_the_middle_takes_only_its_own_places() -> None:
    watched = Watched(open=False)

    async def steps(window: DynamicBatcher) -> Any:
        first = asyncio.create_task(window.judge("rate", requests("first"), seconds=5))
        await watched.has_begun(1)
        leaves = asyncio.create_task(window.judge("rate", requests("x", "y"), seconds=5))
        stays = asyncio.create_task(window.judge("rate", requests("stays"), seconds=5))
        await asyncio.sleep(0)
        leaves.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaves
        assert window.n_waiting == 1
        watched.gate.set()
        await first
        return names(await stays)

    assert run(watched, steps) == ["stays"]
    assert watched.batches[1] == ("rate", ["stays"])


def test_requests_that_gave_up_while_the_engine_hangs_do_not_pile_up() -> None:
    watched = Watched(open=False)

    async def steps(window: DynamicBatcher) -> int:
        first = asyncio.create_task(window.judge("rate", requests("first"), seconds=5))
        await watched.has_begun(1)
        for _ in range(120):
            with pytest.raises(DeadlinePassed):
                await window.judge("rate", requests("late"), seconds=0.0001)
        kept = len(window._queues["rate"].slots)
        watched.gate.set()
        await first
        return kept

    assert run(watched, steps, max_waiting=10) <= 11


def test_a_failure_reaches_all_requests_of_its_batch_and_no_others() -> None:
    watched = Watched()
    watched.broken = "the engine burns"

    async def steps(window: DynamicBatcher) -> Any:
        both = await asyncio.gather(
            window.judge("rate", requests("a"), seconds=5),
            window.judge("rate", requests("b"), seconds=5),
            return_exceptions=True,
        )
        watched.broken = ""
        return both, names(await window.judge("rate", requests("c"), seconds=5))

    both, after = run(watched, steps)
    assert [str(error) for error in both] == ["the engine burns"] * 2
    assert after == ["c"]


def test_calls_of_a_whole_kind_are_neither_cut_nor_mixed() -> None:
    """A list's verdicts depend on what else is in it."""
    watched = Watched()

    async def steps(batcher: DynamicBatcher) -> Any:
        return await asyncio.gather(
            batcher.judge("rate", requests("a", "b", "c", "d", "e"), seconds=None),
            batcher.judge("rate", requests("f"), seconds=None),
            batcher.judge("rate", requests("g", "h"), seconds=None),
        )

    found = run(watched, steps, sizes={"rate": 3, "compare": 3}, whole={"rate"})
    assert [names(own) for own in found] == [["a", "b", "c", "d", "e"], ["f"], ["g", "h"]]
    assert sorted(batch for _, batch in watched.batches) == [["a", "b", "c", "d", "e"], ["f"], ["g", "h"]]
