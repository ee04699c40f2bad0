# SPDX-License-Identifier: Apache-2.0
"""A SQLite connection pool for one file that many processes and threads use at once.

A local file is in write-ahead mode: readers never wait, and a `kill -9` loses at most the transaction in
flight. That mode needs shared memory, so a file on a network file system has a rollback journal instead: as
safe between hosts as the file system's locks, and slower. Each thread has its own connection; a forked child
opens new ones.

A file that was deleted, replaced or migrated to a newer schema is noticed at the next transaction.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from autoj_reward.cache.forks import GATE
from autoj_reward.cache.migrations import APPLICATION_ID, PAGE_BYTES, migrate, newest
from autoj_reward.cache.wal_check import check_log
from autoj_reward.environment import private_folder
from autoj_reward.errors import StoreError

_NETWORK = frozenset(
    {
        "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "davfs", "fakeowner", "gfs2", "gpfs", "grpcfuse",
        "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "osxfs", "panfs", "prl_fs", "pvfs2", "smb3",
        "smbfs", "virtiofs", "vboxsf", "wekafs",
    }
)  # fmt: skip
"""File systems without reliable shared memory between hosts."""

_LOCAL_FUSE = frozenset({"fuse.ext2", "fuse.fuse-overlayfs", "fuse.gocryptfs", "fuse.ntfs-3g"})
"""FUSE file systems that are local; all others count as remote."""

_AROUND = "--no-cache works without the cache"
_HINTS = {
    sqlite3.SQLITE_FULL: f"free some space, or `autoj-reward cache prune --max-size 1GB`; {_AROUND}",
    sqlite3.SQLITE_READONLY: f"set $AUTOJ_REWARD_CACHE to a file that can be written; {_AROUND}",
    sqlite3.SQLITE_CANTOPEN: f"set $AUTOJ_REWARD_CACHE to a file that can be written; {_AROUND}",
    sqlite3.SQLITE_CORRUPT: "`autoj-reward cache verify` lists damage, `cache merge` copies the rest to a "
    f"new file; {_AROUND}",
    sqlite3.SQLITE_NOTADB: f"set $AUTOJ_REWARD_CACHE to another file; {_AROUND}",
    sqlite3.SQLITE_BUSY: f"another process locks the file: is one stopped, or copying it? {_AROUND}",
    sqlite3.SQLITE_IOERR: f"is the disk full or failing? {_AROUND}",
}
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)

logger = logging.getLogger("autoj_reward")


class Database:
    """A SQLite file with the cache's schema, created if it does not exist.

    Args:
        path: The file; its folder is created.
        network: Whether it lies on a network file system; None finds out.
        busy_seconds: Most seconds to wait for other processes.

    Raises:
        StoreError: The file cannot be used; says why and what to do.
    """

    def __init__(self, path: Path, *, network: bool | None = None, busy_seconds: float = 120.0) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        self._slots = threading.local()
        try:
            private_folder(path.parent)
        except OSError as error:
            raise StoreError(
                f"the cache's folder {path.parent} cannot be created: {error}",
                hint=_HINTS[sqlite3.SQLITE_CANTOPEN],
            ) from error
        kind = file_system(path)
        self.network = is_network(kind) if network is None else network
        if self.network:
            logger.warning(
                "the cache %s lies on a network file system (%s), which is slower (rollback journal). "
                "$AUTOJ_REWARD_CACHE can name a local file; `autoj-reward cache merge` merges files",
                path,
                kind,
            )
        check_log(path, around=_AROUND)
        with self.errors(), GATE.inside():
            self._connection()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection whose statements all see one state of the file."""
        with self.errors(), GATE.inside():
            connection = self._connection()
            connection.execute("BEGIN")
            try:
                self._check_version(connection)
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("COMMIT")

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection in a write transaction, committed at the end or rolled back."""
        with self.errors(), GATE.inside():
            connection = self._connection()
            self._patiently(connection, "BEGIN IMMEDIATE")
            try:
                self._check_version(connection)
                yield connection
                self._patiently(connection, "COMMIT")
            except BaseException:
                # SQLite has already rolled back if the disk is full.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Raise SQLite's errors as StoreErrors with a hint."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            hint = _HINTS.get(code, f"`autoj-reward cache verify` checks it; {_AROUND}")
            raise StoreError(f"the cache {self.path} cannot be used: {error}", hint=hint) from error

    @contextlib.contextmanager
    def outside(self) -> Iterator[sqlite3.Connection]:
        """A connection outside any transaction."""
        with self.errors(), GATE.inside():
            yield self._connection()

    def close(self) -> None:
        """Close this thread's connection; other threads' close when the threads end."""
        with GATE.inside():
            self._slots.__dict__.clear()

    def _connection(self) -> sqlite3.Connection:
        slot: _Slot | None = getattr(self._slots, "slot", None)
        if slot is not None and slot.generation == GATE.generation:
            if slot.file == _file_identity(self.path):
                return slot.connection
            logger.warning("the cache %s was deleted or replaced while it was open", self.path)
        connection = self._opened()
        slot = self._slots.slot = _Slot(connection, _file_identity(self.path))
        return slot.connection

    def _opened(self) -> sqlite3.Connection:
        _keep_private(self.path)
        new = not self.path.exists() or self.path.stat().st_size == 0
        connection = sqlite3.connect(
            self.path,
            timeout=self._busy_seconds,
            isolation_level=None,
            # Each thread has its own; only closing happens in another.
            check_same_thread=False,
        )
        GATE.add(connection)
        try:
            if new:
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._check_ours(connection)
            self._patiently(connection, f"PRAGMA journal_mode = {'DELETE' if self.network else 'WAL'}")
            # In write-ahead mode, NORMAL loses nothing when a process dies; a power failure may undo the
            # last transactions, without damage to the file.
            connection.execute(f"PRAGMA synchronous = {'FULL' if self.network else 'NORMAL'}")
            connection.execute("PRAGMA cache_size = -32768")
            connection.execute("PRAGMA wal_autocheckpoint = 4096")
            migrate(connection, lambda sql: self._patiently(connection, sql))
        except BaseException:
            GATE.close(connection, GATE.generation)
            raise
        return connection

    def _check_ours(self, connection: sqlite3.Connection) -> None:
        """Refuse files of another program or a newer version."""
        # In this order: another process creates tables and application id in one transaction.
        (n_tables,) = self._patiently(connection, "SELECT count(*) FROM sqlite_master")
        (application,) = self._patiently(connection, "PRAGMA application_id")
        self._check_version(connection)
        if n_tables and application != APPLICATION_ID:
            raise StoreError(
                f"{self.path} is a SQLite file, but not a cache of judgments",
                hint="set $AUTOJ_REWARD_CACHE to another file",
            )

    def _check_version(self, connection: sqlite3.Connection) -> None:
        """Leave newer files alone. In a transaction, this also waits until it has begun."""
        (version,) = self._patiently(connection, "PRAGMA user_version")
        if version > newest():
            raise StoreError(
                f"the cache {self.path} was written by a newer version (schema {version}, this one reads "
                f"{newest()})",
                hint=f"upgrade autoj-reward, or set $AUTOJ_REWARD_CACHE to another file; {_AROUND}",
            )

    def _patiently(self, connection: sqlite3.Connection, sql: str) -> tuple[int, ...]:
        """Run a statement, retried while others lock the file; returns its first row.

        SQLite's busy timeout does not cover a change of the journal mode or the recovery of a log.
        """
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                return connection.execute(sql).fetchone() or ()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.002, 0.02))


def _keep_private(path: Path) -> None:
    """Make a cache readable by its owner only, because it holds prompts and completions.

    SQLite gives its other files the mode of the database file.
    """
    with contextlib.suppress(OSError):
        # O_EXCL: closing an existing file would drop this process's POSIX locks on it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            file = path.with_name(path.name + suffix)
            status = file.stat()
            if status.st_uid == os.getuid() and status.st_mode & 0o077:
                file.chmod(0o600)


class _Slot:
    """A thread's connection with its fork generation and the identity of its file."""

    def __init__(self, connection: sqlite3.Connection, file: tuple[int, int] | None) -> None:
        self.connection = connection
        self.generation = GATE.generation
        self.file = file
        # At interpreter exit the module's globals may be gone before the last slot.
        self._gate = GATE

    def __del__(self) -> None:
        self._gate.close(self.connection, self.generation)


def _file_identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_network(kind: str) -> bool:
    """Whether a file system of this kind counts as shared between hosts."""
    return kind in _NETWORK or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)


def file_system(path: Path, mounts: str | None = None) -> str:
    """Kind of the file system of a path (`ext4`, `nfs4`); empty if unknown.

    Args:
        path: A file or folder, which need not exist.
        mounts: Contents of `/proc/mounts`; None reads it.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return ""
    real = os.path.realpath(path)
    found, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        # Later mounts hide earlier ones.
        if inside and len(point) >= len(found):
            found, kind = point, fields[2]
    return kind
