# SPDX-License-Identifier: Apache-2.0
"""Short leases on pending cache keys, so that two processes do not ask for the same output.

A lease is a row with an owner and a time, not a lock: nothing is held while an engine works, a lease that
is not renewed runs out, and one whose process has died is void at once on the same machine.
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
"""How long a lease holds without being renewed; it is renewed three times in that time."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What became of the keys that a caller wanted to judge.

    Attributes:
        mine: Leased to the caller, who now judges them and then releases them.
        stored: Judged meanwhile.
        taken: Leased to another caller.
    """

    mine: frozenset[bytes]
    stored: frozenset[bytes]
    taken: frozenset[bytes]


def new_owner() -> str:
    """A name for one call: machine, process, and the call itself."""
    return f"{_machine()}|{os.getpid()}|{_started(os.getpid())}|{uuid.uuid4().hex}"


def claim(
    connection: sqlite3.Connection, keys: Iterable[bytes], owner: str, *, over_stored: bool = False
) -> Claim:
    """Lease what is neither stored nor leased, within a write transaction.

    Args:
        connection: In a transaction.
        keys: What the caller wants to judge.
        owner: The caller.
        over_stored: Lease what is stored as well, to judge it again.
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
        # A time far ahead is a clock that was set back since.
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
    """Give leases back, within a write transaction; those that went to others stay theirs."""
    connection.executemany("DELETE FROM leases WHERE key = ? AND owner = ?", [(key, owner) for key in keys])


@contextmanager
def kept_alive(renewed: Callable[[], None]) -> Iterator[None]:
    """Call a function three times in a lease's time while the body runs.

    It runs in a thread of its own, because an engine's call may take minutes. Where renewing fails, the
    leases run out and a judgment may be paid for twice; the judging continues.
    """
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
    """Whether the owner's process may still be there; True if that is not known."""
    parts = owner.split("|")
    if len(parts) != 4 or parts[0] != _machine() or not parts[0]:
        return True
    started = _started(int(parts[1]))
    return started == parts[2] or (not started and _is_hidden(int(parts[1])))


def _is_hidden(pid: int) -> bool:
    """Whether a process is there and another user's, whom /proc may not show (`hidepid`)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        pass
    return False


@cache
def _machine() -> str:
    """This boot of this machine and this process-id space, or nothing where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process began, in clock ticks since boot; empty if it is gone, or that is not known."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The name in parentheses may hold blanks and parentheses.
    fields = status.rpartition(")")[2].split()
    # A zombie judges nothing any more.
    return "" if fields[0] in "ZX" else fields[19]
