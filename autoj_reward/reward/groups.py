# SPDX-License-Identifier: Apache-2.0
"""Group completions by prompt, wherever they are in a batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from autoj_reward.criteria.rubric import Rubric
from autoj_reward.ranking.tiebreak import tiebreak_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One completion to judge, as text; `baseline` is the one to compare it with, for that schedule."""

    prompt: str
    completion: str
    rubric: str | Rubric | None = None
    reference: str | None = None
    baseline: str | None = None
    language: str | None = None

    @property
    def group(self) -> tuple[str | Rubric | None, ...]:
        """What the members of a group share: everything but the completion."""
        return (self.prompt, self.rubric, self.reference, self.baseline, self.language)

    @property
    def tiebreak_hash(self) -> str:
        """See `tiebreak_hash`."""
        return tiebreak_hash(self.prompt, self.completion)


def find_groups(items: Sequence[Item]) -> list[list[int]]:
    """Indices of each group's members, groups and members in the order of first appearance."""
    members: defaultdict[tuple[str | Rubric | None, ...], list[int]] = defaultdict(list)
    for i, item in enumerate(items):
        members[item.group].append(i)
    return list(members.values())


def n_incomplete(groups: Sequence[Sequence[int]], expected: int | None) -> int:
    """Number of groups whose size is not a multiple of the expected one.

    A prompt that a batch draws twice is one group of twice the size. With `expected` None, only groups of one
    completion count as incomplete.
    """
    if expected is None:
        return sum(len(group) == 1 for group in groups)
    return sum(len(group) % expected != 0 for group in groups)


def flat_share(groups: Sequence[Sequence[int]], rewards: Sequence[float | None]) -> float | None:
    """Share, in [0, 1], of groups whose rewards are all equal, which give no gradient.

    Failures are ignored. None if no group has two rewards.
    """
    known = [[r for i in group if (r := rewards[i]) is not None] for group in groups]
    flat = [len(set(values)) == 1 for values in known if len(values) >= 2]
    return sum(flat) / len(flat) if flat else None
