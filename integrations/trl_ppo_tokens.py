# SPDX-License-Identifier: Apache-2.0
"""Recover prompts and completions from PPO's padded token rows.

A row is a prompt, padded on the left, and a completion, padded on the right. The trainer replaces every token
that equals the padding by 0, also within prompt and completion (padding and end of turn may be one token),
and does not say where the prompt ends.

The datasets tell which prompts there are. Each known prompt that a row begins with ends at some column; all
prompts of a batch end at the same column, so it is the one that all rows have in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoj_reward.errors import ConfigError, DataError

_Pattern = tuple[int | None, ...]
"""Tokens of a row; None for masked ones."""


@dataclass(frozen=True, slots=True)
class SplitRow:
    """A token row, split: the dataset row of its prompt, and its completion's tokens without padding."""

    known: Mapping[str, Any]
    completion_ids: list[int]


class PromptBook:
    """Dataset rows (with `input_ids`) by the tokens of their prompts.

    Raises:
        ConfigError: There are no rows, or two rows have equal tokens and different columns.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], pad_id: int) -> None:
        self._pad = pad_id
        self._known: dict[_Pattern, Mapping[str, Any]] = {}
        for row in rows:
            kept = {k: v for k, v in row.items() if k not in ("input_ids", "attention_mask")}
            pattern = _without_left([None if i == pad_id else i for i in row["input_ids"]])
            before = self._known.setdefault(pattern, kept)
            if before != kept:
                raise ConfigError(
                    f"two rows have the same tokens and different columns: {before!r} and {kept!r}"[:500],
                    hint="PPO passes tokens only; remove one of the rows",
                )
        if not self._known:
            raise ConfigError("no dataset rows to find PPO's prompts in", hint="give the trainer's datasets")
        self._lengths = sorted({len(pattern) for pattern in self._known})

    def split(self, input_ids: Sequence[Sequence[int]], mask: Sequence[Sequence[int]]) -> list[SplitRow]:
        """Split the B rows of one call; `mask` is false for padding and tokens equal to it.

        Raises:
            DataError: A row begins with no known prompt, or the prompts' common end is ambiguous.
        """
        patterns = [
            [i if m else None for i, m in zip(ids, seen, strict=True)]
            for ids, seen in zip(input_ids, mask, strict=True)
        ]
        ends = [self._ends(pattern) for pattern in patterns]
        for row, found in enumerate(ends):
            if not found:
                raise DataError(
                    f"row {row} of PPO's batch begins with no prompt of the datasets: {patterns[row][:40]}",
                    hint="give the module all the trainer's datasets, evaluation included, with input_ids as "
                    "the trainer gets them, and pad on the left",
                )
        common = set.intersection(*(set(found) for found in ends)) if ends else set()
        if ends and len(common) != 1:
            row = max(range(len(ends)), key=lambda r: len(ends[r]))
            columns = ", ".join(str(c) for c in sorted(common or ends[row]))
            raise DataError(
                f"the end of the prompt in row {row} of PPO's batch is ambiguous: known prompts end at "
                f"columns {columns}",
                hint="one prompt is a prefix of another: end prompts with a marker, as chat templates do, or "
                "raise local_rollout_forward_batch_size, so that other rows decide",
            )
        return [
            SplitRow(found[end], self._completion(pattern[end:]))
            for pattern, found in zip(patterns, ends, strict=True)
            for end in common
        ]

    def _ends(self, pattern: Sequence[int | None]) -> dict[int, Mapping[str, Any]]:
        start = len(pattern) - len(_without_left(pattern))
        found = {}
        for length in self._lengths:
            known = self._known.get(tuple(pattern[start : start + length]))
            if known is not None and start + length <= len(pattern):
                found[start + length] = known
        return found

    def _completion(self, pattern: Sequence[int | None]) -> list[int]:
        ids = [self._pad if i is None else i for i in pattern]
        while ids and ids[-1] == self._pad:
            ids.pop()
        return ids


def _without_left(pattern: Sequence[int | None]) -> _Pattern:
    start = next((n for n, i in enumerate(pattern) if i is not None), len(pattern))
    return tuple(pattern[start:])
