# SPDX-License-Identifier: Apache-2.0
"""A benchmark's files, folders and data sets as one source of item rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from autoj_reward.errors import DataError
from autoj_reward.rows.fields import RowProblem
from autoj_reward.rows.source import Row, open_source

Reader = Callable[[Row, str], Row | None]
"""From a published row and the name of its file to an item's row; None for one that does not count."""

_SUFFIXES = (".json", ".jsonl", ".gz", ".parquet")


class BenchmarkRows:
    """Item rows of published files, in the order of the files.

    Args:
        names: Files (`.json` with an array, `.jsonl`, `.parquet`), folders of them, or data sets.
        read: The benchmark's reader.
        split_of: The split of each data set.
        limit: Most items; None for all.

    Raises:
        ConfigError: One does not exist.
    """

    def __init__(
        self, names: Sequence[str], read: Reader, *, split_of: Callable[[str], str], limit: int | None = None
    ) -> None:
        self.name = ", ".join(names)
        self._read = read
        self._limit = limit
        files = [file for name in names for file in _files(name)]
        self._opened = [(file, open_source(file, split=split_of(file))) for file in files]

    def rows(self) -> Iterator[tuple[int, Row | DataError]]:
        """The item's number (from 1) and its row, or what is wrong with the published row."""
        return islice(enumerate(self._items(), start=1), self._limit)

    def _items(self) -> Iterator[Row | DataError]:
        for name, source in self._opened:
            for line, published in source.rows():
                if isinstance(published, DataError):
                    yield published
                    continue
                try:
                    item = self._read(published, name)
                except RowProblem as problem:
                    yield problem.at(name, line)
                    continue
                if item is not None:
                    yield item


def _files(name: str) -> list[str]:
    """The files of a folder, in the order of their paths; a data set, saved or on the hub, as it is."""
    path = Path(name)
    if not path.is_dir() or (path / "state.json").exists() or (path / "dataset_dict.json").exists():
        return [name]
    found = sorted(str(file) for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
    if not found:
        raise DataError(f"holds no file that ends in {', '.join(_SUFFIXES)}", path=name)
    return found
