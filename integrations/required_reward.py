# SPDX-License-Identifier: Apache-2.0
"""Rewards for trainers that need a number for every completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoj_reward.errors import AutojRewardError


class NoVerdict(AutojRewardError):
    """A completion has no verdict, and no `failure_reward` was given."""


def number(row: Mapping[str, Any], failure_reward: float | None) -> float:
    """The reward of a judged row, as a trainer that takes nothing but numbers needs it.

    Args:
        row: What the judge said: `reward`, or `failure` with the reason for none.
        failure_reward: The reward of a completion without a verdict; None raises.

    Raises:
        NoVerdict: There is no verdict, and no such reward.
    """
    if row["reward"] is not None:
        return float(row["reward"])
    if failure_reward is not None:
        return failure_reward
    failure = row.get("failure") or {}
    raise NoVerdict(
        f"no verdict: {failure.get('reason')}: {failure.get('detail')}",
        hint="failure_reward=NUMBER gives such completions a reward of your choice",
    )
