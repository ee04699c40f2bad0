# SPDX-License-Identifier: Apache-2.0
"""Rewards for trainers that need a number for every completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoj_reward.errors import AutojRewardError


class NoVerdict(AutojRewardError):
    """A judgment failed, and no `failure_reward` was given."""


def number(row: Mapping[str, Any], failure_reward: float | None) -> float:
    """The `reward` of a judged row, or `failure_reward` if the judgment failed.

    Raises:
        NoVerdict: The judgment failed, and `failure_reward` is None.
    """
    failure = row.get("failure") or {}
    said = [str(failure[key]) for key in ("reason", "detail") if failure.get(key)]
    return required(row["reward"], failure_reward, *said)


def required(reward: float | None, failure_reward: float | None, *reasons: str) -> float:
    """The reward, or `failure_reward` in place of None.

    Raises:
        NoVerdict: Both are None; says the reasons.
    """
    if reward is not None:
        return float(reward)
    if failure_reward is not None:
        return failure_reward
    raise NoVerdict(
        ": ".join(["no verdict", *reasons]),
        hint="failure_reward=NUMBER gives such completions a reward of your choice",
    )
