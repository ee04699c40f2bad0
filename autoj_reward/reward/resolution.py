# SPDX-License-Identifier: Apache-2.0
"""Numeric resolution of an engine: differences below it are noise.

The same request in another batch gives another number, in the last places. GRPO divides by the spread of a
group: where all completions are judged alike, such a difference becomes a full advantage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.reward.plan import RewardMode
from autoj_reward.reward.scale import RewardScale, Scale
from autoj_reward.types import Request

# Steps for each dtype: (rating points on a scale of nine points, win probability). Well above the noise, so
# that two numbers that differ by it seldom fall on two sides of a border between steps.
_STEPS = {
    # benchmarks/resolution.py finds at most 8e-6 between batches, benchmarks/agreement.py 1.1e-5 in
    # probability between two engines, which is up to 1e-4 in a rating.
    "float32": (0.001, 0.0001),
    # Logits of 16 to 32 come in steps of 1/8, which is 1/32 in a probability of one half.
    "bfloat16": (0.1, 0.03),
}


def engine_resolution(judge: Judge, *, pairwise: bool) -> float:
    """The step to which a judge's numbers are rounded by default.

    Args:
        judge: Its dtype decides; where nothing tells it, bfloat16 is assumed, in which most models are run.
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
    """The scale of a judge's rewards; every trainer's adapter and the server use this one.

    Args:
        judge: Its ratings are the range.
        mode: rating, or pairwise for win probabilities.
        scale: raw, unit or centred.
        resolution: Step to which raw values are rounded; 0 for none, None for `engine_resolution`.

    Raises:
        ConfigError: The judge does not rate or compare as `mode` needs, or a setting is out of range.
    """
    protocol = judge.spec.rating if mode == "rating" else judge.spec.comparison
    if protocol is None:
        what = "rate" if mode == "rating" else "compare"
        raise ConfigError(f"judge {judge.spec.name!r} does not {what}, which mode={mode!r} needs")
    step = engine_resolution(judge, pairwise=mode == "pairwise") if resolution is None else resolution
    if mode == "pairwise":
        return RewardScale(0.0, 1.0, scale, step)
    ratings = [float(v) for v in protocol.verdicts.verdicts]
    return RewardScale(min(ratings), max(ratings), scale, step)


def measure_resolution(judge: Judge, requests: Sequence[Request]) -> float:
    """The largest difference that another batch makes to a judge's number.

    Judges all requests at once, and then each alone. Give a judge without a cache: a cache answers the
    second time from the first.

    Args:
        judge: Judges `requests` twice.
        requests: At least two, all of one completion or all of two.

    Returns:
        Largest absolute difference, in rating points or probability; requests that failed are left out.
    """
    ask: Callable[[Sequence[Request]], list[Any]] = (
        judge.rate_requests if len(requests[0].completions) == 1 else judge.compare_requests
    )
    together = [j.reward for j in ask(requests)]
    alone = [ask([request])[0].reward for request in requests]
    differences = [
        abs(a - b) for a, b in zip(together, alone, strict=True) if a is not None and b is not None
    ]
    return max(differences, default=0.0)
