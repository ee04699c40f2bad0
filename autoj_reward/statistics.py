# SPDX-License-Identifier: Apache-2.0
"""Pearson and Spearman correlation."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Pearson's correlation in [-1, 1]; None of fewer than 3 points, or where one side does not vary."""
    if len(xs) < 3:
        return None
    try:
        return max(-1.0, min(1.0, statistics.correlation(xs, ys)))
    except statistics.StatisticsError:
        return None


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Spearman's: `correlation` of the ranks, ties at their mean rank."""
    return correlation(mean_ranks(np.asarray(xs)).tolist(), mean_ranks(np.asarray(ys)).tolist())


def mean_ranks(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """(n,) ranks from 0, ties at their mean rank."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: npt.NDArray[np.float64] = np.cumsum(counts) - (counts + 1) / 2
    return ranks[where]
