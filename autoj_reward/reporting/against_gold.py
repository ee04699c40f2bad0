# SPDX-License-Identifier: Apache-2.0
"""Report parts that compare judgments with gold labels: correlation, agreement, calibration."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from autoj_reward.reporting.entries import Entry, Run
from autoj_reward.reporting.parts import Bars, Lines, Part, interval
from autoj_reward.statistics import Share, bootstrap_rows, cohen_kappa, resampled, share, spearman

_BINS = 10
_INTEGER_AXIS = 8
"""Up to this N the axis is linear; beyond it is by powers of two."""


class _Bin(NamedTuple):
    """One bin of x: its mean, the mean of y with its interval, and how many."""

    x: float
    y: Share


def _binned(pairs: Sequence[tuple[float, float]], low: float, high: float) -> list[_Bin]:
    """Equal bins of x; bins without a value are left out."""
    bins: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for x, y in pairs:
        place = int((x - low) / (high - low) * _BINS) if high > low else 0
        bins[min(max(place, 0), _BINS - 1)].append((x, y))
    return [
        _Bin(float(np.mean([x for x, _ in b])), share([y for _, y in b])) for _, b in sorted(bins.items())
    ]


def _curve(bins: Sequence[_Bin], name: str) -> dict[str, Any]:
    """The fields of `Lines` for bins."""
    return {
        "x": [b.x for b in bins],
        "series": {name: [b.y.value for b in bins]},
        "low": {name: [interval(b.y)[0] for b in bins]},
        "high": {name: [interval(b.y)[1] for b in bins]},
        "n": [b.y.n for b in bins],
    }


def calibration_of_ratings(known: Sequence[tuple[float, Any]], scale: tuple[float, float]) -> Lines:
    """Mean gold in bins of the expected rating over the whole scale, from pairs of rating and gold."""
    pairs = [(float(x), float(y)) for x, y in known]
    golds = [y for _, y in pairs]
    rho = spearman(np.array([x for x, _ in pairs]), np.array(golds))
    return Lines(
        id="calibration",
        title="Gold against rating",
        says=f"Spearman's rank correlation over {len(pairs):,} judgments with gold is {rho:.3f}.",
        x_label="expected rating",
        y_label="mean gold",
        x_axis=scale,
        y_axis=(min(golds), max(golds)),
        **_curve(_binned(pairs, *scale), "gold"),
    )


def agreement(entries: Sequence[Entry]) -> list[Part]:
    """Agreement by group, and calibration of the win probability, from entries with gold."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for e in entries:
        right = e.verdict == e.gold
        groups["all pairs"].append(right)
        if e.group is not None:
            groups[e.group].append(right)
    shares = {name: share(values) for name, values in groups.items()}
    overall = shares["all pairs"]
    kappa = cohen_kappa([e.verdict for e in entries], [e.gold for e in entries])
    parts: list[Part] = [
        Bars.of_shares(
            "agreement",
            "Agreement with gold",
            f"The judge decides as gold does in {overall.value:.1%} of {overall.n:,} pairs "
            f"({overall.low:.1%} to {overall.high:.1%}); Cohen's kappa is {kappa:.3f}.",
            y_label="share of pairs",
            shares={"agreement": shares},
            axis=(0.0, 1.0),
        )
    ]
    outcome = {"first": 1.0, "tie": 0.5, "second": 0.0}
    pairs = [(float(e.number), outcome[e.gold]) for e in entries if e.number is not None]
    if pairs:
        bins = _binned(pairs, 0.0, 1.0)
        error = sum(b.y.n * abs(b.x - b.y.value) for b in bins) / len(pairs)
        parts.append(
            Lines(
                id="calibration",
                title="Calibration of the win probability",
                says=f"The expected calibration error of the win probability is {error:.3f} "
                "(ten bins; a tie counts one half). On the diagonal it would be 0.",
                x_label="win probability of the first",
                y_label="share that the first wins",
                x_axis=(0.0, 1.0),
                y_axis=(0.0, 1.0),
                diagonal=True,
                **_curve(bins, "observed"),
            )
        )
    return parts


def gold_against_n(run: Run) -> Lines:
    """Mean gold of the best of n, exactly, over all subsets of n completions of a group."""
    groups = [list(g) for _, g in groupby(run.entries, key=lambda e: e.line)]
    groups = [g for g in groups if all(e.gold is not None for e in g)]
    most = min(len(g) for g in groups) if groups else 0
    ns = _sizes(most)
    picks = {
        "judge": [[e.gold for e in g] for g in groups],
        "oracle": [sorted((e.gold for e in g), reverse=True) for g in groups],
        "random": [[float(np.mean([e.gold for e in g]))] * len(g) for g in groups],
    }
    resamples = bootstrap_rows(len(groups)) if groups else np.zeros((0, 0), dtype=np.int64)
    found = {
        name: [resampled(np.array([_best_of(g, n) for g in ordered]), resamples) for n in ns]
        for name, ordered in picks.items()
    }
    says = "No group has gold for all its completions."
    if ns:
        judge, oracle, random = (found[name][-1] for name in ("judge", "oracle", "random"))
        says = (
            f"Over {len(groups):,} groups the judge's best of {most} has {judge.value:.3f} "
            f"({judge.low:.3f} to {judge.high:.3f}), chance {random.value:.3f}, the best possible pick "
            f"{oracle.value:.3f}. With one rating for each completion, N is also the number of judge calls."
        )
    return Lines(
        id="gold",
        title="Gold of the best of N, against N",
        says=says,
        x_label="N, completions to choose from",
        y_label="mean gold of the chosen",
        x=[float(n) for n in ns],
        series={name: [s.value for s in column] for name, column in found.items()},
        low={name: [s.low for s in column] for name, column in found.items()},
        high={name: [s.high for s in column] for name, column in found.items()},
        axis="log2" if most > _INTEGER_AXIS else "integer",
    )


def _sizes(most: int) -> list[int]:
    """Every n up to 32, then the powers of two and the largest."""
    return [n for n in range(1, most + 1) if n <= 32 or n & (n - 1) == 0 or n == most]


def _best_of(ordered: Sequence[float], n: int) -> float:
    """Mean of the first in order among n drawn without replacement: C(N-1-i, n-1) / C(N, n) for place i."""
    size = len(ordered)
    total = math.comb(size, n)
    return sum(value * math.comb(size - 1 - i, n - 1) / total for i, value in enumerate(ordered))
