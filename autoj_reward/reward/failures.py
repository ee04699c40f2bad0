# SPDX-License-Identifier: Apache-2.0
"""Rewards of failed judgments: the values that fill them, and the limit on their share.

Which of them a trainer gets is chosen in `integrations/trl_failures.py`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from autoj_reward.errors import ConfigError, TooManyFailures
from autoj_reward.reward.groups import Item

Fill = Literal["none", "group_mean", "hash", "running_mean", "raise"]
"""Reward of a failed judgment. none: None. group_mean: the mean of the group's other rewards, which gives no
advantage; None if the whole group failed. hash: decides a pair by a hash of its texts (OnlineDPO).
running_mean: the mean of the last thousand rewards. raise: TooManyFailures at the first failure."""

_LEAST_FOR_LIMIT = 64
"""The failure share is not checked over fewer completions."""
_REMEMBERED = 1000


def fill_group_means(rewards: Sequence[float | None], groups: Sequence[Sequence[int]]) -> list[float | None]:
    """Replace each failure by the mean of its group's other rewards; None if the whole group failed."""
    filled = list(rewards)
    for group in groups:
        known = [r for i in group if (r := rewards[i]) is not None]
        for i in group:
            if known and rewards[i] is None:
                filled[i] = sum(known) / len(known)
    return filled


def decide_pairs(
    items: Sequence[Item], rewards: Sequence[float | None], *, step: float, middle: float
) -> tuple[list[float | None], int, int]:
    """Give every pair a winner, also after failures and ties.

    Completions i and i + n/2 are a pair, as OnlineDPO sends them. A pair with a failure or with equal rewards
    is decided by a hash of its texts, independent of run and order. The winner is `step` above the other, so
    that another reward function can still decide otherwise.

    Args:
        items: 2n completions, in the trainer's order.
        rewards: One for each; None for a failure.
        step: Difference between winner and loser, above 0.
        middle: Mean reward of a pair in which both failed.

    Returns:
        The rewards, the number of pairs decided because of a failure, and because of a tie.

    Raises:
        ConfigError: The number is odd, or the two of a pair have different prompts.
    """
    half, odd = divmod(len(items), 2)
    filled = list(rewards)
    n_failed = n_tied = 0
    for i in range(half):
        j = i + half
        if odd or items[i].prompt != items[j].prompt:
            raise ConfigError(
                f"completions {i} and {j} of {len(items)} must be a pair of one prompt, as OnlineDPO sends",
                hint="is the reward attached to the right trainer?",
            )
        first, second = rewards[i], rewards[j]
        if first is not None and second is not None and first != second:
            continue
        if first is None or second is None:
            n_failed += 1
        else:
            n_tied += items[i].tiebreak_hash != items[j].tiebreak_hash
        known = [r for r in (first, second) if r is not None]
        base = sum(known) / len(known) if known else middle
        lift = step / 2.0 if items[i].tiebreak_hash < items[j].tiebreak_hash else -step / 2.0
        filled[i], filled[j] = base + lift, base - lift
    return filled, n_failed, n_tied


@dataclass(slots=True)
class RunningMean:
    """Mean of the last thousand rewards; `middle` (of the scale) before the first."""

    middle: float
    _last: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def fill(self, rewards: Sequence[float | None]) -> list[float]:
        """Remember the rewards, then replace each None by the mean."""
        self._last.extend(r for r in rewards if r is not None)
        mean = sum(self._last) / len(self._last) if self._last else self.middle
        return [mean if r is None else r for r in rewards]


@dataclass(slots=True)
class FailureLimit:
    """Stops a run when too many of its recent judgments failed.

    Args:
        most: Largest share of failures, in [0, 1], over the last calls that hold at least 64 completions.
    """

    most: float
    _calls: deque[tuple[int, dict[str, int]]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        if not 0.0 <= self.most <= 1.0:
            raise ConfigError(f"max_failures = {self.most} is not in [0, 1]")

    def count(self, n: int, reasons: dict[str, int]) -> None:
        """Count a call of n completions, with its failures by reason.

        Raises:
            TooManyFailures: The share passed the limit.
        """
        self._calls.append((n, reasons))
        total = sum(n for n, _ in self._calls)
        while total - self._calls[0][0] >= _LEAST_FOR_LIMIT:
            total -= self._calls.popleft()[0]
        by_reason: Counter[str] = Counter()
        for _, found in self._calls:
            by_reason.update(found)
        failed = by_reason.total()
        if total >= _LEAST_FOR_LIMIT and failed > self.most * total:
            listed = ", ".join(f"{n} {reason}" for reason, n in by_reason.most_common())
            raise TooManyFailures(
                f"{failed} of the last {total} completions have no verdict ({listed}): over {self.most:.0%}",
                hint="look at the callback's table; max_failures sets the limit",
            )
