# SPDX-License-Identifier: Apache-2.0
"""Share work between the processes of a training run; an error on one rank is raised on all.

All collectives run on the calling thread, over a gloo group of their own. Over NCCL they would need a device,
which threads other than the trainer's have not set.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import pickle
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from autoj_reward.errors import AutojRewardError

T = TypeVar("T")

_BEAT_SECONDS = 2.0
"""Between two looks at the others while this rank works."""

_PATIENCE = datetime.timedelta(minutes=30)
"""For a rank that still generates while others wait. One that is gone is noticed at once."""


class ProcessGroup:
    """The processes of a run, this one among them.

    Args:
        group: A gloo group of all of them.
    """

    def __init__(self, group: Any) -> None:
        import torch.distributed as dist

        self.group = group
        self.rank: int = dist.get_rank(group)
        self.size: int = dist.get_world_size(group)

    def gather(self, value: T) -> list[T]:
        """Every rank's value, by rank. Every rank must call it.

        Raises:
            AutojRewardError: A rank is gone, or did not come in half an hour.
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
        """Do something on every rank, and give every rank all results.

        The work runs in a thread of its own, so that this one can tell the others, every two seconds, that
        all is well here, and hear of it when it is not there.

        Args:
            work: What this rank does. It calls no collective.

        Returns:
            The results by rank.

        Raises:
            Exception: What `work` raised on one rank is raised on all of them, at most a few seconds later,
                also where this rank's work is not done yet.
        """
        mine = _Collective(work)
        threading.Thread(target=mine.run, name="autoj-reward-rank", daemon=True).start()
        while True:
            mine.done.wait(_BEAT_SECONDS)
            states = self.gather((mine.done.is_set(), mine.sendable_error()))
            for rank, (_, error) in enumerate(states):
                if error is not None:
                    if rank == self.rank and mine.error is not None:
                        raise mine.error
                    raise _received(error, rank)
            if all(done for done, _ in states):
                return self.gather(mine.result())


@dataclass(slots=True)
class _Collective(Generic[T]):
    call: Callable[[], T]
    done: threading.Event = field(default_factory=threading.Event)
    results: list[T] = field(default_factory=list)
    error: BaseException | None = None

    def run(self) -> None:
        try:
            self.results.append(self.call())
        except BaseException as error:
            self.error = error
        finally:
            self.done.set()

    def result(self) -> T:
        return self.results[0]

    def sendable_error(self) -> bytes | str | None:
        if self.error is None:
            return None
        with contextlib.suppress(Exception):
            sent = pickle.dumps(self.error)
            pickle.loads(sent)  # noqa: S301 - our own bytes, to see whether the others could read them
            return sent
        return f"{type(self.error).__name__}: {self.error}"


def _received(error: bytes | str, rank: int) -> BaseException:
    if isinstance(error, str):
        return AutojRewardError(f"on rank {rank}: {error}")
    received: BaseException = pickle.loads(error)  # noqa: S301 - from a process of the same run
    received.add_note(f"raised on rank {rank}")
    return received


_groups: list[tuple[Any, ProcessGroup]] = []
_making = threading.Lock()


def current_process_group() -> ProcessGroup | None:
    """The run's processes; None for a single process.

    The first call makes the gloo group, which is itself a collective: every rank must come here.
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
    """Let go of the groups while the process is still whole.

    Whatever refers to a group, the run's own one too, keeps its threads alive; a process that ends under
    them is aborted.
    """
    import torch.distributed as dist

    groups = [ranks.group for _, ranks in _groups]
    _groups.clear()
    # The run may have ended all groups by itself.
    with contextlib.suppress(Exception):
        if dist.is_initialized():
            for group in groups:
                dist.destroy_process_group(group)
