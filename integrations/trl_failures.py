# SPDX-License-Identifier: Apache-2.0
"""Choose the reward of a failed judgment for each TRL trainer.

GRPO and RLOO leave a completion that no function scored out of the baseline and give it no advantage (since
TRL 1.6.0; before, None was 0.0). If another function did score it, the sum skips the None, which makes it 0.0
again. OnlineDPO always reads None as 0.0, and trains on every pair.
"""

from __future__ import annotations

import warnings
from typing import Literal, get_args

from autoj_reward.errors import ConfigError
from autoj_reward.reward.failures import Fill

OnFailure = Literal["auto", "coin"] | Fill
"""auto: what fits the trainer. coin: the former name of hash."""

Trainer = Literal["grpo", "rloo", "online_dpo", "async_grpo", "ppo"]

_NONE_IS_LEFT_OUT_SINCE = (1, 6)


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
        on_failure: A fill, or auto: the fill that does not change how other completions are trained on.
        trainer: The trainer; None if unknown, for which auto is the group's mean.
        n_rewards: Number of reward functions that the trainer sums up.
        trl_version: TRL's version, such as `(1, 16, 0)`; None is one that leaves None out.
        normalizes_first: Whether the trainer normalises each function's rewards before it sums them up
            (GRPO's `normalize_then_sum`), and so leaves out None for each function.

    Raises:
        ConfigError: The fill or trainer is unknown, or the fill does not fit the trainer.
    """
    if on_failure == "coin":
        warnings.warn("on_failure='coin' is now 'hash'", DeprecationWarning, stacklevel=3)
        on_failure = "hash"
    if on_failure not in ("auto", *get_args(Fill)):
        raise ConfigError(f"on_failure = {on_failure!r} must be one of auto, {', '.join(get_args(Fill))}")
    if trainer is not None and trainer not in get_args(Trainer):
        raise ConfigError(
            f"trainer = {trainer!r} must be one of {', '.join(get_args(Trainer))}",
            hint="leave it out, and call attach(trainer) once the trainer is made",
        )
    if n_rewards < 1:
        raise ConfigError(f"n_rewards = {n_rewards} is not at least 1")
    if on_failure != "auto":
        if on_failure == "hash" and trainer not in (None, "online_dpo"):
            raise ConfigError(f"on_failure = 'hash' is for pairs, and {trainer} trains on none")
        if on_failure in ("none", "group_mean") and trainer == "ppo":
            raise ConfigError(
                f"on_failure = {on_failure!r} does not fit PPO: it needs a number, and has one completion of "
                "each prompt",
                hint="running_mean, raise or auto",
            )
        if on_failure not in ("hash", "raise") and trainer == "online_dpo":
            raise ConfigError(
                f"on_failure = {on_failure!r} does not fit OnlineDPO: it reads None as 0.0, and of two equal "
                "rewards it takes the first completion as chosen",
                hint="hash, raise or auto",
            )
        return on_failure
    if trainer == "online_dpo":
        return "hash"
    if trainer == "ppo":
        return "running_mean"
    if trainer is None:
        return "group_mean"
    knows_none = trl_version is None or trl_version[:2] >= _NONE_IS_LEFT_OUT_SINCE
    return "none" if knows_none and (n_rewards == 1 or normalizes_first) else "group_mean"
