# SPDX-License-Identifier: Apache-2.0
"""Rows out: JSON lines as they are finished, Parquet at the end, and a record of the run beside them.

What is added to a row is written, and flushed, after every chunk. JSON lines go straight into the
output file. A Parquet file cannot grow by a row, so its additions wait in `OUT.part.jsonl` and become
the file when the last row is done. The same holds where one row becomes several or none. `OUT.run.json` says
which run the output belongs to, so that the same command goes on and another one is refused.
"""

from __future__ import annotations

import base64
import datetime
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.extras import how_to_install
from autoj_reward.rows.source import Row

_GROUP_ROWS = 512
"""Rows of a Parquet row group, and of what is held at once."""


def to_json(row: Row) -> bytes:
    """A row as one line of JSON in UTF-8, the line end included.

    Dates become ISO texts, bytes base64. Lone surrogates, which UTF-8 does not have, are escaped.
    """
    try:
        return json.dumps(row, ensure_ascii=False, default=_plain).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row, default=_plain).encode() + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


class Output:
    """Where finished rows go.

    Args:
        name: A `.jsonl` or `.parquet` file, or `-` for standard output. With `expand` also a name without a
            suffix: a folder that `datasets.load_from_disk` reads, and no `-`.
        run: What identifies this run: equal dictionaries continue each other.
        overwrite: Begin anew where the file exists.
        expand: What is added to a row, as the output's rows in place of the input's.
        notes: What goes into the record besides when all is written.

    Raises:
        ConfigError: The file exists and belongs to another run, or cannot be written.
    """

    def __init__(
        self,
        name: str,
        run: dict[str, Any],
        *,
        overwrite: bool = False,
        expand: Callable[[Row], Iterable[Row]] | None = None,
        notes: Callable[[], Row] = dict,
    ) -> None:
        self.name = name
        self._expand = expand
        self._notes = notes
        self.run: dict[str, Any] = json.loads(json.dumps(run))
        """What identifies the run."""
        self._file: IO[bytes] | None = None
        self.n_done = 0
        """Rows that an unfinished run has already written."""
        self.complete = False
        """Whether a former run has written all of them."""
        if name == "-" and expand is None:
            self._file = sys.stdout.buffer
            return
        self._path = Path(name)
        kinds = (".jsonl", ".parquet") if expand is None else (".jsonl", ".parquet", "")
        if self._path.suffix not in kinds or name == "-":
            further = "-" if expand is None else "a folder's name without a suffix"
            raise ConfigError(f"the output {name!r} is neither .jsonl nor .parquet nor {further}")
        self._deferred = self._path.suffix != ".jsonl" or expand is not None
        self._lines = self._path.with_name(self._path.name + ".part.jsonl") if self._deferred else self._path
        self._record = self._path.with_name(self._path.name + ".run.json")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if overwrite:
                self._remove()
            self._resume()
        except OSError as error:
            raise ConfigError(f"the output {name} cannot be written: {error}") from error

    def _remove(self) -> None:
        if self._path.is_dir():
            if not self._record.exists():
                raise ConfigError(f"{self.name} is a folder that this command did not write: it stays")
            shutil.rmtree(self._path)
        for path in (self._path, self._lines, self._record):
            path.unlink(missing_ok=True)

    def _resume(self) -> None:
        exists = self._path.exists() or self._lines.exists()
        if exists and not self._record.exists():
            raise ConfigError(
                f"{self.name} exists and was not written by this command", hint="--overwrite replaces it"
            )
        if exists:
            record = json.loads(self._record.read_text(encoding="utf-8"))
            differing = sorted(k for k in self.run if record.get("run", {}).get(k) != self.run[k])
            begun = record.get("complete") or self._path.is_dir() or _size(self._lines) or _size(self._path)
            if differing and begun:
                raise ConfigError(
                    f"{self.name} belongs to a run with another {', '.join(differing)}",
                    hint="--overwrite replaces it, or name another output",
                )
            self.complete = bool(record.get("complete"))
            if not self.complete and self._lines.exists():
                self.n_done = _drop_torn_line(self._lines)
        if not self.complete:
            self._write_record(complete=False)
            self._file = open(self._lines, "ab")  # noqa: SIM115 - closed in close()

    def write(self, rows: Iterable[tuple[Row, Row]]) -> None:
        """Append finished rows (the input's row, and what is added to it) and flush them.

        Raises:
            DataError: The disk is full, or the file cannot be written.
        """
        if self._file is None:
            raise ConfigError(f"the output {self.name} is closed")
        only_added = self.name != "-" and self._deferred
        try:
            self._file.write(b"".join(to_json(new if only_added else {**row, **new}) for row, new in rows))
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise DataError(f"cannot be written: {error}", path=self.name) from error

    def finish(self, rows: Iterator[Row], summary: dict[str, Any]) -> None:
        """Mark the output complete.

        Args:
            rows: The input's good rows once more, for the Parquet file.
            summary: Kept in the run's record.
        """
        self.close()
        if self.name == "-":
            return
        try:
            if self._deferred:
                self._write_whole(rows)
                self._lines.unlink()
            self._write_record(complete=True, **summary, **self._notes())
        except OSError as error:
            raise DataError(f"cannot be written: {error}", path=self.name) from error

    def _write_whole(self, rows: Iterator[Row]) -> None:
        with open(self._lines, "rb") as lines:
            if self._expand is None:
                whole = ({**row, **json.loads(line)} for row, line in zip(rows, lines, strict=True))
            else:
                expand = self._expand
                whole = (row for line in lines for row in expand(json.loads(line)))
            if self._path.suffix == ".parquet":
                _write_parquet(self._path, whole)
            elif self._path.suffix == ".jsonl":
                _write_lines(self._path, whole)
            else:
                _write_folder(self._path, whole)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file is not None and self.name != "-":
            self._file.close()
        self._file = None

    def forget(self) -> None:
        """Remove the record of the run: its output has taken another one's place."""
        self._record.unlink(missing_ok=True)

    def _write_record(self, **known: Any) -> None:
        scratch = self._record.with_suffix(".tmp")
        scratch.write_bytes(to_json({"run": self.run, **known}))
        os.replace(scratch, self._record)


def _drop_torn_line(path: Path) -> int:
    """Cut what a killed run left behind the last whole line; the number of whole lines."""
    n, end = 0, 0
    with open(path, "rb+") as file:
        for line in file:
            if line.endswith(b"\n"):
                n, end = n + 1, end + len(line)
        file.truncate(end)
    return n


def _write_lines(path: Path, rows: Iterator[Row]) -> None:
    scratch = path.with_name(path.name + ".tmp")
    with open(scratch, "wb") as file:
        file.writelines(to_json(row) for row in rows)
    os.replace(scratch, path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _write_folder(path: Path, rows: Iterator[Row]) -> None:
    """What `datasets.load_from_disk` reads."""
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"{path} is to be a folder of datasets, which is not installed",
            hint=f"{how_to_install('data')}, or write .jsonl or .parquet",
        ) from error
    with tempfile.TemporaryDirectory(prefix=path.name, dir=path.parent) as scratch:
        parquet = Path(scratch) / "rows.parquet"
        _write_parquet(parquet, rows)
        made = datasets.Dataset.from_parquet(str(parquet), cache_dir=scratch)
        made.save_to_disk(Path(scratch) / "made")
        del made
        os.replace(Path(scratch) / "made", path)


def _write_parquet(path: Path, rows: Iterator[Row]) -> None:
    """Rows as Parquet; the schema is what fits every row."""
    import pyarrow as pa
    import pyarrow.feather as feather
    import pyarrow.parquet as pq

    schema = pa.schema([])
    pieces: list[Path] = []
    with tempfile.TemporaryDirectory(prefix=path.name, dir=path.parent) as folder:
        for chunk in _chunks((storable(row) for row in rows), _GROUP_ROWS):
            table = pa.Table.from_pylist(chunk)
            schema = pa.unify_schemas([schema, table.schema], promote_options="permissive")
            pieces.append(Path(folder) / f"{len(pieces)}.arrow")
            # Not as Parquet, which reads nulls inside structs inside lists back wrongly.
            feather.write_feather(table, pieces[-1])
        schema = pa.schema([pa.field(f.name, _typed(f.type)) for f in schema])
        whole = Path(folder) / "whole.parquet"
        with pq.ParquetWriter(whole, schema) as writer:
            for piece in pieces:
                table = feather.read_table(piece)
                if any(_typed(field.type) != field.type for field in table.schema):
                    # Arrow casts them wrongly as well.
                    table = pa.Table.from_pylist(table.to_pylist(), schema=schema)
                for column in schema:
                    if column.name not in table.column_names:
                        table = table.append_column(column, pa.nulls(len(table), column.type))
                writer.write_table(table.select(schema.names).cast(schema))
        os.replace(whole, path)


def _typed(kind: Any) -> Any:
    """A type in which nulls have one: what is null, or an empty list, in every row counts as text."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _typed(f.type)) for f in kind.fields])
    if pa.types.is_list(kind):
        return pa.list_(_typed(kind.value_type))
    return pa.string() if pa.types.is_null(kind) else kind


def _chunks(rows: Iterator[Row], n: int) -> Iterator[Sequence[Row]]:
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == n:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def storable(value: Any) -> Any:
    """Parquet's texts are UTF-8: lone surrogates become U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {key: storable(item) for key, item in value.items()}
    return [storable(item) for item in value] if isinstance(value, list) else value
