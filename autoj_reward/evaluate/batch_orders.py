# SPDX-License-Identifier: Apache-2.0
"""Measure the resolution of a judge: how much a rating depends on the rest of its batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoj_reward.errors import DataError
from autoj_reward.evaluate.gold import GoldGroup
from autoj_reward.judge.judge import Judge
from autoj_reward.statistics import Share, kendall, share, share_of_known

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOrderCheck:
    """How much ratings change if the same completions are rated in another order and other batches.

    Attributes:
        n: Completions with a verdict in both runs.
        largest: Largest difference of an expected rating.
        percentile_99: 99% of differences are at most this: the measured resolution.
        kendall: Mean tau-b between a group's two rankings, ties at the resolution counted as ties.
        expected_ties: Share of pairs within a group whose expected ratings differ by no more than the
            measured resolution.
        greedy_ties: Share of pairs within a group of the same greedy rating.
    """

    n: int
    largest: float
    percentile_99: float
    kendall: Share
    expected_ties: float
    greedy_ties: float


def check_batch_orders(
    judge: Judge, groups: Sequence[GoldGroup], *, chunks: tuple[int, int] = (32, 7)
) -> BatchOrderCheck:
    """Rate every completion twice: in order, and backwards in chunks of another size.

    Args:
        judge: A judge without a cache; with one it would only agree with itself.
        groups: Groups, with or without gold.
        chunks: How many ratings at a time in the two runs.

    Raises:
        DataError: No completion has a verdict in both runs.
    """
    grouped = [group.requests() for group in groups]
    flat = [r for group in grouped for r in group]
    given = [j for n in range(0, len(flat), chunks[0]) for j in judge.rate_requests(flat[n : n + chunks[0]])]
    backwards = flat[::-1]
    turned = [
        j for n in range(0, len(flat), chunks[1]) for j in judge.rate_requests(backwards[n : n + chunks[1]])
    ][::-1]
    a = _numbers([j.expected_rating for j in given])
    b = _numbers([j.expected_rating for j in turned])
    greedy = _numbers([j.rating for j in given])
    both = ~np.isnan(a) & ~np.isnan(b)
    if not both.any():
        raise DataError("no completion has a verdict in both runs")
    gaps = np.abs(a - b)[both]
    resolution = float(np.quantile(gaps, 0.99))
    taus, expected_ties, greedy_ties, start = [], [], [], 0
    for group in grouped:
        part = slice(start, start + len(group))
        start += len(group)
        known = both[part]
        x, y, g = a[part][known], b[part][known], greedy[part][known]
        if len(x) > 1:
            taus.append(kendall(x, y))
            above = np.triu_indices(len(x), 1)
            expected_ties.append((np.abs(x[:, None] - x[None, :])[above] <= resolution).mean())
            greedy_ties.append((g[:, None] == g[None, :])[above].mean())
    return BatchOrderCheck(
        n=int(both.sum()),
        largest=float(gaps.max()),
        percentile_99=resolution,
        kendall=share_of_known(taus) or share([]),
        expected_ties=float(sum(expected_ties) / max(len(expected_ties), 1)),
        greedy_ties=float(sum(greedy_ties) / max(len(greedy_ties), 1)),
    )


def _numbers(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if v is None else v for v in values])
