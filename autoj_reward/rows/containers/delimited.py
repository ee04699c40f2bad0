# SPDX-License-Identifier: Apache-2.0
"""Rows of CSV and TSV files. Every value is a text; an empty cell is null."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path

from autoj_reward.errors import DataError
from autoj_reward.rows.containers.compressed import open_binary
from autoj_reward.rows.containers.objects import Row

_DELIMITERS = (",", ";", "\t", "|")


class Delimited:
    """Rows of a file with one header line, compressed with gzip or not.

    A `.tsv` file has tabs; any other the delimiter that its header has most of. Rows are numbered by the line
    on which they begin. A cell may hold line breaks between quotes.
    """

    def __init__(self, path: Path, *, name: str = "") -> None:
        self._path = path
        self.name = name or str(path)

    def rows(self) -> Iterator[tuple[int, Row | DataError]]:
        """Line (from 1) and row; for a line with another number of cells, the error.

        Raises:
            DataError: The file cannot be read as a table of texts in UTF-8.
        """
        csv.field_size_limit(min(sys.maxsize, 1 << 31 - 1))
        with open_binary(self._path, self.name) as file:
            text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
            try:
                header = text.readline()
                names = next(csv.reader([header], delimiter=self._delimiter(header)), [])
                self._check(names)
                reader = csv.reader(text, delimiter=self._delimiter(header), strict=True)
                line = 2
                for cells in reader:
                    if cells:
                        yield line, self._row(names, cells, line)
                    line = reader.line_num + 2
            except (csv.Error, UnicodeDecodeError) as error:
                raise DataError(f"cannot be read as a table in UTF-8: {error}", path=self.name) from error

    def _delimiter(self, header: str) -> str:
        if self._path.name.removesuffix(".gz").endswith(".tsv"):
            return "\t"
        return max(_DELIMITERS, key=header.count)

    def _check(self, names: list[str]) -> None:
        if not any(names):
            raise DataError("has no header line with the names of its columns", path=self.name)
        if twice := next((n for n in names if names.count(n) > 1), None):
            raise DataError(f"has two columns {twice!r}", path=self.name, line=1)

    def _row(self, names: list[str], cells: list[str], line: int) -> Row | DataError:
        if len(cells) != len(names):
            return DataError(
                f"has {len(cells)} cells, the header has {len(names)}", path=self.name, line=line,
                hint="a cell that holds the delimiter, quotes or line breaks stands in double quotes",
            )  # fmt: skip
        return {name: cell or None for name, cell in zip(names, cells, strict=True)}
