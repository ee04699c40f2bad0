# SPDX-License-Identifier: Apache-2.0
"""Short leases on pending cache keys, so that two processes do not ask for the same output.

A lease is a row with an owner and an expiry time, not a lock: no transaction is open while an engine works.
It expires if it is not renewed, and at once if its process on the same machine has died.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LEASE_SECONDS = 30.0
"""Lifetime of a lease; it is renewed three times within it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The state of the keys that a caller wanted to judge.

    Attributes:
        mine: Now leased to the caller, who judges and releases them.
        stored: Judged in the meantime.
        taken: Leased to another caller.
    """

    mine: frozenset[bytes]
    stored: frozenset[bytes]
    taken: frozenset[bytes]


def new_owner() -> str:
    """A unique name for one call: machine, process id and start, and a random part."""
    return f"{_machine()}|{os.getpid()}|{_started(os.getpid())}|{uuid.uuid4().hex}"


def claim(
    connection: sqlite3.Connection, keys: Iterable[bytes], owner: str, *, over_stored: bool = False
) -> Claim:
    """Lease the keys that are neither stored nor leased, in a write transaction.

    With `over_stored`, stored keys are leased as well, to judge them again.
    """
    now = time.time()
    mine: set[bytes] = set()
    stored: set[bytes] = set()
    taken: set[bytes] = set()
    for key in keys:
        known = connection.execute("SELECT 1 FROM judgments WHERE key = ?", (key,)).fetchone()
        if known and not over_stored:
            stored.add(key)
            continue
        lease = connection.execute("SELECT owner, expires FROM leases WHERE key = ?", (key,)).fetchone()
        # An expiry far ahead means that the clock was set back since.
        if lease and now < lease[1] < now + 10 * LEASE_SECONDS and lease[0] != owner and _lives(lease[0]):
            taken.add(key)
        else:
            mine.add(key)
    connection.executemany(
        "INSERT OR REPLACE INTO leases VALUES (?, ?, ?)",
        [(key, owner, now + LEASE_SECONDS) for key in mine],
    )
    return Claim(frozenset(mine), frozenset(stored), frozenset(taken))


def renew(connection: sqlite3.Connection, owner: str) -> None:
    """Extend all of an owner's leases, within a write transaction."""
    connection.execute("UPDATE leases SET expires = ? WHERE owner = ?", (time.time() + LEASE_SECONDS, owner))


def release(connection: sqlite3.Connection, keys: Sequence[bytes], owner: str) -> None:
    """Release an owner's leases, within a write transaction."""
    connection.executemany("DELETE FROM leases WHERE key = ? AND owner = ?", [(key, owner) for key in keys])


@contextmanager
def kept_alive(renewed: Callable[[], None]) -> Iterator[None]:
    """Call `renewed` three times per lease lifetime, in a thread, while the body runs."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(LEASE_SECONDS / 3):
            renewed()

    thread = threading.Thread(target=beat, name="autoj-reward-leases", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _lives(owner: str) -> bool:
    """Whether the owner's process may still run; True if unknown."""
    parts = owner.split("|")
    if len(parts) != 4 or parts[0] != _machine() or not parts[0]:
        return True
    started = _started(int(parts[1]))
    return started == parts[2] or (not started and _is_hidden(int(parts[1])))


def _is_hidden(pid: int) -> bool:
    """Whether a process runs as another user, which /proc may not show (`hidepid`)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        pass
    return False


@cache
def _machine() -> str:
    """The machine's boot id and PID namespace; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Start time of a process in clock ticks since boot; empty if it has ended or is not visible."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The name in parentheses may hold blanks and parentheses.
    fields = status.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
