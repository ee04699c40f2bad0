# SPDX-License-Identifier: Apache-2.0
"""Groups of real completions for benchmarks: one prompt, many answers, read from the data folder."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoj_reward.engines.logprobs.batching import shared_length


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt and its completions."""

    prompt: str
    completions: tuple[str, ...]


SETS = {"alpacaeval-32": 32, "summeval-16": 16, "truthfulqa-16": 16}
"""Sets by name, and how many completions a group of theirs has."""


def data_folder() -> Path:
    """`$AUTOJ_REWARD_DATA`, or `../shared/data` beside the repository.

    Raises:
        SystemExit: Neither is there.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    for folder in (os.environ.get("AUTOJ_REWARD_DATA"), beside):
        if folder and Path(folder).is_dir():
            return Path(folder)
    raise SystemExit("needs the data files: name their folder in $AUTOJ_REWARD_DATA")


def read_groups(name: str, limit: int) -> list[Group]:
    """The first `limit` groups of a set that are large enough, in the file's order."""
    size = SETS[name]
    groups: list[Group] = []
    for group in _READERS[name](data_folder()):
        if len(groups) == limit:
            break
        if len(group.completions) >= size:
            groups.append(Group(group.prompt, group.completions[:size]))
    return groups


def flat(groups: list[Group]) -> tuple[list[str], list[str]]:
    """Prompts and completions as two lists of equal length."""
    prompts = [g.prompt for g in groups for _ in g.completions]
    return prompts, [c for g in groups for c in g.completions]


def _alpaca(folder: Path) -> Iterator[Group]:
    with gzip.open(
        folder / "alpaca_eval_bon32" / "alpaca_eval_bon32.jsonl.gz", "rt", encoding="utf-8"
    ) as file:
        for row in map(json.loads, file):
            yield Group(row["instruction"], _texts(row))


def _summeval(folder: Path) -> Iterator[Group]:
    with open(folder / "bartscore_summeval" / "summeval_bon.jsonl", encoding="utf-8") as file:
        for row in map(json.loads, file):
            yield Group(f"Summarize the following article:\n\n{row['source']}", _texts(row))


def _truthful(folder: Path) -> Iterator[Group]:
    with open(folder / "truthfulqa_bon" / "truthfulqa_bon.jsonl", encoding="utf-8") as file:
        for row in map(json.loads, file):
            answers = [c["text"] for c in row["candidates"] if not c["is_reference_answer"]]
            yield Group(row["question"], tuple(answers))


def _texts(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(c["text"] for c in row["candidates"])


_READERS = {"alpacaeval-32": _alpaca, "summeval-16": _summeval, "truthfulqa-16": _truthful}


def sharable(inputs: Sequence[list[int]], block: int) -> int:
    """Prompt tokens that need not be computed again: whole blocks shared with the input before, in order."""
    before: list[int] = []
    total = 0
    for ids in sorted(inputs):
        # The last token is always computed: its logits are what is read.
        total += min(shared_length(before, ids), len(ids) - 1) // block * block
        before = ids
    return total
