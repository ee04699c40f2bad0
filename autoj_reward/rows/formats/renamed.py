# SPDX-License-Identifier: Apache-2.0
"""Fields under other names: what `--column OURS=THEIRS` maps, and what a misspelt name was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.rows.containers.objects import Row
from autoj_reward.rows.formats.parts import Reader, RowParts
from autoj_reward.rows.formats.table import OWN, KnownFormat
from autoj_reward.rows.source import RowSource

_CUTOFF = 0.75
"""Names that difflib finds less alike than this are different words: chosen and choice are (0.67)."""


def renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    """A row with some fields under our names as well; what it does not have is left out."""
    return {**row, **{ours: row[theirs] for ours, theirs in columns.items() if theirs in row}}


def read_renamed(row: Row, *, read: Reader, columns: Mapping[str, str]) -> RowParts:
    """Read a row whose fields have other names, with the reader of a format."""
    return read(renamed(row, columns))


def expand_renamed(
    row: Row, *, expand: Callable[[Row], Iterator[Row]], columns: Mapping[str, str]
) -> Iterator[Row]:
    """Split a row whose fields have other names, as a format does."""
    return expand(renamed(row, columns))


@dataclass(frozen=True, slots=True)
class RenamedRows:
    """A source whose rows have some fields under our names as well."""

    source: RowSource
    columns: Mapping[str, str]

    @property
    def name(self) -> str:
        """The source's name in messages."""
        return self.source.name

    def rows(self) -> Iterator[tuple[int, Row | DataError]]:
        """As those of the source."""
        for line, row in self.source.rows():
            yield line, row if isinstance(row, DataError) else renamed(row, self.columns)


def similar(name: str, names: Iterable[str]) -> str | None:
    """The one of some names that a name was meant to be: equal without case and marks, or nearly spelt so."""
    plain = {_plain(known): known for known in names}
    found = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=_CUTOFF)
    return plain[found[0]] if found else None


def check_columns(
    columns: Mapping[str, str], formats: Sequence[KnownFormat], present: Collection[str], kinds: Sequence[str]
) -> None:
    """Refuse names that no format or no row has, and a pair of names the wrong way round.

    Args:
        columns: Our field names to the file's.
        formats: Those that may be read.
        present: Fields of the first rows.
        kinds: What is done with the rows, for the message.

    Raises:
        ConfigError: These formats have no field with the name on the left, the rows have none with the name
            on the right, or the two are exchanged.
    """
    ours_known = {name for one in formats for mark in one.marks for name in mark.split("|")}
    for ours, theirs in columns.items():
        exchanged = theirs in ours_known and theirs not in present
        if exchanged and (ours not in ours_known or ours in present):
            raise ConfigError(
                f"in {ours}={theirs} the names are the wrong way round: the rows have no field {theirs!r}",
                hint=f"the name that is read comes first, then the file's: {theirs}={ours}",
            )
        if ours not in ours_known:
            near = similar(ours, ours_known)
            hint = f"did you mean {near}={theirs}?"
            if near is None:
                own = dict.fromkeys(mark for kind in kinds for mark in OWN[kind].marks)
                hint = f"its fields are {', '.join(own)}; those of other formats are in docs/files.md"
            if theirs in ours_known & set(present):
                hint = f"{theirs!r} is read by its own name: leave the option out"
            raise ConfigError(
                f"{' or '.join(kinds)} reads no field {ours!r} (in {ours}={theirs})",
                hint=hint,
            )
        if present and theirs not in present:
            raise ConfigError(
                f"the rows have no field {theirs!r} (in {ours}={theirs})",
                hint=f"they have {', '.join(sorted(present))}",
            )


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
