# SPDX-License-Identifier: Apache-2.0
"""Make SQLite safe around `fork`: close connections and wait for statements before this process forks.

SQLite keeps its locks in the process's memory as well as in the kernel. A forked child inherits only the
former: its own connections would rely on locks that no process holds, and the log could be deleted under it.
So all connections are closed right before a fork, and both sides reopen them when needed.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator

_PATIENCE_SECONDS = 10.0
"""How long a fork waits for statements of other threads."""

logger = logging.getLogger("autoj_reward")


class ForkGate:
    """Counts who is using connections, and closes them all before a fork."""

    def __init__(self) -> None:
        # A plain lock: acquired before the fork, released in both processes.
        self._changed = threading.Condition(threading.Lock())
        self._n_inside = 0
        self._forking = False
        self._own = threading.local()
        self._open: set[sqlite3.Connection] = set()
        self.generation = 0
        """Incremented when all earlier connections were closed, or belong to the parent."""

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Keep other threads from forking while the body runs."""
        depth = getattr(self._own, "depth", 0)
        if not depth:
            with self._changed:
                # New threads wait during a fork, or it might never find all threads outside.
                self._changed.wait_for(lambda: not self._forking)
                self._n_inside += 1
        self._own.depth = depth + 1
        try:
            yield
        finally:
            self._own.depth = depth
            if not depth:
                with self._changed:
                    self._n_inside -= 1
                    self._changed.notify_all()

    def add(self, connection: sqlite3.Connection) -> None:
        """Hold a reference to a connection until its own process closes it."""
        self._open.add(connection)

    def close(self, connection: sqlite3.Connection, generation: int) -> None:
        """Close a connection of a generation, unless it is closed or the parent's."""
        if generation == self.generation:
            self._open.discard(connection)
            connection.close()

    def before_fork(self) -> None:
        """Wait for other threads and close every connection. Holds the lock until after the fork."""
        self._changed.acquire()
        self._forking = True
        own = bool(getattr(self._own, "depth", 0))
        quiet = self._changed.wait_for(lambda: self._n_inside <= own, _PATIENCE_SECONDS)
        if own or not quiet:
            logger.warning("forked while the cache was in use: the child should not use the same cache")
            return
        for connection in list(self._open):
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        self._open.clear()
        self.generation += 1

    def after_in_parent(self) -> None:
        """Let the other threads continue."""
        self._forking = False
        self._changed.notify_all()
        self._changed.release()

    def after_in_child(self) -> None:
        """Start over: other threads do not exist here, and inherited connections are never used."""
        for connection in self._open:
            # Not even garbage-collected: closing would act on the parent's files.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        self._open.clear()
        self._n_inside = bool(getattr(self._own, "depth", 0))
        self.generation += 1
        self._forking = False
        self._changed.release()


GATE = ForkGate()
os.register_at_fork(
    before=GATE.before_fork, after_in_parent=GATE.after_in_parent, after_in_child=GATE.after_in_child
)
