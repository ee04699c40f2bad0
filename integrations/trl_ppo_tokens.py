# SPDX-License-Identifier: Apache-2.0
"""Recover prompts and completions from PPO's padded token rows.

A row is a prompt, padded on its left to the width of the batch, and a completion, padded on its right. The
trainer masks every token that equals the padding and puts id 0 in its place, also within prompt and
completion, where padding and end of turn are one token. It does not say where the prompt ends.

What is known is which prompts there are. A row's candidates are the columns at which one of them ends; the
prompts of a batch all end at one column, which is the one that all rows have among their candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoj_reward.errors import ConfigError, DataError

_Pattern = tuple[int | None, ...]
"""Tokens of a row; None where one is masked."""


@dataclass(frozen=True, slots=True)
class SplitRow:
    """The parts of a row.

    Attributes:
        known: The row of the data set that its prompt is from.
        completion_ids: Tokens of the completion, the padding on its right taken off.
    """

    known: Mapping[str, Any]
    completion_ids: list[int]


class PromptBook:
    """The prompts that a trainer may show, by their tokens.

    Args:
        rows: Rows of all its data sets; each has `input_ids`, and whatever it is judged by.
        pad_id: The tokenizer's padding.

    Raises:
        ConfigError: There is no row, or two rows of equal tokens are to be judged differently.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], pad_id: int) -> None:
        self._pad = pad_id
        self._known: dict[_Pattern, Mapping[str, Any]] = {}
        for row in rows:
            # Tokens that the reward is not told about, or that follow from them, make no difference.
            kept = {k: v for k, v in row.items() if k not in ("input_ids", "attention_mask")}
            pattern = _without_left([None if i == pad_id else i for i in row["input_ids"]])
            before = self._known.setdefault(pattern, kept)
            if before != kept:
                raise ConfigError(
                    f"two rows have the same tokens and different columns: {before!r} and {kept!r}"[:500],
                    hint="PPO shows the tokens only, so that one of the rows has to go",
                )
        if not self._known:
            raise ConfigError("there is no prompt to find in PPO's rows", hint="give the trainer's data set")
        self._lengths = sorted({len(pattern) for pattern in self._known})

    def split(self, input_ids: Sequence[Sequence[int]], mask: Sequence[Sequence[int]]) -> list[SplitRow]:
        """Split the rows of one call.

        Args:
            input_ids: B rows of one width, id 0 where masked.
            mask: B rows of the same width; 0 or False where a token is, or equals, padding.

        Returns:
            B rows in the same order.

        Raises:
            DataError: A row begins with no known prompt, or with several, and the others do not tell which.
        """
        patterns = [
            [i if m else None for i, m in zip(ids, seen, strict=True)]
            for ids, seen in zip(input_ids, mask, strict=True)
        ]
        ends = [self._ends(pattern) for pattern in patterns]
        for row, found in enumerate(ends):
            if not found:
                raise DataError(
                    f"row {row} of PPO's batch begins with no prompt of the data sets: {patterns[row][:40]}",
                    hint="give the module every data set of the trainer, evaluation too, with its input_ids "
                    "as the trainer gets them, and pad on the left",
                )
        common = set.intersection(*(set(found) for found in ends)) if ends else set()
        if ends and len(common) != 1:
            row = max(range(len(ends)), key=lambda r: len(ends[r]))
            columns = ", ".join(str(c) for c in sorted(common or ends[row]))
            raise DataError(
                f"where the prompt of row {row} of PPO's batch ends cannot be told: known prompts end at "
                f"columns {columns}",
                hint="one prompt is the beginning of another: end prompts with a mark, as chat templates "
                "do, or raise local_rollout_forward_batch_size, so that other rows tell",
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
