# SPDX-License-Identifier: Apache-2.0
"""Read a batch's prompts, completions and dataset columns into texts for the judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from autoj_reward.criteria.readers import read_rubric
from autoj_reward.criteria.rubric import Rubric
from autoj_reward.errors import ConfigError
from autoj_reward.judge.messages.columns import as_column
from autoj_reward.judge.messages.text import Reasoning, ShownText, completion_text, prompt_text
from autoj_reward.reward.groups import Item
from autoj_reward.types import Text

Shown = Literal["last", "transcript"]
"""transcript: all turns of the completion, tool calls and results included. last: the last assistant turn."""


def read_items(
    prompts: Sequence[Text],
    completions: Sequence[Text],
    columns: Mapping[str, Any],
    *,
    names: Mapping[str, str],
    shown: Shown,
    reasoning: Reasoning,
) -> list[Item]:
    """Read a batch of B prompts and completions, and of B values per dataset column.

    `names` maps the fields in use (`baseline`, `rubric`, `reference`, `language`) to columns.

    Raises:
        ConfigError: Lengths differ, a column is missing, or a value cannot be shown; names the place.
    """
    prompts = as_column("prompts", prompts)
    completions = as_column("completions", completions, len(prompts))
    used = {field: _column(field, column, columns, len(prompts)) for field, column in names.items()}
    items = []
    for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        where = f"prompts[{i}]"
        try:
            asked = prompt_text(prompt, reasoning)
            where = f"completions[{i}]"
            answer = _completion(completion, shown, reasoning)
            texts: dict[str, Any] = {}
            for field, values in used.items():
                where = f"{names[field]}[{i}]"
                texts[field] = _field(values[i], field, shown, reasoning)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error.args[0]}", hint=error.hint) from None
        items.append(Item(prompt=asked, completion=answer, **texts))
    return items


def _column(field: str, column: str, columns: Mapping[str, Any], n: int) -> Sequence[Any]:
    values = columns.get(column)
    if values is None or isinstance(values, str) or len(values) != n:
        raise ConfigError(
            f"the trainer gives no column {column!r} of {n} {field}s; its columns are: "
            f"{', '.join(sorted(columns)) or 'none'}",
            hint=f"name a column of the dataset as {field}_column, and keep it in the dataset",
        )
    found: Sequence[Any] = values
    return found


def _field(value: Any, field: str, shown: Shown, reasoning: Reasoning) -> str | Rubric | None:
    if field == "rubric":
        return read_rubric(value)
    if field == "baseline":
        if value is None:
            raise ConfigError("a row has no baseline to compare completions with")
        return _completion(value, shown, reasoning)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"a row's {field} is a {type(value).__name__}, not text")
    return value


def _completion(completion: Text, shown: Shown, reasoning: Reasoning) -> ShownText:
    return ShownText(completion_text(completion, reasoning, "last" if shown == "last" else "all"))
