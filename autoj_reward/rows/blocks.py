# SPDX-License-Identifier: Apache-2.0
"""Split a Parquet file into numbered blocks that workers judge in any order, each written once.

::

    OUT/part-00000.parquet ...     finished blocks: the output, one data set
    OUT/_blocks/00000.parquet ...  rows that wait to be judged; a block goes when its part is there
    OUT/_run.json                  which run this is
    OUT.lock                       who writes it now

Blocks are cut by row number, so a resumed run has the same ones. A part appears by a rename: it is
there whole or not at all, and judging a block twice writes the same part twice. It says whose it is: workers
of a run whose driver was killed may write theirs late, into the folder of the next run. pyarrow, Spark and
`datasets` leave out names that begin with `_`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.rows.identity import changes
from autoj_reward.rows.lock import OutputLock
from autoj_reward.rows.output import read_record, to_json
from autoj_reward.rows.parquet import storable
from autoj_reward.rows.source import Row

_RUN = b"autoj_reward_run"
"""In a part's metadata: whose it is. Parts without it are of a former version."""
_HOW = "--overwrite replaces it, or name another folder"


class Blocks:
    """The folder of one run.

    Args:
        folder: Where it is; on several machines a folder that all of them see.
        run: What identifies the run: equal dictionaries continue each other.
        block_rows: Rows of a block; part of what identifies the run.
        overwrite: Replace an existing run.

    Raises:
        ConfigError: The folder holds something else, or another run.
    """

    def __init__(
        self, folder: str | Path, run: dict[str, Any], *, block_rows: int, overwrite: bool = False
    ) -> None:
        self.folder = Path(os.path.realpath(folder))
        self._waiting = self.folder / "_blocks"
        self._record = self.folder / "_run.json"
        self._rows = block_rows
        self._run: dict[str, Any] = json.loads(json.dumps({**run, "block_rows": block_rows}))
        self._id = hashlib.sha256(json.dumps(self._run, sort_keys=True).encode()).hexdigest()[:32]
        self.n_blocks = 0
        self.complete = False
        """Whether a former run has finished."""
        self.record: dict[str, Any] = {}
        """What a former run left in its record."""
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"{folder} is a file", hint="name a folder for the blocks of the output")
        self._lock: OutputLock | None = None
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._lock = OutputLock(self.folder)
            try:
                if overwrite:
                    self._clear()
                self._resume()
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise ConfigError(f"the output {folder} cannot be written: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        """Workers write blocks under the lock of the process that deals them out."""
        return self.__dict__ | {"_lock": None}

    def close(self) -> None:
        """Let others write; a second call does nothing."""
        if self._lock is not None:
            self._lock.release()

    def _clear(self) -> None:
        if not self._record.exists():
            return
        for part in self.folder.glob("part-*.parquet"):
            part.unlink()
        shutil.rmtree(self._waiting, ignore_errors=True)
        self._record.unlink()

    def _resume(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._record.exists():
            if any(self.folder.iterdir()):
                raise ConfigError(f"{self.folder} is not empty, and holds no run of ours", hint=_HOW)
            self._write_record(complete=False)
            return
        for scratch in self.folder.glob("_*.tmp"):
            scratch.unlink(missing_ok=True)
        record = self.record = read_record(self._record)
        differing = sorted(k for k in self._run if record["run"].get(k) != self._run[k])
        if differing and any(self.folder.glob("part-*.parquet")):
            details = "\n  ".join(changes(record.get("run", {}), self._run, differing))
            raise ConfigError(
                f"{self.folder} belongs to a run with another {', '.join(differing)}:\n  {details}", hint=_HOW
            )
        if differing:
            # A start that failed before its first block may be replaced.
            shutil.rmtree(self._waiting, ignore_errors=True)
            self._write_record(complete=False)
            return
        self.complete = bool(record.get("complete"))

    def deal(self, source: Path, *, leave_out: Collection[int] = ()) -> list[int]:
        """Cut the source into blocks, as far as that has not been done.

        Args:
            source: A Parquet file.
            leave_out: Rows that are not judged, numbered from 1.

        Returns:
            The blocks to judge, in order.

        Raises:
            DataError: The file cannot be read, or the folder not be written.
        """
        import pyarrow

        self._waiting.mkdir(exist_ok=True)
        pending = []
        try:
            for number, table in enumerate(_cut(source, self._rows, frozenset(leave_out))):
                self.n_blocks = number + 1
                if not self._is_there(number):
                    pending.append(number)
                    if not self._block(number).exists():
                        _write_whole(self._block(number), table)
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"cannot be cut into blocks: {error}", path=str(source)) from error
        return pending

    def part(self, number: int) -> Path:
        """Where a finished block is."""
        return self.folder / f"part-{number:05d}.parquet"

    def read(self, number: int) -> Any:
        """The rows of a block, as a table; None where its part is there already.

        Raises:
            DataError: There is neither.
        """
        import pyarrow.parquet as pq

        if self._is_there(number):
            return None
        try:
            return pq.read_table(self._block(number))
        except FileNotFoundError as error:
            if self._is_there(number):
                return None
            raise DataError(
                f"block {number} is not there", path=str(self.folder),
                hint="on several machines, the output has to be a folder that all of them see",
            ) from error  # fmt: skip

    def write(self, number: int, table: Any) -> None:
        """Put a finished block in its place."""
        known = {key: value for key, value in (table.schema.metadata or {}).items() if key != _RUN}
        _write_whole(self.part(number), table.replace_schema_metadata({**known, _RUN: self._id.encode()}))
        self._block(number).unlink(missing_ok=True)

    def finish(self, summary: dict[str, Any]) -> None:
        """Mark the run complete; `summary` is kept in its record.

        Raises:
            DataError: A worker of another run has replaced a block since.
        """
        if replaced := [n for n in range(self.n_blocks) if not self._is_there(n)]:
            raise DataError(
                f"{len(replaced)} blocks are of another run, whose workers still wrote",
                path=str(self.folder),
                hint="end those workers, then run the same command again",
            )  # fmt: skip
        shutil.rmtree(self._waiting, ignore_errors=True)
        self._write_record(complete=True, blocks=self.n_blocks, **summary)

    def _is_there(self, number: int) -> bool:
        """Whether a block is finished, and by this run."""
        import pyarrow
        import pyarrow.parquet as pq

        try:
            metadata = pq.read_schema(self.part(number)).metadata or {}
        except (FileNotFoundError, pyarrow.ArrowException):
            return False
        return bool(metadata.get(_RUN, self._id.encode()) == self._id.encode())

    def _block(self, number: int) -> Path:
        return self._waiting / f"{number:05d}.parquet"

    def _write_record(self, **known: Any) -> None:
        scratch = self._record.with_suffix(".tmp")
        scratch.write_bytes(to_json({"run": self._run, **known}))
        os.replace(scratch, self._record)


def with_fields(table: Any, added: Sequence[Row], schema: Any) -> Any:
    """A block's rows with what was added to them; fields of the rows' own by those names are replaced.

    Args:
        table: The rows, a `pyarrow.Table`.
        added: For each row, values of the schema's fields.
        schema: The added fields with their types, so that a block of failures has the columns of any other.
    """
    import pyarrow as pa

    kept = table.drop_columns([name for name in schema.names if name in table.column_names])
    new = pa.Table.from_pylist([storable(row) for row in added], schema=schema)
    for field in schema:
        kept = kept.append_column(field, new[field.name])
    return kept


def added_schema(kind: str) -> Any:
    """Types of the fields that `rate` or `compare` adds, a `pyarrow.Schema`.

    Raises:
        ConfigError: The kind is another one.
    """
    import pyarrow as pa

    from autoj_reward.rows.tasks import ADDED_FIELDS

    number, text = pa.float64(), pa.string()
    types = {
        "rating": number, "expected_rating": number, "reward": number, "mass": number, "win_prob": number,
        "tie_prob": number, "slot_bias": number, "critique": text, "mode": text, "preference": text,
        "flipped": pa.bool_(), "cut_chars": pa.int64(), "forced": pa.int64(),
        "order_preferences": pa.list_(text),
        "entropy": number, "flags": pa.list_(text) if kind == "rate" else pa.list_(pa.list_(text)),
        "order_win_probs": pa.list_(number), "judge_id": text,
        "failure": pa.struct([("reason", text), ("detail", text)]),
    }  # fmt: skip
    if kind not in ("rate", "compare"):
        raise ConfigError(f"the fields that {kind} adds have no types")
    return pa.schema([(name, types[name]) for name in ADDED_FIELDS[kind]])


def _cut(source: Path, n_rows: int, leave_out: frozenset[int]) -> Iterator[Any]:
    """Tables of `n_rows` rows each, the last one shorter."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    held: list[Any] = []
    n_held = 0
    with pq.ParquetFile(source) as file:
        for batch in file.iter_batches(batch_size=min(n_rows, 4096)):
            keep = [number + i not in leave_out for i in range(1, len(batch) + 1)]
            number += len(batch)
            table = pa.Table.from_batches([batch])
            table = table if all(keep) else table.filter(pa.array(keep))
            held.append(table)
            n_held += len(table)
            while n_held >= n_rows:
                whole = pa.concat_tables(held)
                yield whole.slice(0, n_rows)
                held = [whole.slice(n_rows)]
                n_held -= n_rows
    if n_held:
        yield pa.concat_tables(held)


def _write_whole(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    # Two workers may write one part, the first of them believed dead: each has a file of its own.
    scratch = path.with_name(f"_{path.stem}.{uuid.uuid4().hex}.tmp")
    try:
        pq.write_table(table, scratch)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
