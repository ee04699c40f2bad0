# SPDX-License-Identifier: Apache-2.0
"""Read a batch's prompts, completions and columns into the texts that are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.judge.messages.columns import as_column
from autoj_reward.judge.messages.text import Reasoning, prompt_text
from autoj_reward.reward.completions import Shown, shown_completion
from autoj_reward.reward.groups import Item
from autoj_reward.types import Text


def read_items(
    prompts: Sequence[Text],
    completions: Sequence[Text],
    columns: Mapping[str, Any],
    *,
    names: Mapping[str, str],
    shown: Shown,
    reasoning: Reasoning,
) -> list[Item]:
    """Read a batch.

    Args:
        prompts: B prompts, as text or messages.
        completions: B completions, likewise.
        columns: The data set's columns by name, B values each.
        names: The columns that are used: `baseline`, `rubric`, `reference` or `language` to a column's name.
        shown: Which turns of a completion that is messages.
        reasoning: What is done with the policy's reasoning.

    Raises:
        ConfigError: Lengths differ, a column is missing, or a value cannot be shown; says which.
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
            said = shown_completion(completion, shown=shown, thinking=reasoning)
            texts = {}
            for field, values in used.items():
                where = f"{names[field]}[{i}]"
                texts[field] = _text(values[i], field, reasoning, shown)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error.args[0]}", hint=error.hint) from None
        items.append(Item(prompt=asked, completion=said, **texts))
    return items


def _column(field: str, column: str, columns: Mapping[str, Any], n: int) -> Sequence[Any]:
    values = columns.get(column)
    if values is None or isinstance(values, str) or len(values) != n:
        there = ", ".join(sorted(columns)) or "none"
        raise ConfigError(
            f"the trainer gives no column {column!r} of {n} {field}s; its columns are: {there}",
            hint=f"name a column of the dataset as {field}_column, and keep it in the dataset",
        )
    found: Sequence[Any] = values
    return found


def _text(value: Any, field: str, reasoning: Reasoning, shown: Shown) -> str | None:
    """A column's value as text; a baseline is a completion like the others."""
    if field == "baseline":
        if value is None:
            raise ConfigError("a row has no baseline to compare completions with")
        return shown_completion(value, shown=shown, thinking=reasoning)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"a row's {field} is a {type(value).__name__}, not text")
    return value
