# SPDX-License-Identifier: Apache-2.0
"""Correlations, shares and means with bootstrap intervals, and paired tests of two judges."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_RESAMPLES = 2000
_BINS = 10


@dataclass(frozen=True, slots=True)
class Share:
    """A mean of n values, with a 95% bootstrap interval; all NaN if n is 0."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """Two judges on the same rows.

    Attributes:
        first: The first judge's accuracy.
        second: The second judge's accuracy.
        difference: first minus second with its 95% paired bootstrap interval, in [-1, 1].
        only_first: Number of rows that only the first has right; of several rows of one prompt, of prompts
            of which the first has more right.
        only_second: The same of the second.
        p_value: Exact two-sided sign test on those (McNemar 1947), in (0, 1].
    """

    first: float
    second: float
    difference: Share
    only_first: int
    only_second: int
    p_value: float

    def as_dict(self) -> dict[str, Any]:
        """As plain data; shares are percentages."""
        return {**as_plain(self), "first": percent(self.first), "second": percent(self.second)}


def correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Pearson's correlation in [-1, 1]; None for fewer than 3 points or a constant side."""
    return _pearson(xs, ys) if len(xs) >= 3 else None


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Spearman's correlation; None as for `correlation`."""
    return correlation(_mean_ranks(xs), _mean_ranks(ys))


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's correlation of any number of points, in [-1, 1]; NaN for a constant side."""
    found = _pearson(_mean_ranks(a), _mean_ranks(b))
    return float("nan") if found is None else found


def kendall(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Kendall's tau-b (Kendall 1945), which allows ties, in [-1, 1]; NaN for a constant side."""
    above = np.triu_indices(len(a), 1)
    x = np.sign(a[:, None] - a[None, :])[above]
    y = np.sign(b[:, None] - b[None, :])[above]
    norm = np.sqrt(float(np.sum(x != 0)) * float(np.sum(y != 0)))
    return float(np.sum(x * y) / norm) if norm else float("nan")


def _pearson(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    try:
        return max(-1.0, min(1.0, statistics.correlation(xs, ys)))
    except statistics.StatisticsError:  # fewer than 2 points, or a constant side
        return None


def _mean_ranks(values: ArrayLike) -> list[float]:
    """Ranks from 0, ties at their mean rank."""
    _, where, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts + 1) / 2
    return [float(rank) for rank in ranks[where]]


def share(values: Sequence[bool | float], *, of: Sequence[Hashable] | None = None, seed: int = 0) -> Share:
    """The mean of n values with its 95% percentile bootstrap interval (Efron 1979).

    Args:
        values: The values.
        of: What each of them belongs to, such as its prompt: the values of one are drawn together, because
            they are right and wrong together. None draws each by itself.
        seed: Of the resampling.
    """
    n = len(values)
    if n == 0:
        return Share(float("nan"), float("nan"), float("nan"), 0)
    data = np.asarray(values, dtype=np.float64)
    low, high = np.quantile(_resampled_means(data, of, np.random.default_rng(seed)), [0.025, 0.975])
    return Share(float(data.mean()), float(low), float(high), n)


def mean_of_shares(
    groups: Sequence[Sequence[bool | float]],
    *,
    of: Sequence[Sequence[Hashable]] | None = None,
    seed: int = 0,
) -> Share:
    """The mean of the groups' means, each counting the same, with its 95% bootstrap interval.

    Args:
        groups: Values by group, none empty; each group is resampled by itself.
        of: For each group what its values belong to, as in `share`.
        seed: Of the resampling.
    """
    if not groups:
        return Share(float("nan"), float("nan"), float("nan"), 0)
    rng = np.random.default_rng(seed)
    data = [np.asarray(group, dtype=np.float64) for group in groups]
    owners = [None] * len(data) if of is None else of
    means = [_resampled_means(d, own, rng) for d, own in zip(data, owners, strict=True)]
    low, high = np.quantile(np.mean(means, axis=0), [0.025, 0.975])
    value = float(np.mean([d.mean() for d in data]))
    return Share(value, float(low), float(high), sum(map(len, data)))


def _resampled_means(
    data: NDArray[np.float64], of: Sequence[Hashable] | None, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(2000,) means of resamples of (n,) values."""
    n = len(data)
    if of is not None and len(set(of)) < n:
        number = {owner: k for k, owner in enumerate(dict.fromkeys(of))}
        codes = [number[owner] for owner in of]
        sums, counts = np.bincount(codes, weights=data), np.bincount(codes)
        drawn = rng.integers(0, len(sums), (_RESAMPLES, len(sums)))
        return np.asarray(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    if set(np.unique(data)) <= {0.0, 1.0}:
        # A resample of zeros and ones is a binomial draw.
        return rng.binomial(n, data.mean(), _RESAMPLES) / n
    return np.array([data[rng.integers(0, n, n)].mean() for _ in range(_RESAMPLES)])


def cohen_kappa(decided: Sequence[Hashable], labels: Sequence[Hashable]) -> float:
    """Agreement beyond what the two sides' own frequencies give by chance (Cohen 1960), in [-1, 1].

    NaN of nothing, or if chance alone makes them always agree.

    Args:
        decided: n decisions; None counts as one of its own, which no label is.
        labels: n labels, in the same order.

    Raises:
        ValueError: The lengths differ.
    """
    n = len(labels)
    agreed = sum(a == b for a, b in zip(decided, labels, strict=True))
    one, other = Counter(decided), Counter(labels)
    chance = sum(one[name] * other[name] for name in one)
    return (n * agreed - chance) / (n * n - chance) if n * n > chance else float("nan")


def share_of_known(values: Sequence[float]) -> Share | None:
    """`share` of the values that are not NaN; None if all are."""
    kept = [v for v in values if not math.isnan(v)]
    return share(kept) if kept else None


def resampled(
    values: NDArray[np.float64],
    rows: NDArray[np.int64],
    *,
    over: NDArray[np.float64] | None = None,
) -> Share:
    """The mean of (n,) values, or its ratio to the mean of `over`, with its 95% percentile bootstrap
    interval.

    `rows` are resamples from `bootstrap_rows`.
    """
    n = len(values)
    if n == 0:
        return Share(float("nan"), float("nan"), float("nan"), 0)
    means, mean = values[rows].mean(axis=1), float(values.mean())
    if over is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            means, mean = means / over[rows].mean(axis=1), float(values.mean() / over.mean())
    low, high = np.nanquantile(means, [0.025, 0.975])
    return Share(mean, float(low), float(high), n)


def bootstrap_rows(n: int, *, seed: int = 0) -> NDArray[np.int64]:
    """(2000, n) row indices of resamples; use the same for figures that are compared in pairs."""
    return np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))


def paired_test(
    first: Sequence[bool], second: Sequence[bool], *, of: Sequence[Hashable] | None = None, seed: int = 0
) -> PairedTest:
    """Compare two judges by whether they have each of the same n rows right.

    Args:
        first: Of each row whether the first judge has it right.
        second: The same of the second judge.
        of: What each row belongs to, as in `share`.
        seed: Of the resampling.

    Raises:
        ValueError: The lengths differ.
    """
    differences = [float(a) - float(b) for a, b in zip(first, second, strict=True)]
    ahead: defaultdict[Hashable, float] = defaultdict(float)
    for owner, difference in zip(of or range(len(differences)), differences, strict=True):
        ahead[owner] += difference
    only_first = sum(difference > 0 for difference in ahead.values())
    only_second = sum(difference < 0 for difference in ahead.values())
    return PairedTest(
        first=sum(first) / len(first) if differences else float("nan"),
        second=sum(second) / len(second) if differences else float("nan"),
        difference=share(differences, of=of, seed=seed),
        only_first=only_first,
        only_second=only_second,
        p_value=sign_test(only_first, only_second),
    )


def sign_test(n_one: int, n_other: int) -> float:
    """Two-sided exact p-value of these counts under equal chances, in (0, 1]; 1.0 for no counts."""
    n, least = n_one + n_other, min(n_one, n_other)
    # In integers, so that small tails are not rounded away.
    tail = sum(math.comb(n, k) for k in range(least + 1))
    return min(1.0, float(2 * tail / 2**n))


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Mean |confidence - accuracy| over ten equal bins of confidence, weighted by rows; in [0, 1]."""
    places = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    total = 0.0
    for bin_ in np.unique(places):
        inside = places == bin_
        total += inside.sum() * abs(confidence[inside].mean() - right[inside].mean())
    return float(total / len(confidence))


def percent(value: float) -> float | None:
    """A share as a percentage with two decimals; None for NaN."""
    return None if math.isnan(value) else round(100 * value, 2)


def as_plain(value: Any) -> Any:
    """A report as plain data: dataclasses become dictionaries, shares percentages with n."""
    if isinstance(value, Share):
        known = {"percent": value.value, "low": value.low, "high": value.high}
        return {**{name: percent(v) for name, v in known.items()}, "n": value.n}
    if is_dataclass(value):
        return {f.name: as_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {name: as_plain(v) for name, v in value.items()}
    return [as_plain(v) for v in value] if isinstance(value, list | tuple) else value
