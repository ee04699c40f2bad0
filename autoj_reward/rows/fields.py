# SPDX-License-Identifier: Apache-2.0
"""Map a row's fields to requests, for our formats and Auto-J's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from autoj_reward.errors import AutojRewardError, ConfigError, DataError
from autoj_reward.judge.messages.text import completion_text, prompt_text
from autoj_reward.rows.source import Row
from autoj_reward.types import Request, Text

Kind = Literal["rate", "compare", "rerank"]

OPTIONAL_FIELDS = frozenset({"rubric", "reference", "language"})
"""Optional fields of a row that a judge may take."""


class RowProblem(AutojRewardError):
    """A field of a row is missing or has the wrong type; the caller knows the line."""

    def __init__(self, message: str, field: str | None) -> None:
        super().__init__(message)
        self.field = field

    def at(self, path: str | Path, line: int) -> DataError:
        """The error with the file and line of the row."""
        return DataError(str(self), path=str(path), line=line, field=self.field)


def _unchanged(row: Row) -> Iterator[Row]:
    yield row


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFormat:
    """Where a row keeps its prompt and completions.

    Attributes:
        prompt: Field of the prompt.
        completions: Fields of the one or two completions; for groups the one field of the list.
        grouped: Whether that field is a list of completions.
        expand: Splits a file row that holds several groups into one row for each.
        rubric_of: Gives a rubric for rows without one, from the row and its prompt text.
    """

    prompt: str = "prompt"
    completions: tuple[str, ...]
    grouped: bool = False
    expand: Callable[[Row], Iterator[Row]] = field(default=_unchanged)
    rubric_of: Callable[[Row, str], str | None] | None = None

    def requests(self, row: Row, *, optional: frozenset[str] = frozenset()) -> list[Request]:
        """The requests of a row: one, or for a group one for each completion.

        Args:
            row: The row.
            optional: Which of `rubric`, `reference` and `language` the judge takes.

        Raises:
            RowProblem: A field is missing or wrong.
        """
        prompt = message_field(row, self.prompt, prompt=True)
        given = {name: _optional(row, name) for name in OPTIONAL_FIELDS & optional}
        rubric = given.get("rubric")
        if rubric is None and self.rubric_of is not None:
            rubric = self.rubric_of(row, prompt_text(prompt))
        if self.grouped:
            name = self.completions[0]
            group = _value(row, name)
            if not isinstance(group, list) or not group:
                raise RowProblem(f"must be a list of completions, is {_kind(group)}", name)
            sets: list[tuple[Text, ...]] = [
                (_checked(item, f"{name}[{i}]", completion_text),) for i, item in enumerate(group)
            ]
        else:
            sets = [tuple(message_field(row, name) for name in self.completions)]
        return [
            Request(
                prompt=prompt,
                completions=texts,
                rubric=rubric,
                reference=given.get("reference"),
                language=given.get("language"),
            )
            for texts in sets
        ]

    def n_requests(self, row: Row) -> int:
        """How many requests a row that passed the check has."""
        return len(row[self.completions[0]]) if self.grouped else 1


def row_format(kind: Kind, name: str | None, columns: Mapping[str, str]) -> RowFormat:
    """The format of a file's rows.

    Args:
        kind: What is done with the rows.
        name: `autoj-critique` (rate), `autoj-pairwise` (compare), `autoj-selection` (rerank), or None
            for our own fields.
        columns: Our field names to the file's, where they differ.

    Raises:
        ConfigError: The format is unknown, or rows of this kind do not have a field.
    """
    if name is not None:
        if (kind, name) not in _AUTOJ:
            fitting = ", ".join(n for k, n in _AUTOJ if k == kind)
            raise ConfigError(f"{kind} does not read the format {name!r}", hint=f"it reads {fitting}")
        if columns:
            raise ConfigError(f"the format {name} has fixed fields; leave out --column")
        return _AUTOJ[kind, name]
    own = {
        "rate": ("prompt", "completion"),
        "compare": ("prompt", "first", "second"),
        "rerank": ("prompt", "completions"),
    }[kind]
    if unknown := sorted(set(columns) - set(own)):
        raise ConfigError(f"{kind} has no fields {unknown}", hint=f"its fields are {', '.join(own)}")
    prompt, *completions = (columns.get(n, n) for n in own)
    return RowFormat(prompt=prompt, completions=tuple(completions), grouped=kind == "rerank")


def _selection(row: Row) -> Iterator[Row]:
    """A row for each policy model: `model` says which, `completions` are its outputs."""
    outputs = _value(row, "outputs")
    if not isinstance(outputs, dict) or not outputs:
        raise RowProblem(f"must map model names to their outputs, is {_kind(outputs)}", "outputs")
    others = {key: value for key, value in row.items() if key != "outputs"}
    for model, made in outputs.items():
        if not isinstance(made, dict) or "outputs" not in made:
            raise RowProblem("needs a list 'outputs'", f"outputs.{model}")
        yield {**others, "model": model, "completions": made["outputs"]}


_AUTOJ: dict[tuple[Kind, str], RowFormat] = {
    ("rate", "autoj-critique"): RowFormat(completions=("response",)),
    ("compare", "autoj-pairwise"): RowFormat(completions=("response 1", "response 2")),
    ("rerank", "autoj-selection"): RowFormat(completions=("completions",), grouped=True, expand=_selection),
}


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
        raise RowProblem(f"must be a text or null, is {_kind(value)}", name)
    return value


def _value(row: Row, name: str) -> Any:
    if name not in row:
        raise RowProblem(f"is missing; the row has {', '.join(map(repr, row)) or 'no fields'}", name)
    return row[name]


def _kind(value: Any) -> str:
    return "an empty list" if value == [] else _KINDS.get(type(value), f"a {type(value).__name__}")


_KINDS = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
}
