# SPDX-License-Identifier: Apache-2.0
"""Copy judgments between caches, directly or as Parquet."""

from __future__ import annotations

import itertools
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoj_reward.cache.codec import decode
from autoj_reward.cache.key import Setup, readout_of
from autoj_reward.cache.maintenance import damage_of
from autoj_reward.cache.store import COLUMNS, JudgmentStore, Record
from autoj_reward.errors import ConfigError, DataError, StoreError
from autoj_reward.json_text import without_surrogates

_BATCH = 512
_LOSSLESS = ("key", "engine", "wrapper", "settings", "prefill", "draw", "created", "checksum", "value")
"""Columns that an import reads; the other columns of an export are for people."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Counts of records that were new, already stored, and damaged."""

    n_new: int
    n_known: int
    n_damaged: int


def merge(store: JudgmentStore, source: Path) -> Moved:
    """Copy another cache's judgments into the store, without the damaged ones.

    Raises:
        ConfigError: There is no such file, or it is the store itself.
        StoreError: The file is not a cache, or nothing of it can be read.
    """
    if not source.is_file():
        raise ConfigError(f"there is no cache file {source}")
    if source.samefile(store.path):
        raise ConfigError(f"{source} is the cache that it would be merged into")
    other = JudgmentStore(source)
    moved = _take(store, _salvaged(other))
    other.close()
    with other.database.reading() as connection:
        engines = connection.execute("SELECT * FROM engines").fetchall()
    with store.database.writing() as connection:
        connection.executemany("INSERT OR IGNORE INTO engines VALUES (?, ?, ?, ?, ?)", engines)
    other.close()
    return moved


def export_parquet(store: JudgmentStore, target: Path) -> int:
    """Write every judgment to a Parquet file, atomically.

    Columns for people: `text`, `thinking`, `finish_reason`, `continuations`, `path_logprobs`,
    `end_logprobs`, `unread_prob` and token counts, with lone surrogates replaced. Columns for an import: the
    rest, exact.

    Returns:
        How many were written.

    Raises:
        StoreError: A judgment is damaged.
        ConfigError: The file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            *((name, pa.binary()) for name in ("key", "wrapper", "settings", "prefill", "value")),
            *((name, pa.string()) for name in ("engine", "text", "thinking", "finish_reason")),
            *((name, pa.int64()) for name in ("draw", "created", "checksum")),
            *((name, pa.int64()) for name in ("prompt_tokens", "cached_tokens", "completion_tokens")),
            ("continuations", pa.list_(pa.string())),
            *((name, pa.list_(pa.float64())) for name in ("path_logprobs", "end_logprobs")),
            ("unread_prob", pa.float64()),
        ]
    )
    n = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=target.name, dir=target.parent) as folder:
            scratch = Path(folder) / "judgments.parquet"
            with pq.ParquetWriter(scratch, schema, compression="zstd") as writer:
                for records in _batches(store.records()):
                    writer.write_table(pa.Table.from_pylist([_row(r) for r in records], schema=schema))
                    n += len(records)
            os.replace(scratch, target)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error}") from error
    return n


def import_parquet(store: JudgmentStore, source: Path) -> Moved:
    """Copy the judgments of a Parquet export into the store.

    Raises:
        DataError: The file is not an export of a cache.
    """
    return _take(store, _read_parquet(source))


def _read_parquet(source: Path) -> Iterator[Record | None]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(source) as file:
            if missing := sorted(set(_LOSSLESS) - set(file.schema_arrow.names)):
                raise DataError(f"is not an export of a cache: no column {missing[0]!r}", path=str(source))
            for batch in file.iter_batches(batch_size=_BATCH, columns=list(_LOSSLESS)):
                for row in batch.to_pylist():
                    yield _record(row)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot be read as Parquet: {error}", path=str(source)) from error


def _record(row: dict[str, Any]) -> Record | None:
    known = {name: row.pop(name) for name in ("engine", "wrapper", "settings")}
    record = None if None in (*row.values(), *known.values()) else Record(setup=Setup(**known), **row)
    return None if record is None or damage_of(record) else record


def _row(record: Record) -> dict[str, Any]:
    if problem := damage_of(record):
        raise StoreError(
            f"the judgment {record.key.hex()} is damaged: {problem}",
            hint="`autoj-reward cache verify --drop`",
        )
    setup = record.setup
    output = decode(record.value, readout_of(setup.settings))
    paths = None if output.reading is None else output.reading.paths
    return {
        **{name: getattr(setup if hasattr(setup, name) else record, name) for name in _LOSSLESS},
        "text": without_surrogates(output.text),
        "thinking": None if output.thinking is None else without_surrogates(output.thinking),
        "finish_reason": output.finish_reason,
        "prompt_tokens": output.usage.prompt_tokens,
        "cached_tokens": output.usage.cached_tokens,
        "completion_tokens": output.usage.completion_tokens,
        "continuations": None if paths is None else [without_surrogates(p.text) for p in paths],
        "path_logprobs": None if paths is None else [p.path_logprob for p in paths],
        "end_logprobs": None if paths is None else [p.end_logprob for p in paths],
        "unread_prob": None if output.reading is None else output.reading.unread_prob,
    }


def _take(store: JudgmentStore, records: Iterable[Record | None]) -> Moved:
    n_new = n_known = n_damaged = 0
    for batch in _batches(records):
        whole = [record for record in batch if record is not None]
        added = store.add(whole)
        n_new, n_known = n_new + added, n_known + len(whole) - added
        n_damaged += len(batch) - len(whole)
    return Moved(n_new, n_known, n_damaged)


def _salvaged(store: JudgmentStore) -> Iterator[Record | None]:
    """Records in the order they were written; None for each that is damaged.

    Read by row number, and row by row if a batch cannot be read, so that a damaged page costs only the rows
    on it.
    """
    setups = store.setups()
    with store.database.outside() as connection:
        (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM judgments").fetchone()
    sql = f"SELECT {COLUMNS} FROM judgments WHERE id BETWEEN ? AND ? ORDER BY id"  # noqa: S608 - a constant
    for start in range(1, last + 1, _BATCH):
        with store.database.outside() as connection:
            rows = _readable(connection, sql, start, min(start + _BATCH - 1, last))
        for row in rows:
            if row is None or row[1] not in setups:
                yield None
                continue
            record = Record.from_row(row, setups)
            yield None if damage_of(record) else record


def _readable(connection: sqlite3.Connection, sql: str, first: int, last: int) -> list[Any]:
    """The rows of a range; None for each that cannot be read."""
    try:
        return connection.execute(sql, (first, last)).fetchall()
    except sqlite3.DatabaseError:
        rows: list[Any] = []
    for number in range(first, last + 1):
        try:
            rows += connection.execute(sql, (number, number)).fetchall()
        except sqlite3.DatabaseError:
            rows.append(None)
    return rows


def _batches(records: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(records)
    while batch := list(itertools.islice(rest, _BATCH)):
        yield batch
