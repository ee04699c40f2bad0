# SPDX-License-Identifier: Apache-2.0
"""Shares and means with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Share:
    """A mean of n values, with a 95% bootstrap interval; NaN of none."""

    value: float
    low: float
    high: float
    n: int


def share(values: Sequence[bool | float], *, seed: int = 0) -> Share:
    """The mean of values with its 95% percentile bootstrap interval (Efron 1979).

    Args:
        values: n values, resampled as independent; n may be 0.
        seed: Of the resampling.
    """
    n = len(values)
    if n == 0:
        return Share(float("nan"), float("nan"), float("nan"), 0)
    data = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    if set(np.unique(data)) <= {0.0, 1.0}:
        # A resample of yes and no is a binomial draw.
        means = rng.binomial(n, data.mean(), _RESAMPLES) / n
    else:
        means = np.array([data[rng.integers(0, n, n)].mean() for _ in range(_RESAMPLES)])
    low, high = np.quantile(means, [0.025, 0.975])
    return Share(float(data.mean()), float(low), float(high), n)
