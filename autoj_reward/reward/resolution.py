# SPDX-License-Identifier: Apache-2.0
"""The scale to which rewards are rounded, and a measurement of the noise that this hides.

GRPO divides by the spread of a group, so in a group of equal completions noise would become a full advantage.
"""

from __future__ import annotations

from collections.abc import Sequence

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.ranking.resolution import engine_resolution
from autoj_reward.reward.plan import RewardMode
from autoj_reward.reward.scale import RewardScale, Scale
from autoj_reward.types import Request

__all__ = ["engine_resolution", "measure_resolution", "reward_scale"]


def reward_scale(judge: Judge, mode: RewardMode, scale: Scale, resolution: float | None) -> RewardScale:
    """The scale of a judge's rewards, shared by all trainers and the server.

    Its range is that of the judge's ratings, or of win probabilities. `resolution` None is
    `engine_resolution`.

    Raises:
        ConfigError: The judge does not rate or compare as `mode` needs, or a setting is out of range.
    """
    task = judge.spec.rating if mode == "rating" else judge.spec.comparison
    if task is None:
        what = "rate" if mode == "rating" else "compare"
        raise ConfigError(f"judge {judge.spec.name!r} does not {what}, which mode={mode!r} needs")
    step = engine_resolution(judge, pairwise=mode == "pairwise") if resolution is None else resolution
    if mode == "pairwise":
        return RewardScale(0.0, 1.0, scale, step)
    ratings = [float(v) for v in task.verdicts.verdicts]
    return RewardScale(min(ratings), max(ratings), scale, step)


def measure_resolution(judge: Judge, requests: Sequence[Request]) -> float:
    """Measure how much batching changes a judge's numbers: judge all requests at once, then one by one.

    Args:
        judge: A judge without a cache, which would answer the second time from the first.
        requests: At least two, all of one completion or all of two.

    Returns:
        Largest absolute difference, in rating points or probability; failed requests are left out.
    """
    together = [j.reward for j in judge.judge_requests(requests)]
    alone = [judge.judge_requests([request])[0].reward for request in requests]
    differences = [
        abs(a - b) for a, b in zip(together, alone, strict=True) if a is not None and b is not None
    ]
    return max(differences, default=0.0)
