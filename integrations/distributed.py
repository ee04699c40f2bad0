# SPDX-License-Identifier: Apache-2.0
"""Share work between the processes of a training run; an error on one rank is raised on all.

All collectives run on the calling thread, over a separate gloo group. NCCL would need a device, which only
the trainer's thread has set.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import pickle
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from autoj_reward.errors import AutojRewardError

T = TypeVar("T")

_BEAT_SECONDS = 2.0
"""Interval at which ranks exchange their state while they work."""

_PATIENCE = datetime.timedelta(minutes=30)
"""Longest wait for a rank that still generates. A rank that has ended is noticed at once."""


class ProcessGroup:
    """The processes of a training run, with a gloo group of all ranks."""

    def __init__(self, group: Any) -> None:
        import torch.distributed as dist

        self.group = group
        self.rank: int = dist.get_rank(group)
        self.size: int = dist.get_world_size(group)

    def gather(self, value: T) -> list[T]:
        """Every rank's value, by rank. Every rank must call it.

        Raises:
            AutojRewardError: A rank has ended, or did not call it within half an hour.
        """
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(values, value, group=self.group)
        except RuntimeError as error:
            raise AutojRewardError(
                f"rank {self.rank} did not get the other ranks' completions: {error}",
                hint="look at the other ranks' logs: one of them has ended, or hangs",
            ) from error
        return values

    def run(self, work: Callable[[], T]) -> list[T]:
        """Call `work` on every rank and return all results.

        The work runs in a thread, so that the calling thread can exchange heartbeats and learn of errors.

        Args:
            work: This rank's work. It must not call collectives.

        Returns:
            The results by rank.

        Raises:
            Exception: What `work` raised on any rank, a few seconds later on the others, even if their own
                work is not done.
        """
        future: Future[T] = Future()
        threading.Thread(target=_run, args=(work, future), name="autoj-reward-rank", daemon=True).start()
        while True:
            wait([future], _BEAT_SECONDS)
            done = future.done()
            error = future.exception() if done else None
            states = self.gather((done, _packed(error)))
            for rank, (_, packed) in enumerate(states):
                if packed is not None:
                    raise error if rank == self.rank and error is not None else _unpacked(packed, rank)
            if all(ready for ready, _ in states):
                return self.gather(future.result())


def _run(work: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


def _packed(error: BaseException | None) -> bytes | str | None:
    """An error for other ranks; its text if it cannot be pickled."""
    if error is None:
        return None
    with contextlib.suppress(Exception):
        packed = pickle.dumps(error)
        pickle.loads(packed)  # noqa: S301 - our own bytes, to see whether other ranks could load them
        return packed
    return f"{type(error).__name__}: {error}"


def _unpacked(packed: bytes | str, rank: int) -> BaseException:
    if isinstance(packed, str):
        return AutojRewardError(f"on rank {rank}: {packed}")
    error: BaseException = pickle.loads(packed)  # noqa: S301 - from a process of the same run
    error.add_note(f"raised on rank {rank}")
    return error


_groups: list[tuple[Any, ProcessGroup]] = []
_making = threading.Lock()


def current_process_group() -> ProcessGroup | None:
    """The processes of the run; None if there is only one.

    The first call makes the gloo group, which is a collective: every rank must make that call.
    """
    if "torch" not in sys.modules:
        return None
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() < 2:
        return None
    world = dist.group.WORLD
    with _making:
        if not _groups or _groups[0][0] is not world:
            group = dist.new_group(backend="gloo", timeout=_PATIENCE)
            _groups[:] = [(world, ProcessGroup(group))]
            atexit.unregister(_end)
            atexit.register(_end)
        return _groups[0][1]


def _end() -> None:
    """Drop all references to process groups before the interpreter shuts down.

    A reference keeps a group's threads alive, and a process that ends under them is aborted.
    """
    import torch.distributed as dist

    groups = [ranks.group for _, ranks in _groups]
    _groups.clear()
    # The run may have ended all groups by itself.
    with contextlib.suppress(Exception):
        if dist.is_initialized():
            for group in groups:
                dist.destroy_process_group(group)
