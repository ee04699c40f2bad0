# SPDX-License-Identifier: Apache-2.0
"""The failure policy: what each trainer gets where a judgment failed.

TRL's trainers read None in three ways. GRPO and RLOO leave a completion that no function scored out of the
baseline and give it no advantage (since 1.6.0; before, it was 0.0). Where another function did score it, the
sum leaves ours out, so that None is 0.0 again. OnlineDPO always reads 0.0, and trains every pair nonetheless.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from autoj_reward.errors import ConfigError, TooManyFailures
from autoj_reward.reward.groups import Item

Fill = Literal["none", "group_mean", "coin", "running_mean", "raise"]
"""none: None. group_mean: the mean of the group's judged members, which neither helps nor harms; None where
not one was judged. coin: decides a pair by a hash of its texts. running_mean: the mean of the last thousand
rewards. raise: TooManyFailures at the first."""

OnFailure = Literal["auto"] | Fill
Trainer = Literal["grpo", "rloo", "online_dpo", "async_grpo", "ppo"]

_NONE_IS_LEFT_OUT_SINCE = (1, 6)
_LEAST_FOR_LIMIT = 64
"""Completions from which the share of failures means something."""
_REMEMBERED = 1000


def choose_fill(
    on_failure: OnFailure,
    trainer: Trainer | None,
    *,
    n_rewards: int = 1,
    trl_version: tuple[int, ...] | None = None,
    normalizes_first: bool = False,
) -> Fill:
    """The fill for a trainer.

    Args:
        on_failure: A fill, or auto: then the one that leaves the other completions' training as it would
            have been.
        trainer: None is unknown, for which a group's mean is safe.
        n_rewards: Reward functions that the trainer sums up.
        trl_version: Its version, `(1, 16, 0)`; None is one that knows None.
        normalizes_first: Whether the trainer normalises each function's rewards before it sums them up
            (GRPO's `normalize_then_sum`): None is left out of each then.

    Raises:
        ConfigError: There is no such fill or trainer, or the fill does not fit the trainer.
    """
    if on_failure not in ("auto", *get_args(Fill)):
        raise ConfigError(f"on_failure = {on_failure!r} is none of auto, {', '.join(get_args(Fill))}")
    if trainer is not None and trainer not in get_args(Trainer):
        raise ConfigError(
            f"trainer = {trainer!r} is none of {', '.join(get_args(Trainer))}",
            hint="leave it out, and call attach(trainer) when the trainer is there",
        )
    if n_rewards < 1:
        raise ConfigError(f"n_rewards = {n_rewards} is not at least 1")
    if on_failure != "auto":
        if on_failure == "coin" and trainer not in (None, "online_dpo"):
            raise ConfigError(f"on_failure = 'coin' is for pairs, and {trainer} trains on none")
        if on_failure in ("none", "group_mean") and trainer == "ppo":
            raise ConfigError(
                f"on_failure = {on_failure!r} does not fit PPO: it needs a number, and has one completion of "
                "each prompt",
                hint="running_mean, raise or auto",
            )
        if on_failure not in ("coin", "raise") and trainer == "online_dpo":
            raise ConfigError(
                f"on_failure = {on_failure!r} does not fit OnlineDPO: it reads None as 0.0, and of two equal "
                "rewards it takes the first completion as chosen",
                hint="coin, raise or auto",
            )
        return on_failure
    if trainer == "online_dpo":
        return "coin"
    if trainer == "ppo":
        return "running_mean"
    if trainer is None:
        return "group_mean"
    knows_none = trl_version is None or trl_version[:2] >= _NONE_IS_LEFT_OUT_SINCE
    return "none" if knows_none and (n_rewards == 1 or normalizes_first) else "group_mean"


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

    OnlineDPO takes completions i and i + n/2 as a pair and calls the first chosen unless the second has
    more. A pair without two rewards, or with equal ones, is decided by a hash of its texts: the same in every
    run, and blind to which stands first. The winner is `step` above the other, so that a further reward
    function still has its say.

    Args:
        items: 2n completions, in the trainer's order.
        rewards: One for each, None where there is none.
        step: What decides, above 0.
        middle: What a pair without any reward stands at.

    Returns:
        The rewards, how many pairs a failure left to the coin, and how many a tie did.

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
        """Take the rewards in, then put the mean where there is none."""
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
