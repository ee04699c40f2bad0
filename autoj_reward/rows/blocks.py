# SPDX-License-Identifier: Apache-2.0
"""Split a Parquet file into numbered blocks that workers judge in any order, each written once.

::

    OUT/part-00000.parquet ...     finished blocks: together the output data set
    OUT/_blocks/00000.parquet ...  rows to be judged; a block is removed when its part is written
    OUT/_run.json                  the run's record
    OUT.lock                       the lock of the run that writes it

Blocks are cut by row number, so a resumed run has the same ones. A part is written under another name and
renamed, so it is never incomplete; judging a block twice writes the same part twice. A part names its run:
workers of a killed driver may still write into the folder of the next run. pyarrow, Spark and `datasets`
ignore names that begin with `_`.
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
from autoj_reward.rows.identity import another_run, changed_names
from autoj_reward.rows.lock import OutputLock
from autoj_reward.rows.output import read_record, write_record
from autoj_reward.rows.parquet import storable
from autoj_reward.rows.source import Row

_RUN = b"autoj_reward_run"
"""Key of the run's id in a part's metadata; a former version wrote parts without it."""
_HOW = "--overwrite replaces it, or name another folder"


class Blocks:
    """The output folder of one run.

    Args:
        folder: Its path; with several machines on a file system that all of them see.
        run: Identifies the run: an output with an equal dictionary is continued.
        block_rows: Rows of a block; also identifies the run.
        overwrite: Replace an existing run.

    Attributes:
        n_blocks: Number of blocks, after `deal`.
        complete: Whether an earlier run has finished.
        record: The record of an earlier run; empty without one.

    Raises:
        ConfigError: The folder holds other files, or another run.
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
        self.record: dict[str, Any] = {}
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
        """Without the lock: workers write under that of the driver."""
        return self.__dict__ | {"_lock": None}

    def close(self) -> None:
        """Release the lock; a second call does nothing."""
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
                raise ConfigError(f"{self.folder} is not empty, and has no record of a run", hint=_HOW)
            self._write_record(complete=False)
            return
        for scratch in self.folder.glob("_*.tmp"):
            scratch.unlink(missing_ok=True)
        record = self.record = read_record(self._record)
        if not changed_names(record["run"], self._run):
            self.complete = bool(record.get("complete"))
            return
        if any(self.folder.glob("part-*.parquet")):
            raise another_run(self.folder, record["run"], self._run, hint=_HOW)
        # A run that failed before its first block may be replaced.
        shutil.rmtree(self._waiting, ignore_errors=True)
        self._write_record(complete=False)

    def deal(self, source: Path, *, leave_out: Collection[int] = ()) -> list[int]:
        """Cut a Parquet file into the blocks that do not exist yet.

        Args:
            source: The file.
            leave_out: Rows that are not judged, numbered from 1.

        Returns:
            The blocks to judge, in order.

        Raises:
            DataError: The file cannot be read, or the folder cannot be written.
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
        """Path of a finished block."""
        return self.folder / f"part-{number:05d}.parquet"

    def read(self, number: int) -> Any:
        """The rows of a block, a `pyarrow.Table`; None if its part is already written.

        Raises:
            DataError: Neither the block nor its part exists.
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
                f"block {number} does not exist", path=str(self.folder),
                hint="on several machines, the output has to be a folder that all of them see",
            ) from error  # fmt: skip

    def write(self, number: int, table: Any) -> None:
        """Write a judged block as a part, and remove the block."""
        known = {key: value for key, value in (table.schema.metadata or {}).items() if key != _RUN}
        _write_whole(self.part(number), table.replace_schema_metadata({**known, _RUN: self._id.encode()}))
        self._block(number).unlink(missing_ok=True)

    def finish(self, summary: dict[str, Any]) -> None:
        """Mark the run complete, with the summary in its record.

        Raises:
            DataError: A worker of another run has replaced a part.
        """
        if replaced := [n for n in range(self.n_blocks) if not self._is_there(n)]:
            raise DataError(
                f"{len(replaced)} parts were replaced by workers of another run",
                path=str(self.folder),
                hint="end those workers, then run the same command again",
            )  # fmt: skip
        shutil.rmtree(self._waiting, ignore_errors=True)
        self._write_record(complete=True, blocks=self.n_blocks, **summary)

    def _is_there(self, number: int) -> bool:
        """Whether this run has written the part."""
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
        write_record(self._record, {"run": self._run, **known})


def with_fields(table: Any, added: Sequence[Row], schema: Any) -> Any:
    """A block's rows, a `pyarrow.Table`, with the fields that were added to each.

    The types are those of `schema`, so that a block of failures has the same columns as any other. Columns of
    these names that the rows already have are replaced.
    """
    import pyarrow as pa

    kept = table.drop_columns([name for name in schema.names if name in table.column_names])
    new = pa.Table.from_pylist([storable(row) for row in added], schema=schema)
    for field in schema:
        kept = kept.append_column(field, new[field.name])
    return kept


def added_schema(kind: str, *, criteria: bool = False, panel: bool = False) -> Any:
    """Types of the fields that `rate` or `compare` adds, a `pyarrow.Schema`.

    With `criteria` those of ratings by a rubric of criteria too, with `panel` those of a panel's members.

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
        "contradicted": pa.int64(),
        "order_preferences": pa.list_(text),
        "entropy": number, "exactness": text,
        "flags": pa.list_(text) if kind == "rate" else pa.list_(pa.list_(text)),
        "order_win_probs": pa.list_(number), "judge_id": text,
        "failure": pa.struct([("reason", text), ("detail", text)]),
    }  # fmt: skip
    if kind not in ("rate", "compare"):
        raise ConfigError(f"--ray runs rate and compare, not {kind}")
    own = [(name, types[name]) for name in ADDED_FIELDS[kind]]
    member = [("name", text), ("weight", number), ("value", number), ("mass", number), ("judge_id", text)]
    member.append(("failure", types["failure"]))
    if criteria and kind == "rate":
        one = [("name", text), ("weight", number), ("essential", pa.bool_()), ("score", number)]
        one += [("mass", number), ("critique", text), ("failure", types["failure"])]
        by_criteria = [("criteria", pa.list_(pa.struct(one))), ("score", number)]
        own += [*by_criteria, ("spread", number)]
        member += by_criteria
    if panel:
        own += [("agreement", number), ("members", pa.list_(pa.struct(member)))]
    return pa.schema(own)


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

    # Two workers may write the same part, if the first is believed dead: each has its own file.
    scratch = path.with_name(f"_{path.stem}.{uuid.uuid4().hex}.tmp")
    try:
        pq.write_table(table, scratch)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
