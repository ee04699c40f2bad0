# SPDX-License-Identifier: Apache-2.0
"""Rows from JSON lines, Parquet, a data set of the hub or on disk, or standard input.

A source is read twice (checked first, judged then), so standard input is spooled to a file. Nothing
holds more than a few hundred rows at once.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.extras import how_to_install

Row = dict[str, Any]
"""One row: field names to values, in the file's order."""

_PARQUET_ROWS = 256
"""Rows of a Parquet file held at once."""


class RowSource(Protocol):
    """A set of rows that can be gone through again and again."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def rows(self) -> Iterator[tuple[int, Row | DataError]]:
        """Line (from 1) and row; where a line is no row, the error that says why.

        Raises:
            DataError: The whole source cannot be read.
        """
        ...


def open_source(name: str, *, split: str = "train") -> RowSource:
    """Find a source.

    Args:
        name: `-` for standard input (JSON lines), a file (`.jsonl`, `.jsonl.gz`, `.parquet`), a folder
            that `datasets` saved, or a data set's hub name (`ORG/NAME`).
        split: For data sets.

    Raises:
        ConfigError: There is no such source.
    """
    if name == "-":
        return JsonLines(_spooled(sys.stdin.buffer), name="standard input")
    path = Path(name)
    if path.is_dir():
        return DatasetRows(name, split=split, on_disk=True)
    if path.is_file():
        return ParquetRows(path) if path.suffix == ".parquet" else JsonLines(path)
    looks_like_file = path.suffix in (".jsonl", ".json", ".gz", ".parquet", ".ndjson") or path.is_absolute()
    if name.count("/") == 1 and not looks_like_file:
        return DatasetRows(name, split=split, on_disk=False)
    raise ConfigError(
        f"there is no file {name!r}", hint="give a .jsonl, .jsonl.gz or .parquet file, ORG/NAME, or -"
    )


class JsonLines:
    """Rows of a JSON lines file, compressed with gzip or not; empty lines do not count as rows."""

    def __init__(self, path: Path, *, name: str = "") -> None:
        self._path = path
        self.name = name or str(path)

    def rows(self) -> Iterator[tuple[int, Row | DataError]]:
        try:
            with gzip.open(self._path) if self._path.suffix == ".gz" else open(self._path, "rb") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield number, self._row(line, number)
        except (OSError, EOFError) as error:
            raise DataError(f"cannot be read: {error}", path=self.name) from error

    def _row(self, line: bytes, number: int) -> Row | DataError:
        try:
            # Byte order marks stand before the first line of some files.
            row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except (ValueError, RecursionError) as error:
            return DataError(f"not JSON in UTF-8: {error}", path=self.name, line=number)
        if not isinstance(row, dict):
            return DataError(f"a {type(row).__name__}, not a JSON object", path=self.name, line=number)
        return row


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
                for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, row
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"cannot be read as Parquet: {error}", path=self.name) from error


class DatasetRows:
    """Rows of one split of a data set, streamed from the hub or mapped from disk."""

    def __init__(self, name: str, *, split: str, on_disk: bool) -> None:
        try:
            import datasets
        except ImportError as error:
            raise ConfigError(
                f"{name!r} is a data set, and the package datasets is not installed",
                hint=how_to_install("data"),
            ) from error
        self.name = f"{name} ({split})"
        try:
            if on_disk:
                loaded = datasets.load_from_disk(name)
                self._rows: Any = loaded[split] if isinstance(loaded, dict) else loaded
            else:
                self._rows = datasets.load_dataset(name, split=split, streaming=True)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(
                f"the data set {name!r} cannot be loaded: {error}", hint="is the split right? --split NAME"
            ) from error

    def rows(self) -> Iterator[tuple[int, Row | DataError]]:
        for number, row in enumerate(self._rows, start=1):
            yield number, dict(row)


def _spooled(stream: IO[bytes]) -> Path:
    """The stream's content as a file that goes away with the process."""
    spool = tempfile.NamedTemporaryFile(prefix="autoj-reward-stdin-", suffix=".jsonl")  # noqa: SIM115
    shutil.copyfileobj(stream, spool)
    spool.flush()
    _SPOOLS.append(spool)
    return Path(spool.name)


_SPOOLS: list[Any] = []
"""Keeps spooled files open, and with that in being, until the process ends."""
