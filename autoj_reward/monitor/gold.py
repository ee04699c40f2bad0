# SPDX-License-Identifier: Apache-2.0
"""Ask a second judge, or an exact check, about a sample of training completions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.json_text import json_text
from autoj_reward.judge.judge import Judge
from autoj_reward.monitor.gap import GapMonitor
from autoj_reward.monitor.monitor import Alarm
from autoj_reward.reward.metrics import JudgedRow
from autoj_reward.reward.reward import BatchReward
from autoj_reward.reward.scale import RewardScale

Gold = Judge | Callable[..., Sequence[float | None]]
"""A judge that rates; or a function like a TRL reward: `gold(prompts=..., completions=..., **columns)` with
one number in [0, 1] for each completion, or None."""


class GoldCheck:
    """Compares the training reward with a gold reward on samples, and keeps both in a file.

    Args:
        gold: Who gives the gold reward.
        scale: The training reward's scale; both rewards are compared in [0, 1].
        n: Completions of a sample, at least 1.
        threshold: See `GapMonitor`.
        path: JSON lines file that every completion of a sample is appended to, with `step`, `reward` and
            `gold`; `autoj-reward monitor` and `report` read it.

    Raises:
        ConfigError: A setting is wrong, or the judge does not rate.
    """

    def __init__(
        self, gold: Gold, scale: RewardScale, *, n: int, threshold: float | None, path: str | Path
    ) -> None:
        if n < 1:
            raise ConfigError(f"a sample of {n} completions is below 1")
        self._asked = _rewards_of(gold) if isinstance(gold, Judge) else gold
        self._scale = RewardScale(scale.low, scale.high, "unit")
        self._n = n
        self.path = Path(path)
        self.monitor = GapMonitor(threshold=threshold)

    def check(self, rows: Sequence[JudgedRow], step: int) -> list[Alarm]:
        """Ask about a sample of a step's completions; returns the alarm, if it rings.

        Args:
            rows: Judged completions; those without a verdict are left out.
            step: The training step.

        Raises:
            ConfigError: The gold function gives another number of rewards.
            EngineError: The gold judge failed as a whole.
        """
        known = [row for row in rows if row.raw is not None]
        chosen = random.Random(step).sample(known, min(self._n, len(known)))
        if not chosen:
            return []
        columns = {
            name: [row.columns[name] for row in chosen]
            for name in chosen[0].columns
            if all(name in row.columns for row in chosen)
        }
        golds = list(
            self._asked(
                prompts=[row.prompt for row in chosen],
                completions=[row.completion for row in chosen],
                **columns,
            )
        )
        if len(golds) != len(chosen):
            raise ConfigError(f"gold gave {len(golds)} rewards for {len(chosen)} completions")
        rewards = [self._scale.reward(row.raw) for row in chosen if row.raw is not None]
        self._keep(chosen, rewards, golds, step)
        return self.monitor.add(rewards, golds, step=step, prompts=[row.prompt for row in chosen])

    def _keep(
        self,
        rows: Sequence[JudgedRow],
        rewards: Sequence[float],
        golds: Sequence[float | None],
        step: int,
    ) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            for row, reward, gold in zip(rows, rewards, golds, strict=True):
                record = {
                    "step": step,
                    "prompt": row.prompt,
                    "completion": row.completion,
                    "reward": reward,
                    "gold": None if gold is None else float(gold),
                }
                # In ASCII, because texts may hold lone surrogates.
                file.write(json_text(record) + "\n")


def _rewards_of(judge: Judge) -> Callable[..., Sequence[float | None]]:
    """A judge's ratings in [0, 1], None for failures; other columns are not shown to it."""
    made = BatchReward(judge, scale="unit", resolution=0.0, fill="none", max_failures=1.0)

    def ask(prompts: Sequence[str], completions: Sequence[str], **_: Any) -> Sequence[float | None]:
        return made.score_batch(prompts, completions)[0]

    return ask
