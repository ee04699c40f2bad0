# SPDX-License-Identifier: Apache-2.0
"""Group completions by prompt, wherever they are in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoj_reward.ranking.tiebreak import tiebreak_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One completion as it is judged.

    Attributes:
        prompt: As text.
        completion: As text.
        rubric: For judges whose template takes one, or None.
        reference: A reference answer, likewise.
        baseline: The completion it is compared with, where all are compared with a given one.
        language: For judges with templates in several, or None.
    """

    prompt: str
    completion: str
    rubric: str | None = None
    reference: str | None = None
    baseline: str | None = None
    language: str | None = None

    @property
    def group(self) -> tuple[str | None, ...]:
        """What the members of a group share: the prompt, and what it is judged by."""
        return (self.prompt, self.rubric, self.reference, self.baseline, self.language)

    @property
    def tiebreak_hash(self) -> str:
        """See `tiebreak_hash`."""
        return tiebreak_hash(self.prompt, self.completion)


def find_groups(items: Sequence[Item]) -> list[list[int]]:
    """Indices of each group's members, groups and members in the order of first appearance."""
    members: dict[tuple[str | None, ...], list[int]] = {}
    for i, item in enumerate(items):
        members.setdefault(item.group, []).append(i)
    return list(members.values())


def n_incomplete(groups: Sequence[Sequence[int]], expected: int | None) -> int:
    """Groups with other than a whole multiple of the expected number of completions.

    A prompt that a batch draws twice is one group of twice the size. Without an expected number, only a
    completion that is alone is known to be incomplete.
    """
    if expected is None:
        return sum(len(group) == 1 for group in groups)
    return sum(len(group) % expected != 0 for group in groups)


def flat_share(groups: Sequence[Sequence[int]], rewards: Sequence[float | None]) -> float | None:
    """Share, in [0, 1], of groups whose judged members all have one reward: they teach nothing.

    Returns:
        None where no group has two judged members.
    """
    spreads = []
    for group in groups:
        known = {r for i in group if (r := rewards[i]) is not None}
        if sum(rewards[i] is not None for i in group) >= 2:
            spreads.append(len(known) == 1)
    return sum(spreads) / len(spreads) if spreads else None
