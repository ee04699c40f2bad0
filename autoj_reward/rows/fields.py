# SPDX-License-Identifier: Apache-2.0
"""Map a row's fields to requests, for our formats and those of published data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from autoj_reward.criteria.readers import read_rubric
from autoj_reward.criteria.rubric import Rubric
from autoj_reward.errors import ConfigError
from autoj_reward.judge.messages.text import completion_text, prompt_text
from autoj_reward.rows.formats.detect import TAKES, Kind, detected, named_format
from autoj_reward.rows.formats.parts import Reader, RowParts, RowProblem, kind_of, unpacked
from autoj_reward.rows.formats.renamed import expand_renamed, read_renamed
from autoj_reward.rows.formats.table import OWN, KnownFormat, as_it_is
from autoj_reward.rows.source import Row, RowSource
from autoj_reward.types import Request, Text

__all__ = ["OPTIONAL_FIELDS", "Kind", "RowFormat", "RowProblem", "find_format", "message_field", "row_format"]

_MOST_TEXTS = 3
"""A format's first fields hold its texts: a prompt and up to two completions."""

OPTIONAL_FIELDS = frozenset({"rubric", "reference", "language"})
"""Optional fields of a row that a judge may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFormat:
    """Where a row keeps its prompt and completions.

    Attributes:
        prompt: Field of the prompt.
        completions: Fields of the one or two completions; for groups the one field of the list.
        grouped: Whether the completions are a group, one request for each.
        expand: Splits a file row that holds several groups into one row for each.
        rubric: Field of the rubric: a text, or criteria as `read_rubric` takes them.
        rubric_of: Gives a rubric for rows without one, from the row and its prompt text.
        read: Reads the rows of a published format; None for the fields above.
        name: The published format's name; None for our own.
        about: What writes that format.
        marks: Names of all fields that may hold the texts of the published format.
        kinds: What is done with the rows, for messages about rows that do not fit.
    """

    prompt: str = "prompt"
    completions: tuple[str, ...]
    grouped: bool = False
    expand: Callable[[Row], Iterator[Row]] = field(default=as_it_is)
    rubric: str = "rubric"
    rubric_of: Callable[[Row, str], str | Rubric | None] | None = None
    read: Reader | None = None
    name: str | None = None
    about: str = ""
    marks: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()

    def parts(self, row: Row) -> RowParts:
        """A row's prompt and completions, checked: a judge can be shown them.

        Raises:
            RowProblem: A field is missing or wrong.
        """
        if self.read is not None:
            parts = self.read(row)
            _checked(parts.prompt, self.prompt, prompt_text)
            for n, text in enumerate(parts.completions):
                _checked(text, self._field(n), completion_text)
            return parts
        prompt = message_field(row, self.prompt, prompt=True)
        if not self.grouped:
            texts = [message_field(row, name) for name in self.completions]
            return RowParts(prompt=prompt, completions=texts)
        name = self.completions[0]
        group = unpacked(_value(row, name))
        if not isinstance(group, list) or not group:
            raise RowProblem(f"must be a list of completions, is {kind_of(group)}", name)
        return RowParts(
            prompt=prompt,
            completions=[_checked(item, f"{name}[{i}]", completion_text) for i, item in enumerate(group)],
        )

    def requests(self, row: Row, *, optional: frozenset[str] = frozenset()) -> list[Request]:
        """The requests of a row: one, or for a group one for each completion.

        Args:
            row: The row.
            optional: Which of `rubric`, `reference` and `language` the judge takes. A rubric of criteria, and
                a reference beside one, are taken by every judge that rates.

        Raises:
            RowProblem: A field is missing or wrong.
        """
        parts = self.parts(row)
        rubric = self._rubric(row, prompt_text(parts.prompt))
        if isinstance(rubric, Rubric) and (self.grouped or len(parts.completions) == 1):
            optional |= {"rubric", "reference"}
        given = {name: _optional(row, name) for name in optional & {"reference", "language"}}
        sets = [(text,) for text in parts.completions] if self.grouped else [tuple(parts.completions)]
        return [
            Request(
                prompt=parts.prompt,
                completions=texts,
                rubric=rubric if "rubric" in optional else None,
                reference=given.get("reference"),
                language=given.get("language"),
            )
            for texts in sets
        ]

    def _rubric(self, row: Row, prompt: str) -> str | Rubric | None:
        try:
            rubric = read_rubric(unpacked(row.get(self.rubric)))
        except ConfigError as error:
            raise RowProblem(error.args[0], self.rubric) from error
        return self.rubric_of(row, prompt) if rubric is None and self.rubric_of is not None else rubric

    def n_requests(self, row: Row) -> int:
        """How many requests a row that passed the check has."""
        if not self.grouped:
            return 1
        return len(unpacked(row[self.completions[0]]) if self.read is None else self.read(row).completions)

    @property
    def fields(self) -> frozenset[str]:
        """Names of the fields that the prompt and the completions are read from."""
        return frozenset({self.prompt, *self.completions, *self.marks})

    def _field(self, n: int) -> str:
        """The name of a completion in messages."""
        return self.completions[n] if n < len(self.completions) else f"completions[{n}]"


def row_format(kind: Kind, name: str | None, columns: Mapping[str, str]) -> RowFormat:
    """The format of a file's rows, by name.

    Args:
        kind: What is done with the rows.
        name: The name of a published format (see docs/files.md), or None for our own fields.
        columns: The format's field names to the file's, where they differ.

    Raises:
        ConfigError: The format is unknown, or rows of this kind do not have a field.
    """
    if name is not None:
        return _format_of(named_format(name, (kind,)), kind, columns)
    own = {
        "rate": ("prompt", "completion"),
        "compare": ("prompt", "first", "second"),
        "rerank": ("prompt", "completions"),
    }[kind]
    columns = dict(columns)
    rubric = columns.pop("rubric", "rubric")
    if unknown := sorted(set(columns) - set(own)):
        raise ConfigError(f"{kind} has no fields {unknown}", hint=f"its fields are {', '.join(own)}, rubric")
    prompt, *completions = (columns.get(n, n) for n in own)
    return RowFormat(
        prompt=prompt,
        completions=tuple(completions),
        grouped=kind == "rerank",
        rubric=rubric,
        kinds=(kind,),
    )


def find_format(
    source: RowSource, kinds: Sequence[Kind], name: str | None, columns: Mapping[str, str]
) -> tuple[Kind, RowFormat]:
    """What the rows of a source are read as, and their format; without a name the first rows tell it.

    Args:
        source: The rows.
        kinds: What may be done with them; the last is for rows that fit none.
        name: As for `row_format`.
        columns: As for `row_format`; the first rows are looked at under these names.

    Raises:
        ConfigError: The format is unknown, none that these kinds read, or has no such field.
        DataError: The source as a whole cannot be read.
    """
    texts = {ours: theirs for ours, theirs in columns.items() if ours != "rubric"}
    known = detected(source, kinds, texts) if name is None else named_format(name, kinds)
    if known is None:
        return _by_columns(kinds, columns)
    kind = next(k for k, holds in TAKES.items() if k in kinds and known.holds in holds)
    if known is OWN[kind]:
        return kind, row_format(kind, None, columns)
    return kind, row_format(kind, known.name, columns)


def _by_columns(kinds: Sequence[Kind], columns: Mapping[str, str]) -> tuple[Kind, RowFormat]:
    """Our own format for rows that have none: of the kind whose fields are named, else of the last."""
    named = {*columns} - {"rubric"}
    kind = next((k for k in reversed(kinds) if named <= {*OWN[k].marks}), kinds[-1])
    own = {ours: theirs for ours, theirs in columns.items() if ours in (*OWN[kind].marks, "rubric")}
    return kind, row_format(kind, None, own)


def _format_of(known: KnownFormat, kind: Kind, columns: Mapping[str, str]) -> RowFormat:
    names = {"one": ("completion",), "two": ("first", "second"), "many": ("completions",)}[known.holds]
    columns = dict(columns)
    rubric = columns.pop("rubric", "rubric")
    if len(known.marks) > len(names) and all("|" not in mark for mark in known.marks):
        names = known.marks[1 : 1 + len(names)]
    if unknown := sorted(set(columns) - {name for mark in known.marks for name in mark.split("|")}):
        raise ConfigError(
            f"the format {known.name} has no fields {unknown}",
            hint=f"its fields are {', '.join(known.marks)}",
        )
    read, expand = known.read, known.expand
    if columns:
        read = partial(read_renamed, read=read, columns=dict(columns))
        if expand is not as_it_is:
            expand = partial(expand_renamed, expand=expand, columns=dict(columns))
    return RowFormat(
        prompt=known.marks[0].split("|")[0],
        completions=tuple(names),
        grouped=kind == "rerank",
        rubric=rubric,
        expand=expand,
        read=read,
        name=None if known is OWN.get(known.name) else known.name,
        about=known.about,
        marks=tuple(
            columns.get(name, name) for mark in known.marks[:_MOST_TEXTS] for name in mark.split("|")
        ),
        kinds=(kind,),
    )


def message_field(row: Row, name: str, *, prompt: bool = False) -> Text:
    """A row's prompt or completion as it was given: a text, or messages that a judge can be shown.

    Raises:
        RowProblem: It is missing, neither text nor messages, or cannot be shown.
    """
    return _checked(_value(row, name), name, prompt_text if prompt else completion_text)


def _checked(value: Any, name: str, lay_out: Callable[[Text], str]) -> Text:
    try:
        lay_out(value)
    except ConfigError as error:
        raise RowProblem(str(error), name) from error
    return value  # type: ignore[no-any-return]


def _optional(row: Row, name: str) -> str | None:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise RowProblem(f"must be a text or null, is {kind_of(value)}", name)
    return value


def _value(row: Row, name: str) -> Any:
    if name not in row:
        raise RowProblem(f"is missing; the row has {', '.join(map(repr, row)) or 'no fields'}", name)
    return row[name]
