# SPDX-License-Identifier: Apache-2.0
"""Numeric resolution of an engine: differences below it are noise.

The same request in another batch gives a slightly different number. Trainers round rewards to this step, and
rankings, labels and `evaluate selection` take what is within it for a tie.
"""

from __future__ import annotations

from autoj_reward.judge.judge import Judge
from autoj_reward.ranking.strategies import Strategy

# Steps by dtype: (rating points on a scale of nine points, win probability). Above the usual noise, so that
# it seldom moves a number to another step.
_STEPS = {
    # benchmarks/resolution.py finds at most 8e-6 between batches, benchmarks/agreement.py 1.1e-5 in
    # probability between two engines, which is up to 1e-4 in a rating.
    "float32": (0.001, 0.0001),
    # 16 bits, logits in float32: medians of 0.006 and 0.002 between batches (benchmarks/resolution.py).
    "float32 head": (0.03, 0.01),
    # Logits of 16 to 32 come in steps of 1/8, which is 1/32 in a probability of 0.5.
    "bfloat16": (0.1, 0.03),
}


def engine_resolution(judge: Judge, *, pairwise: bool) -> float:
    """The step to which a judge's numbers are rounded, and within which they tie, by default.

    Args:
        judge: The judge; bfloat16, also of its logits, is assumed if its dtype is not known.
        pairwise: Whether the numbers are win probabilities.

    Returns:
        A step in rating points (for a scale of nine points; others in proportion), or in probability.
    """
    exact, fine = judge.dtype == "float32", judge.head_dtype == "float32"
    step = _STEPS["float32" if exact else "float32 head" if fine else "bfloat16"][int(pairwise)]
    if pairwise or judge.spec.rating is None:
        return step
    ratings = [float(v) for v in judge.spec.rating.verdicts.verdicts]
    return step * (max(ratings) - min(ratings)) / 9.0


def ranking_resolution(judge: Judge, strategy: Strategy) -> float:
    """Within how much the rewards of a strategy tie by default: ratings, or win probabilities."""
    return engine_resolution(judge, pairwise=strategy.asks != "ratings")
