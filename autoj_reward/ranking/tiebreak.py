# SPDX-License-Identifier: Apache-2.0
"""Order a group's distinct completions by a hash of their texts.

The order decides ties, the neighbours in a ring and the seeds of random pairings. It is the same in every run
and process, and independent of the group's order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from autoj_reward.judge.messages.text import completion_text, prompt_text
from autoj_reward.types import Text


@dataclass(frozen=True, slots=True)
class DistinctCompletions:
    """A group's distinct completions, ordered by their tie-break hashes."""

    members: tuple[tuple[int, ...], ...]
    """For each distinct completion its indices in the group, ascending."""
    seed: int
    """Hash of their hashes."""


def tiebreak_hash(prompt: str, completion: str) -> str:
    """Hash of a prompt and a completion, 64 hexadecimal digits."""
    whole = f"{len(prompt)}:{prompt}{completion}"
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def distinct_completions(prompt: Text, group: Sequence[Text]) -> DistinctCompletions:
    """Find a group's distinct completions; reasoning and tool calls count as text."""
    where: dict[str, list[int]] = {}
    asked = prompt_text(prompt, "keep")
    for index, completion in enumerate(group):
        where.setdefault(tiebreak_hash(asked, completion_text(completion, "keep")), []).append(index)
    hashes = sorted(where)
    seed = hashlib.sha256("".join(hashes).encode()).digest()[:8]
    return DistinctCompletions(tuple(tuple(where[name]) for name in hashes), int.from_bytes(seed, "big"))


def first_by_hash(prompt: Text, completions: Sequence[Text]) -> int:
    """Index of the completion that wins a tie."""
    return distinct_completions(prompt, completions).members[0][0]
