# SPDX-License-Identifier: Apache-2.0
"""Read what people said of completions from rows of any format: preferences of pairs, numbers of groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.judgments import Preference
from autoj_reward.rows.fields import RowFormat, RowProblem, find_format
from autoj_reward.rows.formats import readers
from autoj_reward.rows.formats.detect import first_rows, nearest
from autoj_reward.rows.formats.parts import RowParts, numbers
from autoj_reward.rows.formats.renamed import RenamedRows
from autoj_reward.rows.source import Row, RowSource, open_source

_GOLD: dict[Preference, tuple[float, float]] = {"first": (1.0, 0.0), "second": (0.0, 1.0), "tie": (0.5, 0.5)}


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A row with its place and its parts."""

    line: int
    row: Row
    parts: RowParts


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Rows of one format.

    Attributes:
        format: How they are read.
        rows: Their parts, with what people said.
    """

    format: RowFormat
    rows: Iterator[LabelledRow]


def read_labelled(
    path: str | Path, *, format_name: str | None = None, columns: Mapping[str, str] | None = None
) -> LabelledRows:
    """Rows of pairs or groups, of a format that is recognised by the first rows.

    Args:
        path: As for `open_source`.
        format_name: The format; None recognises it.
        columns: Our field names, or those of a published format, to the file's; also `label` for what people
            preferred and `gold` for their numbers.

    Raises:
        ConfigError: The file does not exist, or has a format without pairs or groups.
        DataError: It cannot be read; the first bad row names line and field.
    """
    source: RowSource = open_source(str(path))
    named = dict(columns or {})
    label, gold = named.pop("label", ""), named.pop("gold", "")
    kind, found = find_format(source, ("rerank", "compare"), format_name, named)
    if found.read is None:
        prompt, *texts = found.prompt, *found.completions
        if kind == "compare":
            read: Any = partial(readers.own_two, prompt=prompt, first=texts[0], second=texts[1], label=label)
        else:
            read = partial(readers.many, prompt=prompt, completions=texts[0], grades=gold or readers.GRADES)
        found = replace(found, read=read)
    elif label:
        if "label" not in getattr(found.read, "keywords", {}).get("label", "").split("|"):
            raise ConfigError(
                f"--column label={label} has no effect: the format {found.name!r} has a field of its own for "
                "what people preferred",
                hint="leave it out, or read the rows as --format compare",
            )
        source = RenamedRows(source, {"label": label})
    return LabelledRows(found, _rows(source, found, gold))


def _rows(source: RowSource, found: RowFormat, gold: str) -> Iterator[LabelledRow]:
    seen = False
    for line, row in source.rows():
        if isinstance(row, DataError):
            raise row
        try:
            for one in found.expand(row):
                parts = found.parts(one)
                if gold:
                    parts = replace(parts, gold=numbers(one, gold, len(parts.completions)), preference=None)
                yield LabelledRow(line, one, parts)
        except RowProblem as problem:
            error = problem.at(source.name, line)
            if seen:
                raise error from problem
            near = nearest(row, ("rerank", "compare"))
            raise DataError(
                f"{error}{'; ' * bool(near.says)}{near.says}\n{first_rows([row])}",
                hint=near.option("--column OURS=THEIRS names other fields, --format another layout"),
            ) from problem
        seen = True


def pairs_of(parts: RowParts) -> Iterator[tuple[int, int, Preference]]:
    """The pairs that people decided, as indices of two completions and the preference.

    Two completions are one pair. Of a group these are the pairs whose gold differs; the first of each is the
    earlier one.

    Raises:
        RowProblem: The row does not say what people preferred.
    """
    if parts.preference is not None:
        yield 0, 1, parts.preference
        return
    if parts.gold is None:
        raise RowProblem(
            "is missing: what people preferred (first, second, tie, or 0, 1, 2; for a group a number for "
            "each completion)",
            "label" if len(parts.completions) == 2 else "gold",
        )
    for i, j in combinations(range(len(parts.gold)), 2):
        if parts.gold[i] != parts.gold[j]:
            yield i, j, "first" if parts.gold[i] > parts.gold[j] else "second"


def gold_of(parts: RowParts) -> tuple[float, ...] | None:
    """A number for each completion, more is better: the row's own, or 1 and 0 of a pair (0.5 for a tie)."""
    if parts.gold is None and parts.preference is not None:
        return _GOLD[parts.preference]
    return parts.gold
