# SPDX-License-Identifier: Apache-2.0
"""Read rows from JSON lines or arrays, CSV, TSV, Parquet, a dataset or standard input.

A source is read twice (to check its rows, then to judge them), so standard input is spooled to a file. At
most a few hundred rows are in memory at once.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.rows.columns import json_columns, read_back
from autoj_reward.rows.containers.compressed import first_bytes, open_binary
from autoj_reward.rows.containers.delimited import Delimited
from autoj_reward.rows.containers.hub import HubRows, import_datasets
from autoj_reward.rows.containers.json_array import JsonArray
from autoj_reward.rows.containers.objects import (
    MOST_DEPTH,
    Row,
    checked_object,
    too_deep,
    unique_keys,
)

__all__ = ["JsonLines", "ParquetRows", "Row", "RowSource", "chunked", "open_source", "read_rows"]

T = TypeVar("T")

_SUFFIXES = (".jsonl", ".json", ".gz", ".parquet", ".ndjson", ".csv", ".tsv")
_PARQUET_ROWS = 256
"""Rows of a Parquet file held at once."""
_MOST_LINE_BYTES = 1 << 28
"""The longest line of a JSON lines file."""


class RowSource(Protocol):
    """Rows that can be read more than once."""

    @property
    def name(self) -> str:
        """Its name in messages."""
        ...

    def rows(self) -> Iterator[tuple[int, Row | DataError]]:
        """Line (from 1) and row; for a line that is not a row, the error that says why.

        Raises:
            DataError: The whole source cannot be read.
        """
        ...


def read_rows(name: str | Path) -> Iterator[tuple[int, Row]]:
    """Line (from 1) and row of an input, as for `open_source`; the first bad row is an error.

    Raises:
        ConfigError: The source does not exist.
        DataError: A row is wrong; names file and line.
    """
    for line, row in open_source(str(name)).rows():
        if isinstance(row, DataError):
            raise row
        yield line, row


class FirstRows:
    """The first rows of a source; those that are wrong count too."""

    def __init__(self, source: RowSource, limit: int) -> None:
        self.name = source.name
        self._source, self._limit = source, limit

    def rows(self) -> Iterator[tuple[int, Row | DataError]]:
        return itertools.islice(self._source.rows(), self._limit)


def open_source(name: str, *, split: str = "train", limit: int | None = None) -> RowSource:
    """Open a named input.

    Args:
        name: `-` for standard input (JSON lines or an array), a file (JSON lines, a JSON array, `.csv`,
            `.tsv`, each compressed with gzip or not, or Parquet), a folder that `datasets` saved, or a data
            set's hub name (`ORG/NAME`).
        split: For data sets.
        limit: The first rows only; None for all.

    Raises:
        ConfigError: The source does not exist.
    """
    if limit is not None:
        return FirstRows(open_source(name, split=split), limit)
    if name == "-":
        return _open_file(_spooled(sys.stdin.buffer), "standard input")
    path = Path(name)
    if path.is_fifo():
        with open(path, "rb") as stream:
            return _open_file(_spooled(stream), name)
    if path.is_dir():
        return _saved_dataset(name, split=split)
    if path.is_file():
        return _open_file(path, name)
    if is_hub_name(name):
        return HubRows(name, split=split)
    raise no_such_file(name)


def is_hub_name(name: str) -> bool:
    """Whether a name that is no file here may be a data set of the hub, `ORG/NAME`."""
    path = Path(name)
    return name.count("/") == 1 and path.suffix not in _SUFFIXES and not path.is_absolute()


def no_such_file(name: str) -> ConfigError:
    """The error for an input that does not exist."""
    return ConfigError(
        f"there is no file {name!r}", hint="give a .jsonl, .json, .csv, .tsv or .parquet file, ORG/NAME, or -"
    )


def _open_file(path: Path, name: str) -> RowSource:
    """A file by its first bytes, and by its name where the bytes do not tell."""
    begins = first_bytes(path, name).removeprefix(b"\xef\xbb\xbf").lstrip()
    if path.suffix == ".parquet" or begins.startswith(b"PAR1"):
        return ParquetRows(path)
    if path.name.removesuffix(".gz").endswith((".csv", ".tsv")):
        return Delimited(path, name=name)
    return JsonArray(path, name=name) if begins.startswith(b"[") else JsonLines(path, name=name)


class JsonLines:
    """Rows of a JSON lines file, compressed with gzip or not; empty lines do not count as rows.

    `NaN` and the infinities are read, as Python writes them. A key given twice makes a line a bad row.
    """

    def __init__(self, path: Path, *, name: str = "") -> None:
        self._path = path
        self.name = name or str(path)

    def rows(self) -> Iterator[tuple[int, Row | DataError]]:
        with open_binary(self._path, self.name) as file:
            first = True
            for number, line in self._lines(file):
                if not line.strip():
                    continue
                row = self._row(line, number)
                if first and isinstance(row, DataError):
                    self._refuse_another_kind(line)
                first = False
                yield number, row

    def _lines(self, file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
        number = 1
        while line := file.readline(_MOST_LINE_BYTES + 1):
            if len(line) > _MOST_LINE_BYTES:
                raise DataError(
                    f"is longer than {_MOST_LINE_BYTES >> 20} MiB", path=self.name, line=number,
                    hint="JSON lines hold one object in each line",
                )  # fmt: skip
            yield number, line
            number += 1

    def _row(self, line: bytes, number: int) -> Row | DataError:
        try:
            # Some files begin with a byte order mark.
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            row = json.loads(text, object_pairs_hook=unique_keys)
        except RecursionError:
            return too_deep(self.name, number)
        except ValueError as error:
            return DataError(f"not JSON in UTF-8: {error}", path=self.name, line=number)
        if isinstance(row, dict) and line.count(b"{") + line.count(b"[") <= MOST_DEPTH:
            return row
        return checked_object(row, self.name, number)

    def _refuse_another_kind(self, line: bytes) -> None:
        """Raise DataError if the first line shows that the file is of another format."""
        for begins, what, hint in _OTHER_KINDS:
            if line.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t").startswith(begins):
                raise DataError(f"is {what}, not JSON lines", path=self.name, hint=hint)


_OTHER_KINDS = (
    (b"\xff\xfe", "UTF-16", "iconv -f UTF-16 -t UTF-8 IN > OUT.jsonl"),
    (b"\xfe\xff", "UTF-16", "iconv -f UTF-16 -t UTF-8 IN > OUT.jsonl"),
    (b"PK\x03\x04", "a ZIP archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first, or compress with gzip"),
    (b"BZh", "compressed with bzip2", "unpack it first, or compress with gzip"),
    (b"\xfd7zXZ", "compressed with xz", "unpack it first, or compress with gzip"),
    (b"ARROW1", "an Arrow file", "write it as Parquet"),
)
"""First bytes, name and hint of formats that are given as JSON lines by mistake."""


class ParquetRows:
    """Rows of a Parquet file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)

    def rows(self) -> Iterator[tuple[int, Row | DataError]]:
        import pyarrow
        import pyarrow.parquet

        number = 0
        try:
            with pyarrow.parquet.ParquetFile(self._path) as file:
                texts = json_columns(file.schema_arrow)
                for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, read_back(row, texts) if texts else row
        except DataError:
            raise
        # Texts that are not UTF-8 and dates that Python does not have are found when they become values.
        except (OSError, ValueError, OverflowError, pyarrow.ArrowException) as error:
            raise DataError(f"cannot be read as Parquet: {error}", path=self.name) from error


class DatasetRows:
    """Rows of a data set, or of any iterable of mappings that can be iterated again."""

    def __init__(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        self.name = name
        self._rows = rows

    def rows(self) -> Iterator[tuple[int, Row | DataError]]:
        for number, row in enumerate(self._rows, start=1):
            yield number, dict(row)


def _saved_dataset(name: str, *, split: str) -> DatasetRows:
    """One split of a data set that was saved to disk."""
    datasets = import_datasets(name)
    try:
        loaded = datasets.load_from_disk(name)
        rows = loaded[split] if isinstance(loaded, dict) else loaded
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"the data set {name!r} cannot be loaded: {error}", hint="is the split right? --split NAME"
        ) from error
    return DatasetRows(f"{name} ({split})", rows)


def chunked(
    items: Iterable[T], most: int, size: Callable[[T], int] = lambda item: 1, *, longest: int = 4096
) -> Iterator[list[T]]:
    """Lists of at most `longest` consecutive items, whose sizes sum to at most `most`.

    An item larger than that is alone in its list.
    """
    chunk: list[T] = []
    total = 0
    for item in items:
        n = size(item)
        if chunk and (total + n > most or len(chunk) == longest):
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += n
    if chunk:
        yield chunk


def _spooled(stream: IO[bytes]) -> Path:
    """The stream's content in a temporary file that is deleted when the process ends."""
    spool = tempfile.NamedTemporaryFile(prefix="autoj-reward-stdin-", suffix=".jsonl")  # noqa: SIM115
    shutil.copyfileobj(stream, spool)
    spool.flush()
    _SPOOLS.append(spool)
    return Path(spool.name)


_SPOOLS: list[Any] = []
"""Keeps references to temporary files, which are deleted when they are closed."""
