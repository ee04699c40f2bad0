# SPDX-License-Identifier: Apache-2.0
"""What can a budget of judge calls do, on the error model of strategies.py, with independent errors of each
request?

An asker plays who knows all but the gold (how it is spread, how large the errors are, the slot's bias, the
threshold of ties), and a bound is given that no strategy can pass. Finished accuracies are kept in the cache
folder, so a stopped run resumes.
"""

from __future__ import annotations

import argparse
import json
from statistics import NormalDist
from typing import Any

import numpy as np
from report import publish, show
from scipy.special import ndtr
from strategies import NORMAL, SLOT, TIES, normal_groups, root

from autoj_reward.environment import cache_home


class Ideal:
    """One group of requests to a judge whose errors are all fresh, by an asker who knows all but the gold.

    It knows how gold is spread, how large the errors are, the threshold of ties and the slot's bias; asks one
    request at a time, may ask a pair again, and need not ask in both orders. Strengths are normal, a verdict
    moves them by its exact mean and variance along the pair (assumed-density filtering). Arrays are (B, n)
    over B groups.
    """

    HORIZON = 0.25
    """Share of the requests left that a request is valued as if it were asked again."""

    def __init__(self, gold: np.ndarray, accuracy: float, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        gaps = np.abs(gold[:, :, None] - gold[:, None, :])[:, *np.triu_indices(gold.shape[1], 1)]
        self.gold, self.rows = gold / np.median(gaps), np.arange(len(gold))
        self.deviation = 1 / NORMAL.inv_cdf(accuracy)
        self.slot = self.deviation * NORMAL.inv_cdf(0.5 + SLOT)
        self.spread = float(1 / np.median(gaps))
        margins = NormalDist(self.slot, np.hypot(np.sqrt(2) * self.spread, self.deviation))
        self.threshold = root(lambda t: TIES - margins.cdf(t) + margins.cdf(-t), 0.0, 10 * margins.stdev)
        rated = self.gold + self.rng.normal(0, self.deviation / np.sqrt(2), gold.shape)
        kept = self.spread**2 / (self.spread**2 + self.deviation**2 / 2)
        self.means = kept * rated
        self.covariance = np.tile(np.eye(gold.shape[1]) * self.spread**2 * (1 - kept), (len(gold), 1, 1))

    def ask(self, left: int, step: int) -> None:
        """One request of each group."""
        i, j = self._wanted(left)
        slot = self.slot if step % 2 == 0 else -self.slot
        margin = self.gold[self.rows, i] - self.gold[self.rows, j] + slot
        margin += self.rng.normal(0, self.deviation, len(self.rows))
        low = np.where(margin >= self.threshold, self.threshold, -np.inf)
        low = np.where(np.abs(margin) < self.threshold, -self.threshold, low)
        high = np.where(margin < -self.threshold, -self.threshold, np.inf)
        high = np.where(np.abs(margin) < self.threshold, self.threshold, high)
        along = self.covariance[self.rows, i] - self.covariance[self.rows, j]
        variance = along[self.rows, i] - along[self.rows, j]
        total = np.sqrt(variance + self.deviation**2)
        foreseen = self.means[self.rows, i] - self.means[self.rows, j] + slot
        mean, shrink = _truncated((low - foreseen) / total, (high - foreseen) / total)
        self.means += along * (mean / total)[:, None]
        self.covariance -= along[:, :, None] * along[:, None, :] * (shrink / total**2)[:, None, None]

    def _wanted(self, left: int) -> tuple[np.ndarray, np.ndarray]:
        """The pairs whose answer is expected to raise the best mean most (knowledge gradient)."""
        n = self.means.shape[1]
        variance = np.einsum("gii->gi", self.covariance)
        apart = variance[:, :, None] + variance[:, None, :] - 2 * self.covariance
        noise = self.deviation**2 / 0.745 / max(1.0, self.HORIZON * left)
        root = np.sqrt(apart + noise)
        leader = self.means.argmax(axis=1)
        behind = self.means - self.means[self.rows, leader][:, None]
        open_ = _expected_gain(behind, np.sqrt(np.maximum(apart[self.rows, leader], 1e-12)))
        open_[self.rows, leader] = -1.0
        value = np.zeros_like(apart)
        for other in np.argsort(-open_, axis=1)[:, :4].T:
            moved = self.covariance[self.rows, other] - self.covariance[self.rows, leader]
            moves = np.abs(moved[:, :, None] - moved[:, None, :]) / root
            value = np.maximum(value, _expected_gain(behind[self.rows, other][:, None, None], moves))
        value[:, np.arange(n), np.arange(n)] = -1.0
        return np.divmod(value.reshape(len(value), -1).argmax(axis=1), n)


def _density(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-x * x / 2) / np.sqrt(2 * np.pi))


def _expected_gain(behind: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Mean of what a normal of that (negative) mean and deviation has above 0."""
    scaled = behind / np.maximum(deviation, 1e-9)
    return np.asarray(np.maximum(deviation, 1e-9) * (_density(scaled) + scaled * ndtr(scaled)))


def _truncated(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of a standard normal between two ends, and what its variance has lost."""
    inside = np.maximum(ndtr(high) - ndtr(low), 1e-12)
    mean = (_density(low) - _density(high)) / inside
    ends = [np.where(np.isfinite(x), x, 0.0) * _density(x) for x in (low, high)]
    return mean, mean**2 - (ends[0] - ends[1]) / inside


def ideal(gold: np.ndarray, accuracy: float, calls: int, seed: int) -> np.ndarray:
    """Gold of the ideal asker's picks for so many calls, a rating of each completion among them."""
    asker = Ideal(gold, accuracy, seed)
    n_asked = calls - gold.shape[1]
    for step in range(n_asked):
        asker.ask(n_asked - step, step)
    return np.asarray(gold[asker.rows, asker.means.argmax(axis=1)])


def bound(accuracy: float, size: int, calls: int) -> float:
    """More than any strategy's expected gain, in deviations of normal gold, where all errors are fresh.

    A request tells at most what two draws tell, one of each completion, with half the error's variance each.
    With a price on a draw, completions that are drawn from one by one, each with the right to be taken at
    any time, are worth at most Whittle's integral B - int prod dv/dK dK of the values v(K) of each beside a
    sure K (Whittle 1980; Brown and Smith 2013). The budget's bound is the least over prices of that worth
    plus the price of all draws.
    """
    draws, unit = 2 * calls, np.sqrt(2) * NORMAL.inv_cdf(0.75)
    error = (unit / NORMAL.inv_cdf(accuracy)) ** 2 / 2
    variance = 1 / (1 + np.arange(draws + 1) / error)
    steps, weights = np.polynomial.hermite_e.hermegauss(15)
    x = np.linspace(-6.0, 6.0, 481)
    best = np.inf
    for price in np.geomspace(2e-4, 2e-2, 17):
        value = np.maximum(x, 0.0)
        for before, after in zip(variance[-2::-1], variance[:0:-1], strict=True):
            moved = x[:, None] + np.sqrt(before - after) * steps
            later = np.interp(moved, x, value) + np.maximum(moved - x[-1], 0.0)
            value = np.maximum(np.maximum(x, 0.0), later @ weights / weights.sum() - price)
        sure = -x[::-1]
        slope = np.clip(np.gradient(sure + value[::-1], sure), 0.0, 1.0)
        best = min(best, price * draws + sure[-1] - np.trapezoid(slope**size, sure))
    return float(best)


def ceiling(accuracy: float, n_groups: int, size: int, calls: int, seed: int) -> dict[str, Any]:
    """What the ideal asker reaches on the tables' groups, and the bound, as shares of the oracle's gain."""
    gold = np.array(normal_groups(n_groups, size, seed))
    picks, random, oracle = ideal(gold, accuracy, calls, seed + 1), gold.mean(axis=1), gold.max(axis=1)
    rows = np.random.default_rng(0).integers(0, n_groups, (1000, n_groups))
    low, high = np.quantile(
        (picks - random)[rows].mean(axis=1) / (oracle - random)[rows].mean(axis=1), [0.025, 0.975]
    )
    # The mean of the largest of `size` normals, by its quantile function.
    grid = (np.arange(20_000) + 0.5) / 20_000
    expected = float(np.mean([NORMAL.inv_cdf(q ** (1 / size)) for q in grid]))
    return {
        "accuracy": accuracy,
        "calls": calls,
        "gold": round(float(picks.mean()), 4),
        "of oracle": round(float((picks - random).mean() / (oracle - random).mean()), 3),
        "low": round(float(low), 3),
        "high": round(float(high), 3),
        "bound": round(bound(accuracy, size, calls) / expected, 3),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--groups", type=int, default=200)
    arguments.add_argument("--size", type=int, default=32)
    arguments.add_argument("--accuracies", nargs="+", type=float, default=[0.6, 0.7, 0.8])
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()

    # An eighth of what all pairs take in both orders.
    calls = given.size * (given.size - 1) // 8
    kept = cache_home() / "benchmarks" / f"ceiling_{given.groups}_{given.size}_{given.seed}.json"
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for accuracy in given.accuracies:
        if str(accuracy) not in known:
            known[str(accuracy)] = ceiling(accuracy, given.groups, given.size, calls, given.seed)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(known), encoding="utf-8")
    rows = [known[str(a)] for a in given.accuracies]
    show(rows)
    question = (
        "what can a budget do with independent errors of each request, for an asker who knows the errors?"
    )
    publish("strategies_ceiling", question, {"groups": given.groups, "rows": rows})


if __name__ == "__main__":
    main()
