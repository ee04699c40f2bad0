# SPDX-License-Identifier: Apache-2.0
"""Read from a TRL trainer what its rewards need to know."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.integrations.trl_failures import Trainer

_KINDS: dict[str, Trainer] = {
    "GRPOTrainer": "grpo",
    "RLOOTrainer": "rloo",
    "OnlineDPOTrainer": "online_dpo",
    "AsyncGRPOTrainer": "async_grpo",
    "PPOTrainer": "ppo",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerInfo:
    """What a reward needs to know about its trainer.

    Attributes:
        kind: Which trainer.
        n_rewards: Number of reward functions that it sums up.
        normalizes_first: Whether it normalises each function's rewards before summing up.
        group_size: Returns the current number of completions per prompt (training or evaluation), or None.
        trainer: Returns the trainer; None after it was deleted.
    """

    kind: Trainer
    n_rewards: int
    normalizes_first: bool
    group_size: Callable[[], int | None]
    trainer: Callable[[], Any]


def trainer_info(trainer: Any, reward: Any) -> TrainerInfo:
    """Read what a reward needs to know from a TRL trainer that has it among its reward functions.

    Raises:
        ConfigError: The trainer takes no reward functions, does not have this one, or has it as a coroutine
            function that it would not await.
    """
    kind = next((_KINDS[c.__name__] for c in type(trainer).__mro__ if c.__name__ in _KINDS), None)
    if kind is None:
        raise ConfigError(
            f"{type(trainer).__name__} is not one of {', '.join(_KINDS)}",
            hint="for a trainer of your own, say what a failure gets there: JudgeReward(..., on_failure=)",
        )
    if kind == "async_grpo":
        raise ConfigError(
            "AsyncGRPOTrainer sends its reward functions to another process and does not keep them",
            hint="JudgeReward(..., trainer='async_grpo', n_rewards=...), before the trainer is made",
        )
    functions = list(getattr(trainer, "reward_funcs", None) or [getattr(trainer, "reward_model", None)])
    mine = [f for f in functions if f is reward or getattr(f, "reward", None) is reward]
    if not mine:
        raise ConfigError(
            f"the {type(trainer).__name__} does not call this reward",
            hint="give it to the trainer as one of reward_funcs, then attach it",
        )
    if kind == "online_dpo" and any(f is not reward for f in mine):
        raise ConfigError(
            "OnlineDPOTrainer awaits no reward function",
            hint="give it the JudgeReward itself, not async_reward(...)",
        )
    return TrainerInfo(
        kind=kind,
        n_rewards=len(functions),
        normalizes_first=getattr(trainer, "multi_objective_aggregation", "") == "normalize_then_sum",
        group_size=_group_size(weakref.ref(trainer), kind),
        trainer=weakref.ref(trainer),
    )


def trl_version() -> tuple[int, ...] | None:
    """The installed TRL's version, `(1, 16, 0)`; None if it is not installed."""
    try:
        found = importlib.metadata.version("trl")
    except importlib.metadata.PackageNotFoundError:
        return None
    return tuple(int(n) for n in re.findall(r"\d+", found)[:3])


def has_ppo() -> bool:
    """Whether the installed TRL has PPOTrainer. Nothing of TRL is imported."""
    trl = importlib.util.find_spec("trl")
    return trl is not None and any(
        Path(folder, "experimental", "ppo").is_dir() for folder in trl.submodule_search_locations or ()
    )


def _group_size(trainer: weakref.ref[Any], kind: Trainer) -> Callable[[], int | None]:
    def now() -> int | None:
        live = trainer()
        if kind == "online_dpo":
            return 2
        if live is None or kind == "ppo":
            return None
        training = bool(getattr(getattr(live, "model", None), "training", True))
        size = getattr(live, "num_generations" if training else "num_generations_eval", None)
        return int(size) if size is not None else None

    return now
