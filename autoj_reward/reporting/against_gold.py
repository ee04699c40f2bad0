# SPDX-License-Identifier: Apache-2.0
"""Report parts that compare judgments with gold labels: correlation, agreement, calibration."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from autoj_reward.reporting.entries import Entry, Run
from autoj_reward.reporting.parts import Bars, Lines, Part
from autoj_reward.statistics import share, spearman

_BINS = 10


def _binned(
    pairs: Sequence[tuple[float, float]], low: float, high: float
) -> tuple[list[float], list[float], list[int]]:
    """Mean of x, mean of y and count in equal bins of x; bins without a value are left out."""
    bins: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for x, y in pairs:
        bins[min(int((x - low) / (high - low) * _BINS), _BINS - 1) if high > low else 0].append((x, y))
    chosen = [bins[k] for k in sorted(bins)]
    return (
        [float(np.mean([x for x, _ in b])) for b in chosen],
        [float(np.mean([y for _, y in b])) for b in chosen],
        [len(b) for b in chosen],
    )


def calibration_of_ratings(known: Sequence[tuple[float, Any]]) -> Lines:
    """Mean gold in bins of the expected rating, from pairs of rating and gold."""
    pairs = [(float(x), float(y)) for x, y in known]
    xs = [x for x, _ in pairs]
    rho = spearman(np.array(xs), np.array([y for _, y in pairs]))
    x, y, n = _binned(pairs, min(xs), max(xs))
    return Lines(
        id="calibration",
        title="Gold against rating",
        says=f"Spearman's rank correlation over {len(pairs):,} judgments with gold is {rho:.3f}.",
        x_label="expected rating",
        y_label="mean gold",
        x=x,
        series={"gold": y},
        n=n,
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
    parts: list[Part] = [
        Bars.of_shares(
            "agreement",
            "Agreement with gold",
            f"The judge decides as gold does in {overall.value:.1%} of {overall.n:,} pairs "
            f"({overall.low:.1%} to {overall.high:.1%}).",
            y_label="share of pairs",
            series="agreement",
            shares=shares,
        )
    ]
    outcome = {"first": 1.0, "tie": 0.5, "second": 0.0}
    pairs = [(float(e.number), outcome[e.gold]) for e in entries if e.number is not None]
    if pairs:
        x, y, n = _binned(pairs, 0.0, 1.0)
        error = sum(k * abs(a - b) for a, b, k in zip(x, y, n, strict=True)) / len(pairs)
        parts.append(
            Lines(
                id="calibration",
                title="Calibration of the win probability",
                says=f"The expected calibration error of the win probability is {error:.3f} "
                "(ten bins; a tie counts one half).",
                x_label="win probability of the first",
                y_label="share that the first wins",
                x=x,
                series={"observed": y},
                diagonal=True,
                n=n,
            )
        )
    return parts


def gold_against_n(run: Run) -> Lines:
    """Mean gold of the best of n for every n, exactly, over all subsets of n completions of a group."""
    groups = [list(g) for _, g in groupby(run.entries, key=lambda e: e.line)]
    groups = [g for g in groups if all(e.gold is not None for e in g)]
    most = min(len(g) for g in groups) if groups else 0
    ns = list(range(1, most + 1))
    judge, oracle, random = [], [], []
    for n in ns:
        judge.append(float(np.mean([_best_of([e.gold for e in g], n) for g in groups])))
        oracle.append(
            float(np.mean([_best_of(sorted((e.gold for e in g), reverse=True), n) for g in groups]))
        )
        random.append(float(np.mean([np.mean([e.gold for e in g]) for g in groups])))
    says = "No group has gold for all its completions."
    if ns:
        says = (
            f"Over {len(groups):,} groups the judge's best of {most} has {judge[-1]:.3f}, chance "
            f"{random[-1]:.3f}, the best possible pick {oracle[-1]:.3f}. With one rating for each "
            "completion, N is also the number of judge calls."
        )
    return Lines(
        id="gold",
        title="Gold of the best of N, against N",
        says=says,
        x_label="N, which is also the number of judge calls",
        y_label="mean gold of the chosen",
        x=[float(n) for n in ns],
        series={"judge": judge, "oracle": oracle, "random": random},
    )


def _best_of(ordered: Sequence[float], n: int) -> float:
    """Mean of the first in order among n drawn without replacement: C(N-1-i, n-1) / C(N, n) for place i."""
    size = len(ordered)
    total = math.comb(size, n)
    return sum(value * math.comb(size - 1 - i, n - 1) / total for i, value in enumerate(ordered))
