# SPDX-License-Identifier: Apache-2.0
"""Store engine outputs by key in one SQLite file, shared by processes; the first write wins."""

from __future__ import annotations

import functools
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoj_reward.cache import leases
from autoj_reward.cache.codec import checksum
from autoj_reward.cache.database import Database
from autoj_reward.cache.key import Parts, Setup
from autoj_reward.environment import cache_home
from autoj_reward.errors import StoreError

COLUMNS = "key, setup, prefill, draw, created, checksum, value"
"""Columns of a stored output, in the order that `Record.from_row` expects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One stored output.

    Attributes:
        key: 32 bytes.
        setup: Engine, wrapper and settings.
        prefill: 16-byte hash of what the judge had already written.
        draw: Which of K draws.
        created: Unix seconds.
        checksum: CRC-32 of key and value.
        value: The output as bytes, see `codec`.
    """

    key: bytes
    setup: Setup
    prefill: bytes
    draw: int
    created: int
    checksum: int
    value: bytes

    @classmethod
    def from_row(cls, row: Sequence[Any], setups: Mapping[int, Setup]) -> Record:
        """A record from a row of `COLUMNS`; `setups` by number."""
        key, number, prefill, draw, created, crc, value = row
        return cls(
            key=key,
            setup=setups[number],
            prefill=prefill,
            draw=draw,
            created=created,
            checksum=crc,
            value=value,
        )

    @property
    def whole(self) -> bool:
        """Whether the checksum fits."""
        return isinstance(self.value, bytes) and checksum(self.key, self.value) == self.checksum


def default_path() -> Path:
    """`$AUTOJ_REWARD_CACHE`, or `judgments.sqlite` in the user's cache folder."""
    named = os.environ.get("AUTOJ_REWARD_CACHE")
    return Path(named) if named else cache_home() / "judgments.sqlite"


class JudgmentStore:
    """Engine outputs by key.

    Thread-safe, safe after a fork, and picklable (by path).

    Args:
        path: The file; None takes `default_path()`. It is created if it does not exist.
        network: Whether it lies on a network file system; None finds out.
        busy_seconds: Most seconds to wait for other processes.

    Raises:
        StoreError: The file cannot be used.
    """

    def __init__(
        self, path: str | Path | None = None, *, network: bool | None = None, busy_seconds: float = 120.0
    ) -> None:
        self.path = default_path() if path is None else Path(path)
        self._options = (network, busy_seconds)
        self.database = Database(self.path, network=network, busy_seconds=busy_seconds)

    def __reduce__(self) -> tuple[object, ...]:
        network, busy_seconds = self._options
        reopen = functools.partial(JudgmentStore, network=network, busy_seconds=busy_seconds)
        return reopen, (self.path,)

    def close(self) -> None:
        """Close this thread's connection; a later call opens a new one."""
        self.database.close()

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The stored values of these keys; missing keys are left out.

        Raises:
            StoreError: A stored value is damaged, or the file cannot be read.
        """
        found: dict[bytes, bytes] = {}
        with self.database.reading() as connection:
            execute = connection.execute
            for key in keys:
                row = execute("SELECT value, checksum FROM judgments WHERE key = ?", (key,)).fetchone()
                if row is None:
                    continue
                if not isinstance(row[0], bytes) or checksum(key, row[0]) != row[1]:
                    raise StoreError(
                        f"the cache {self.path} holds a damaged judgment ({key.hex()})",
                        hint="`autoj-reward cache verify --drop` removes what is damaged; --no-cache works "
                        "without the cache",
                    )
                found[key] = row[0]
        return found

    def put(
        self,
        answers: Sequence[tuple[Parts, bytes]],
        *,
        owner: str = "",
        settled: Sequence[bytes] = (),
        replace: bool = False,
    ) -> dict[bytes, bytes]:
        """Write values and release leases in one transaction.

        Args:
            answers: Keys and values.
            owner: Owner of the leases.
            settled: Keys whose leases are released.
            replace: Overwrite stored values; otherwise the first write wins.

        Returns:
            By key, the values that another caller had written before and that therefore count.

        Raises:
            StoreError: They could not be written; none of them is stored.
        """
        now = int(time.time())
        records = [
            Record(**parts._asdict(), created=now, checksum=checksum(parts.key, value), value=value)
            for parts, value in answers
        ]
        before: dict[bytes, bytes] = {}
        with self.database.writing() as connection:
            if _insert(connection, records, replace=replace) < len(records):
                for parts, value in answers:
                    (stored,) = connection.execute(
                        "SELECT value FROM judgments WHERE key = ?", (parts.key,)
                    ).fetchone()
                    if stored != value:
                        before[parts.key] = stored
            leases.release(connection, settled, owner)
        return before

    def add(self, records: Sequence[Record]) -> int:
        """Insert records of another store unchanged; returns how many were new."""
        with self.database.writing() as connection:
            return _insert(connection, records)

    def claim(self, keys: Iterable[bytes], owner: str, *, over_stored: bool = False) -> leases.Claim:
        """Lease the keys that are neither stored nor leased to others; see `leases.claim`."""
        with self.database.writing() as connection:
            return leases.claim(connection, keys, owner, over_stored=over_stored)

    def renew(self, owner: str) -> None:
        """Extend all of an owner's leases."""
        with self.database.writing() as connection:
            leases.renew(connection, owner)

    def release(self, keys: Sequence[bytes], owner: str) -> None:
        """Release leases without writing a value."""
        with self.database.writing() as connection:
            leases.release(connection, keys, owner)

    def note_engine(self, fingerprint: str, *, kind: str, model: str, version: str) -> None:
        """Record the engine of a fingerprint, for `cache stats`; not part of any key."""
        with self.database.writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO engines VALUES (?, ?, ?, ?, ?)",
                (fingerprint, kind, model, version, int(time.time())),
            )

    def setups(self) -> dict[int, Setup]:
        """Every setup, by number."""
        with self.database.reading() as connection:
            rows = connection.execute("SELECT number, engine, wrapper, settings FROM setups").fetchall()
        return {n: Setup(engine=engine, wrapper=w, settings=s) for n, engine, w, s in rows}

    def records(self, *, body: bytes | None = None, batch: int = 512) -> Iterator[Record]:
        """Stored outputs in key order, so that those for the same text are adjacent.

        No transaction is open between two batches, so the file may change in the meantime.

        Args:
            body: First half of the keys; None for all.
            batch: Records fetched at a time.
        """
        setups = self.setups()
        after, end = (body or b"", (body + b"\xff" * 17) if body else b"\xff" * 33)
        while True:
            with self.database.reading() as connection:
                rows = connection.execute(
                    f"SELECT {COLUMNS} FROM judgments "  # noqa: S608 - a constant
                    "WHERE key > ? AND key <= ? ORDER BY key LIMIT ?",
                    (after, end, batch),
                ).fetchall()
            if not rows:
                return
            if any(row[1] not in setups for row in rows):
                setups = self.setups()
            for row in rows:
                if row[1] not in setups:
                    raise StoreError(f"the cache {self.path} lacks the setup of {row[0].hex()}")
                yield Record.from_row(row, setups)
            after = rows[-1][0]


def _insert(connection: sqlite3.Connection, records: Sequence[Record], *, replace: bool = False) -> int:
    """Write records within a transaction; returns how many were written."""
    connection.executemany(
        "INSERT OR IGNORE INTO setups VALUES (?, ?, ?, ?)",
        {(s.number, s.engine, s.wrapper, s.settings) for s in (r.setup for r in records)},
    )
    how = "REPLACE" if replace else "IGNORE"
    return connection.executemany(
        f"INSERT OR {how} INTO judgments ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
        [(r.key, r.setup.number, r.prefill, r.draw, r.created, r.checksum, r.value) for r in records],
    ).rowcount
