# SPDX-License-Identifier: Apache-2.0
"""Statistics, verification and pruning of a cache file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autoj_reward.cache.codec import decode
from autoj_reward.cache.key import HALF, readout_of, rest_hash
from autoj_reward.cache.store import JudgmentStore, Record
from autoj_reward.errors import ConfigError, StoreError

_STEP = 512
"""Rows removed per transaction, so that other processes can write in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """The records of one engine.

    Attributes:
        fingerprint: The engine's.
        names: "KIND MODEL VERSION" of each engine seen with this fingerprint.
        n_texts: Generated texts.
        n_readings: Readings.
        n_bytes: Size of their values.
        oldest: Unix seconds.
        newest: Unix seconds.
    """

    fingerprint: str
    names: tuple[str, ...]
    n_texts: int
    n_readings: int
    n_bytes: int
    oldest: int
    newest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Size of a cache file with its log, its records by engine, and its unexpired leases."""

    file_bytes: int
    engines: tuple[EngineStats, ...]
    n_leases: int
    network: bool


@dataclass(frozen=True, slots=True)
class Damage:
    """A damaged record, and what is wrong with it."""

    key: bytes
    problem: str


def stats(store: JudgmentStore) -> Stats:
    """Count what a cache holds."""
    with store.database.reading() as connection:
        rows = connection.execute(
            "SELECT setup, count(*), sum(length(value)), min(created), max(created) "
            "FROM judgments GROUP BY setup"
        ).fetchall()
        named: dict[str, list[str]] = {}
        for fingerprint, *words in connection.execute(
            "SELECT fingerprint, kind, model, version FROM engines"
        ):
            named.setdefault(fingerprint, []).append(" ".join(word for word in words if word))
        (n_leases,) = connection.execute(
            "SELECT count(*) FROM leases WHERE expires > ?", (time.time(),)
        ).fetchone()
    setups = store.setups()
    by_engine: dict[str, list[tuple[int, ...]]] = {}
    for number, n, n_bytes, oldest, newest in rows:
        reads = readout_of(setups[number].settings) is not None
        by_engine.setdefault(setups[number].engine, []).append((reads, n, n_bytes, oldest, newest))
    engines = tuple(
        EngineStats(
            fingerprint=fingerprint,
            names=tuple(named.get(fingerprint, ())),
            n_texts=sum(n for reads, n, *_ in parts if not reads),
            n_readings=sum(n for reads, n, *_ in parts if reads),
            n_bytes=sum(part[2] for part in parts),
            oldest=min(part[3] for part in parts),
            newest=max(part[4] for part in parts),
        )
        for fingerprint, parts in sorted(by_engine.items())
    )
    files = [store.path, store.path.with_name(store.path.name + "-wal")]
    return Stats(
        file_bytes=sum(f.stat().st_size for f in files if f.exists()),
        engines=engines,
        n_leases=n_leases,
        network=store.database.network,
    )


def damage_of(record: Record) -> str | None:
    """What is wrong with a record; None if nothing is."""
    try:
        if not record.whole:
            return "the checksum does not fit"
        if record.key[HALF:] != rest_hash(record.setup.digest, record.prefill, record.draw):
            return "the key does not fit engine, settings and draw"
        decode(record.value, readout_of(record.setup.settings))
    except StoreError as error:
        return str(error)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        return f"a field has the wrong type or range: {error}"
    return None


def verify(store: JudgmentStore) -> Iterator[Damage | None]:
    """Check every record: None for each intact one, else its damage.

    Raises:
        StoreError: SQLite's integrity check fails.
    """
    with store.database.reading() as connection:
        problems = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    if problems != ["ok"]:
        raise StoreError(
            f"the cache {store.path} is damaged: {'; '.join(problems)}",
            hint="`autoj-reward cache merge` moves what is whole to a new file",
        )
    for record in store.records():
        problem = damage_of(record)
        yield None if problem is None else Damage(record.key, problem)


def remove(store: JudgmentStore, keys: Sequence[bytes]) -> None:
    """Remove records and free their space in the file."""
    for start in range(0, len(keys), _STEP):
        with store.database.writing() as connection:
            connection.executemany(
                "DELETE FROM judgments WHERE key = ?", [(key,) for key in keys[start : start + _STEP]]
            )
    _free_space(store)


def prune(
    store: JudgmentStore,
    *,
    older_than_seconds: float | None = None,
    max_bytes: int | None = None,
    model: str | None = None,
    dry_run: bool = False,
) -> tuple[int, int]:
    """Remove records by model, then by age, then the oldest until the rest fits.

    With a model, age and size count its records only.

    Args:
        store: The store.
        older_than_seconds: Remove records older than this.
        max_bytes: Most bytes of values to keep.
        model: A fingerprint or its beginning, or a model's name as `stats` shows it. Alone, it removes
            all its records.
        dry_run: Only count.

    Returns:
        Numbers of records and bytes removed (or to be removed).

    Raises:
        ConfigError: No limit is given, or no model has that name.
    """
    if older_than_seconds is None and max_bytes is None and model is None:
        raise ConfigError("prune needs a limit", hint="give --older-than, --max-size or --model")
    numbers = _setups_of(store, model)
    with store.database.reading() as connection:
        rows = connection.execute(
            "SELECT key, setup, created, length(value) FROM judgments ORDER BY created DESC, id DESC"
        ).fetchall()
    cutoff = None if older_than_seconds is None else time.time() - older_than_seconds
    going: list[bytes] = []
    kept = gone = 0
    full = False
    for key, setup, created, size in rows:
        if numbers is not None and setup not in numbers:
            continue
        all_of_model = older_than_seconds is None and max_bytes is None
        too_old = cutoff is not None and created < cutoff
        # All records older than the first that does not fit go too, so that the newest remain.
        full = full or (max_bytes is not None and not too_old and kept + size > max_bytes)
        if all_of_model or too_old or full:
            going.append(key)
            gone += size
        else:
            kept += size
    if not dry_run:
        remove(store, going)
    return len(going), gone


def _setups_of(store: JudgmentStore, model: str | None) -> set[int] | None:
    if model is None:
        return None
    with store.database.reading() as connection:
        named = dict(connection.execute("SELECT fingerprint, model FROM engines WHERE model = ?", (model,)))
    setups = store.setups()
    numbers = {n for n, s in setups.items() if s.engine in named or s.engine.startswith(model)}
    if not numbers:
        known = sorted({s.engine for s in setups.values()})
        raise ConfigError(
            f"the cache has no records of a model {model!r}",
            hint=f"fingerprints: {', '.join(known) or 'none'}; `autoj-reward cache stats` names them",
        )
    return numbers


def _free_space(store: JudgmentStore) -> None:
    with store.database.outside() as connection:
        connection.execute("DELETE FROM leases WHERE expires < ?", (time.time(),))
        # `execute` would free a single page.
        connection.executescript("PRAGMA incremental_vacuum")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
