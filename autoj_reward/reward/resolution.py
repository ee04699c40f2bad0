# SPDX-License-Identifier: Apache-2.0
"""Numeric resolution of an engine: differences below it are noise.

The same request in another batch gives a slightly different number. GRPO divides by the spread of a group, so
in a group of equal completions such noise would become a full advantage.
"""

from __future__ import annotations

from collections.abc import Sequence

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.reward.plan import RewardMode
from autoj_reward.reward.scale import RewardScale, Scale
from autoj_reward.types import Request

# Steps by dtype: (rating points on a scale of nine points, win probability). Well above the noise, so that
# noise seldom moves a number to another step.
_STEPS = {
    # benchmarks/resolution.py finds at most 8e-6 between batches, benchmarks/agreement.py 1.1e-5 in
    # probability between two engines, which is up to 1e-4 in a rating.
    "float32": (0.001, 0.0001),
    # Logits of 16 to 32 come in steps of 1/8, which is 1/32 in a probability of 0.5.
    "bfloat16": (0.1, 0.03),
}


def engine_resolution(judge: Judge, *, pairwise: bool) -> float:
    """The step to which a judge's numbers are rounded by default.

    Args:
        judge: The judge; bfloat16 is assumed if its dtype is not known.
        pairwise: Whether the numbers are win probabilities.

    Returns:
        A step in rating points (for a scale of nine points; others in proportion), or in probability.
    """
    step = _STEPS["float32" if judge.dtype == "float32" else "bfloat16"][int(pairwise)]
    if pairwise or judge.spec.rating is None:
        return step
    ratings = [float(v) for v in judge.spec.rating.verdicts.verdicts]
    return step * (max(ratings) - min(ratings)) / 9.0


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
