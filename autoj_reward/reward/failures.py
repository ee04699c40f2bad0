# SPDX-License-Identifier: Apache-2.0
"""What a completion without a verdict gets, and when there are too many of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from autoj_reward.errors import ConfigError, TooManyFailures
from autoj_reward.reward.groups import Item

Fill = Literal["none", "group_mean", "hash", "running_mean", "raise"]
"""none: None. group_mean: the mean of the group's judged members, which neither helps nor harms; None where
not one was judged. hash: decides a pair by a hash of its texts. running_mean: the mean of the last thousand
rewards. raise: TooManyFailures at the first."""

_LEAST_FOR_LIMIT = 64
"""Completions from which the share of failures means something."""
_REMEMBERED = 1000


def fill_group_means(rewards: Sequence[float | None], groups: Sequence[Sequence[int]]) -> list[float | None]:
    """Each failure as the mean of its group's other rewards; None where the whole group failed."""
    filled = list(rewards)
    for group in groups:
        known = [r for i in group if (r := rewards[i]) is not None]
        if known:
            mean = sum(known) / len(known)
            for i in group:
                filled[i] = mean if rewards[i] is None else rewards[i]
    return filled


def decide_pairs(
    items: Sequence[Item], rewards: Sequence[float | None], *, step: float, middle: float
) -> tuple[list[float | None], int, int]:
    """Rewards of which each pair has a winner, whatever failed or tied.

    Completions i and i + n/2 are a pair, as OnlineDPO sends them. A pair without two rewards, or with equal
    ones, is decided by a hash of its texts: the same in every run, and whichever comes first. The winner is
    `step` above the other, so that a further reward function can still decide otherwise.

    Args:
        items: 2n completions, in the trainer's order.
        rewards: One for each, None without a verdict.
        step: What decides, above 0.
        middle: The mean of a pair without any reward.

    Returns:
        The rewards, how many pairs were decided because of a failure, and how many because of a tie.

    Raises:
        ConfigError: The number is odd, or a pair has two prompts.
    """
    half, odd = divmod(len(items), 2)
    filled = list(rewards)
    n_failed = n_tied = 0
    for i in range(half):
        j = i + half
        if odd or items[i].prompt != items[j].prompt:
            raise ConfigError(
                f"completions {i} and {j} of {len(items)} are no pair of one prompt, as OnlineDPO makes them",
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
    """The mean of the last thousand rewards, for trainers that need a number and have no group.

    Before the first reward it is the middle of the scale, which is what a reader of the log should know.
    """

    middle: float
    _last: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def fill(self, rewards: Sequence[float | None]) -> list[float]:
        """Remember the rewards, then replace each None by the mean."""
        self._last.extend(r for r in rewards if r is not None)
        mean = sum(self._last) / len(self._last) if self._last else self.middle
        return [mean if r is None else r for r in rewards]


@dataclass(slots=True)
class FailureLimit:
    """Stops a run when too many of its latest judgments failed.

    Args:
        most: Largest share, in [0, 1], of failures among the completions of the last calls (at least 64
            completions, and not many more).
    """

    most: float
    _calls: deque[tuple[int, dict[str, int]]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        if not 0.0 <= self.most <= 1.0:
            raise ConfigError(f"max_failures = {self.most} is not in [0, 1]")

    def count(self, n: int, reasons: dict[str, int]) -> None:
        """Count a call.

        Args:
            n: Completions in it.
            reasons: Failures by reason.

        Raises:
            TooManyFailures: The share passed the limit.
        """
        self._calls.append((n, reasons))
        total = sum(n for n, _ in self._calls)
        while total - self._calls[0][0] >= _LEAST_FOR_LIMIT:
            total -= self._calls.popleft()[0]
        by_reason: dict[str, int] = {}
        for _, found in self._calls:
            for reason, number in found.items():
                by_reason[reason] = by_reason.get(reason, 0) + number
        failed = sum(by_reason.values())
        if total >= _LEAST_FOR_LIMIT and failed > self.most * total:
            said = ", ".join(f"{n} {r}" for r, n in sorted(by_reason.items(), key=lambda kv: -kv[1]))
            raise TooManyFailures(
                f"{failed} of the last {total} completions have no verdict ({said}): over {self.most:.0%}",
                hint="look at the callback's table; max_failures sets the limit",
            )
