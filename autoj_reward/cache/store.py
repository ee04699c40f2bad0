# SPDX-License-Identifier: Apache-2.0
"""The durable store of engine outputs: one SQLite file, shared by processes, first write wins."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoj_reward.cache import leases
from autoj_reward.cache.codec import checksum
from autoj_reward.cache.database import Database
from autoj_reward.cache.key import Parts, Setup
from autoj_reward.environment import cache_home
from autoj_reward.errors import StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One stored answer.

    Attributes:
        key: 32 bytes.
        setup: Engine, wrapper and settings.
        prefill: 16-byte hash of what the judge had already written.
        draw: Which of K draws.
        created: Unix seconds.
        checksum: Of key and value.
        value: The answer as bytes.
    """

    key: bytes
    setup: Setup
    prefill: bytes
    draw: int
    created: int
    checksum: int
    value: bytes

    @property
    def whole(self) -> bool:
        """Whether the value is the one that was written."""
        return isinstance(self.value, bytes) and checksum(self.key, self.value) == self.checksum


def default_path() -> Path:
    """`$AUTOJ_REWARD_CACHE`, or `judgments.sqlite` in the user's cache folder."""
    named = os.environ.get("AUTOJ_REWARD_CACHE")
    return Path(named) if named else cache_home() / "judgments.sqlite"


class JudgmentStore:
    """Answers by key.

    Thread-safe, safe after a fork, and picklable (by path).

    Args:
        path: The file; None takes `default_path()`. It is made if it does not exist.
        network: Whether it lies on a network file system; None looks.
        busy_seconds: How long to wait for other processes before giving up.

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
        return _reopened, (self.path, *self._options)

    def close(self) -> None:
        """Close this thread's connection; a later call opens a new one."""
        self.database.close()

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that are stored.

        Raises:
            StoreError: A stored value is damaged, or the file cannot be read: never a silent miss.
        """
        found: dict[bytes, bytes] = {}
        with self.database.reading() as connection:
            execute = connection.execute
            for key in keys:
                row = execute("SELECT value, checksum FROM judgments WHERE key = ?", (key,)).fetchone()
                if row is None:
                    continue
                if not isinstance(row[0], bytes) or checksum(key, row[0]) != row[1]:
                    raise _broken(self.path, key)
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
        """Keep answers, and give leases back, in one transaction.

        Args:
            answers: Keys and values.
            owner: Whose leases.
            settled: Keys whose leases end.
            replace: Put them in the place of stored ones; otherwise the first write wins.

        Returns:
            Those values that another caller had written before, by key: they are the ones that count.

        Raises:
            StoreError: They could not be written; none of them is stored.
        """
        now = int(time.time())
        setups = {parts.setup.number: parts.setup for parts, _ in answers}
        rows = [
            (parts.key, parts.setup.number, parts.prefill, parts.draw, now, checksum(parts.key, value), value)
            for parts, value in answers
        ]
        before: dict[bytes, bytes] = {}
        with self.database.writing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO setups VALUES (?, ?, ?, ?)",
                [(number, s.engine, s.wrapper, s.settings) for number, s in setups.items()],
            )
            n_written = connection.executemany(
                f"INSERT OR {'REPLACE' if replace else 'IGNORE'} INTO judgments"  # noqa: S608 - two words
                "(key, setup, prefill, draw, created, checksum, value) VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            ).rowcount
            if n_written < len(rows):
                for parts, value in answers:
                    (stored,) = connection.execute(
                        "SELECT value FROM judgments WHERE key = ?", (parts.key,)
                    ).fetchone()
                    if stored != value:
                        before[parts.key] = stored
            leases.release(connection, settled, owner)
        return before

    def add(self, records: Sequence[Record]) -> int:
        """Keep records of another store as they are; the first write wins.

        Returns:
            How many were new.
        """
        with self.database.writing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO setups VALUES (?, ?, ?, ?)",
                {(s.number, s.engine, s.wrapper, s.settings) for s in (r.setup for r in records)},
            )
            return connection.executemany(
                "INSERT OR IGNORE INTO judgments(key, setup, prefill, draw, created, checksum, value) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(r.key, r.setup.number, r.prefill, r.draw, r.created, r.checksum, r.value) for r in records],
            ).rowcount

    def claim(self, keys: Iterable[bytes], owner: str, *, over_stored: bool = False) -> leases.Claim:
        """Lease what is neither stored nor leased to others; see `leases.claim`."""
        with self.database.writing() as connection:
            return leases.claim(connection, keys, owner, over_stored=over_stored)

    def renew(self, owner: str) -> None:
        """Extend all of an owner's leases."""
        with self.database.writing() as connection:
            leases.renew(connection, owner)

    def release(self, keys: Sequence[bytes], owner: str) -> None:
        """Give leases back without an answer."""
        with self.database.writing() as connection:
            leases.release(connection, keys, owner)

    def note_engine(self, fingerprint: str, *, kind: str, model: str, version: str) -> None:
        """Remember which engine stood behind a fingerprint: for people, and not part of any key."""
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
        """Stored answers in the order of their keys, so that those about one text follow each other.

        The file may change between two batches; nothing is held open while the caller works.

        Args:
            body: First half of the keys wanted; None for all.
            batch: Records fetched at a time.
        """
        setups = self.setups()
        after, end = (body or b"", (body + b"\xff" * 17) if body else b"\xff" * 33)
        while True:
            with self.database.reading() as connection:
                rows = connection.execute(
                    "SELECT key, setup, prefill, draw, created, checksum, value FROM judgments "
                    "WHERE key > ? AND key <= ? ORDER BY key LIMIT ?",
                    (after, end, batch),
                ).fetchall()
            if not rows:
                return
            if any(row[1] not in setups for row in rows):
                setups = self.setups()
            for key, number, prefill, draw, created, crc, value in rows:
                if number not in setups:
                    raise StoreError(f"the cache {self.path} lacks the setup of {key.hex()}")
                yield Record(
                    key=key,
                    setup=setups[number],
                    prefill=prefill,
                    draw=draw,
                    created=created,
                    checksum=crc,
                    value=value,
                )
            after = rows[-1][0]


def _reopened(path: Path, network: bool | None, busy_seconds: float) -> JudgmentStore:
    return JudgmentStore(path, network=network, busy_seconds=busy_seconds)


def _broken(path: Path, key: bytes) -> StoreError:
    return StoreError(
        f"the cache {path} holds a damaged judgment ({key.hex()})",
        hint="`autoj-reward cache verify --drop` removes what is damaged; --no-cache works without the cache",
    )
