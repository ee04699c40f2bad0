# SPDX-License-Identifier: Apache-2.0
"""Which pairs of a group are compared, and each completion's share of wins."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

from autoj_reward.reward.groups import Item

Schedule = Literal["ring", "all", "baseline"]
"""ring: each completion with its two neighbours in a circle: n comparisons for n completions. all: each with
each: n(n - 1)/2. baseline: each with one given completion: n."""


def group_pairs(items: Sequence[Item], group: Sequence[int], schedule: Schedule) -> list[tuple[int, int]]:
    """The pairs of a group that are judged.

    Equal completions take part once. The circle's order is that of a hash of their text, so that the same
    group gets the same comparisons in whatever order, and on however many processes, it arrives.

    Args:
        items: All completions.
        group: Indices of one group.
        schedule: ring or all.

    Returns:
        Pairs of indices into `items`, each pair once; none for a group of one text.
    """
    order = [kept[0] for kept in copies(items, group)]
    if schedule == "all":
        return list(combinations(order, 2))
    if len(order) < 2:
        return []
    if len(order) == 2:
        return [(order[0], order[1])]
    return list(zip(order, [*order[1:], order[0]], strict=True))


def copies(items: Sequence[Item], group: Sequence[int]) -> list[list[int]]:
    """A group's members by text, in the order of the texts' hashes."""
    texts: dict[str, list[int]] = {}
    for i in group:
        texts.setdefault(items[i].tiebreak_hash, []).append(i)
    return [texts[tiebreak_hash] for tiebreak_hash in sorted(texts)]


def mean_wins(
    items: Sequence[Item],
    group: Sequence[int],
    schedule: Schedule,
    win_probs: Sequence[float | None],
) -> dict[int, float | None]:
    """Each member's mean chance to beat those it was compared with.

    Args:
        items: All completions.
        group: Indices of one group.
        schedule: ring or all.
        win_probs: For each of `group_pairs`, the first's chance in [0, 1], or None where that failed.

    Returns:
        For each index of the group a mean in [0, 1] over its comparisons that succeeded. None where all of
        them failed, and for a completion that is alone. With `all`, a copy counts as an even comparison; a
        group that is one text throughout has 0.5 each.
    """
    pairs = group_pairs(items, group, schedule)
    won: dict[int, list[float]] = {}
    for (first, second), prob in zip(pairs, win_probs, strict=True):
        if prob is not None:
            won.setdefault(first, []).append(prob)
            won.setdefault(second, []).append(1.0 - prob)
    result: dict[int, float | None] = {}
    for same in copies(items, group):
        wins = list(won.get(same[0], ()))
        if not pairs:
            value = 0.5 if len(same) > 1 else None
        elif not wins:
            value = None
        else:
            if schedule == "all":
                wins += [0.5] * (len(same) - 1)
            value = sum(wins) / len(wins)
        result.update(dict.fromkeys(same, value))
    return result
