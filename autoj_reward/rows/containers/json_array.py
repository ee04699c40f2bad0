# SPDX-License-Identifier: Apache-2.0
"""Rows of a JSON array of objects, as `json.dump` and pandas write it.

The whole text is in memory while it is read; JSON lines are read row by row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autoj_reward.errors import DataError
from autoj_reward.rows.containers.compressed import open_binary
from autoj_reward.rows.containers.objects import Row, checked_object, unique_keys


class JsonArray:
    """Rows of a JSON array, compressed with gzip or not; rows are numbered from 1."""

    def __init__(self, path: Path, *, name: str = "") -> None:
        self._path = path
        self.name = name or str(path)

    def rows(self) -> Iterator[tuple[int, Row | DataError]]:
        """Number (from 1) and row; for an item that is not a row, the error that says why.

        Raises:
            DataError: The file is not a JSON array in UTF-8.
        """
        with open_binary(self._path, self.name) as file:
            try:
                text = file.read().decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise DataError(f"is not JSON in UTF-8: {error}", path=self.name) from error
        decoder = json.JSONDecoder(object_pairs_hook=unique_keys)
        at, number = self._past_blanks(text, text.index("[") + 1), 0
        while text[at : at + 1] != "]":
            number += 1
            try:
                item: Any
                item, at = decoder.raw_decode(text, at)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"is not a JSON array: item {number}: {error}", path=self.name,
                    hint="one object in each line is read without the brackets",
                ) from error  # fmt: skip
            yield number, checked_object(item, self.name, number)
            at = self._past_blanks(text, at)
            if text[at : at + 1] == ",":
                at = self._past_blanks(text, at + 1)
            elif text[at : at + 1] != "]":
                raise DataError(
                    f"is not a JSON array: after item {number} a comma or ] is missing", path=self.name
                )
        if text[at + 1 :].strip():
            raise DataError("is not a JSON array: text follows its ]", path=self.name)

    @staticmethod
    def _past_blanks(text: str, at: int) -> int:
        while text[at : at + 1] in (" ", "\n", "\r", "\t"):
            at += 1
        return at
