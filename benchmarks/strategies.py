# SPDX-License-Identifier: Apache-2.0
"""Which best-of-N strategy finds the better completion for how many judge calls, on a stated error model?

Everything is in units of the median gap between two completions of a group. A judge asked about i and j in
one order sees the margin

    m = (gold_i - gold_j) + (taste_i - taste_j) + pair_ij + request + slot

and says tie where |m| is below a threshold, else who is ahead. The three errors are normal, of total
variance v, so that the sign of the margin is right with probability P at the median gap without the slot.
    taste    belongs to a completion and meets all of its ratings and comparisons
    pair     belongs to a pair and meets both of its orders
    request  is drawn for each request
`slot` lifts the first completion's chance by 0.05 at equal quality; the threshold makes 20% of all requests
ties. A rating sees gold + taste + a draw of variance (pair + request) / 2, so that the difference of two
ratings errs as often as one comparison; a greedy one is rounded so that 28% of pairs tie.
A call is one request: a rating 1, a comparison in both orders 2. Gold of the pick is the expected value over
what ties for the first place; the share of gain is (pick - random) / (all pairs - random), and intervals are
95% bootstrap over groups.

How the errors divide decides what a budget can do, so that it is varied: all of it fresh on each request,
where 992 calls average out far more of it than 124 can, to most of it taste, which no number of calls helps
against. `--ceiling` plays, where all of the error is fresh, an asker who knows all but the gold, and gives a
bound that no strategy can pass. `--published` adds what Auto-J's published decisions say about the division:
the request's share that reproduces its accuracy in one order and in both.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from groups import data_folder
from report import publish, show
from scipy.special import ndtr

from autoj_reward.evaluate.data import read_decisions, read_pairs
from autoj_reward.evaluate.gold import READERS
from autoj_reward.paths import cache_home
from autoj_reward.reward.budget import Budgeted
from autoj_reward.reward.evidence import Answers, Compared, Costs, Rated, Round
from autoj_reward.reward.playing import play
from autoj_reward.reward.rank import tied_best
from autoj_reward.reward.tournament import AllPairs, Knockout, Pointwise, Ring, Strategy, Swiss

NORMAL = NormalDist()
DIVISIONS = {
    "all request": (0.0, 0.0, 1.0),
    "half pair": (0.0, 0.5, 0.5),
    "mixed": (0.4, 0.4, 0.2),
    "mostly taste": (0.8, 0.0, 0.2),
}
"""Shares of the error's variance: taste, pair, request."""
SLOT, TIES, GREEDY_TIES = 0.05, 0.20, 0.28
SAMPLES, SAMPLED = 4, "4 samples"
"""Draws of a rating that are averaged: only the request's part of its error is drawn anew."""
RESOLUTION = 1e-9


def strategies() -> dict[str, Strategy]:
    return {
        "greedy rating": Pointwise(reading="greedy"),
        "expected rating": Pointwise(),
        SAMPLED: Pointwise(),
        "ring": Ring(),
        "ring of 2": Ring(neighbours=2),
        "knockout": Knockout(),
        "swiss": Swiss(),
        "budgeted halving": Budgeted(allocation="halving"),
        "budgeted": Budgeted(),
        "all pairs": AllPairs(),
    }


@dataclass(frozen=True)
class ErrorModel:
    """A judge's errors; `accuracy` is P, and the shares sum to 1."""

    accuracy: float
    taste: float
    pair: float
    request: float


class SimulatedJudge:
    """Answers for all groups, drawn once: asking twice gives the same answer."""

    def __init__(self, gold: Sequence[np.ndarray], model: ErrorModel, seed: int) -> None:
        rng = np.random.default_rng(seed)
        gaps = np.concatenate([np.abs(g[:, None] - g[None, :])[np.triu_indices(len(g), 1)] for g in gold])
        unit = np.median(gaps[gaps > 0])
        deviation = 1 / NORMAL.inv_cdf(model.accuracy)
        slot = deviation * NORMAL.inv_cdf(0.5 + SLOT)
        self.costs = Costs(rating=1, comparison=2)
        self.liked, self.ratings, self.sampled, self.margins = [], [], [], []
        for values in gold:
            n = len(values)
            seen = values / unit + rng.normal(0, deviation * np.sqrt(model.taste / 2), n)
            self.liked.append(int(seen.argmax()))
            lasting = seen + rng.normal(0, deviation * np.sqrt(model.pair / 2), n)
            fresh = rng.normal(0, deviation * np.sqrt(model.request / 2), (SAMPLES, n))
            self.ratings.append(lasting + fresh[0])
            self.sampled.append(lasting + fresh.mean(axis=0))
            pair = np.triu(rng.normal(0, deviation * np.sqrt(model.pair), (n, n)), 1)
            request = rng.normal(0, deviation * np.sqrt(model.request), (n, n))
            # [i, j]: i is shown first.
            self.margins.append(seen[:, None] - seen[None, :] + pair - pair.T + request + slot)
        flat = np.concatenate([np.abs(m[~np.eye(len(m), dtype=bool)]) for m in self.margins])
        self.threshold = float(np.quantile(flat, TIES))
        spread = np.mean([r.std() for r in self.ratings])
        step = GREEDY_TIES * 2 * np.sqrt(np.pi) * spread
        self.greedy = [np.round(r / step) for r in self.ratings]

    def sampling(self) -> SimulatedJudge:
        """The same judge, each of its ratings averaged over several draws."""
        other = copy.copy(self)
        other.ratings, other.costs = self.sampled, Costs(rating=SAMPLES, comparison=2 * SAMPLES)
        return other

    def answer(self, asked: list[tuple[int, Round]]) -> list[Answers]:
        return [
            Answers(
                ratings=tuple(
                    Rated(self.ratings[g][i], self.greedy[g][i], self.costs.rating) for i in wanted.rate
                ),
                comparisons=self._compared(g, wanted.compare),
            )
            for g, wanted in asked
        ]

    def _compared(self, g: int, pairs: Sequence[tuple[int, int]]) -> tuple[Compared, ...]:
        if not pairs:
            return ()
        i, j = np.array(pairs).T
        given, swapped = self.margins[g][i, j], -self.margins[g][j, i]
        tie = ((np.abs(given) < self.threshold) * 1.0 + (np.abs(swapped) < self.threshold)) / 2
        win = ((given >= self.threshold) * 1.0 + (swapped >= self.threshold)) / 2 + tie / 2
        return tuple(Compared(w, t) for w, t in zip(win.tolist(), tie.tolist(), strict=True))


@dataclass
class Played:
    """One strategy over all groups: gold of its picks, its calls, and how sure it was against how right.

    Right is the completion that the judge likes best: gold and taste, without the other errors.
    """

    picks: np.ndarray
    calls: np.ndarray
    claimed: list[float]
    true: list[float]


def played(strategy: Strategy, gold: Sequence[np.ndarray], judge: SimulatedJudge) -> Played:
    evidences = play(strategy, [(len(g), n) for n, g in enumerate(gold)], judge)
    picks, claimed, true = [], [], []
    for values, liked, evidence in zip(gold, judge.liked, evidences, strict=True):
        standing = strategy.standing(evidence)
        best = tied_best(standing, RESOLUTION)
        picks.append(values[best].mean())
        true.append((liked in best) / len(best))
        if standing.best_prob is not None:
            claimed.append(float(standing.best_prob.max()))
    return Played(np.array(picks), np.array([e.n_calls for e in evidences]), claimed, true)


def shares(
    gains: dict[str, np.ndarray], seed: int = 0, n: int = 1000
) -> dict[str, tuple[float, float, float]]:
    """Mean gain over all pairs' mean gain, with its paired bootstrap interval."""
    size = len(gains["all pairs"])
    rows = np.random.default_rng(seed).integers(0, size, (n, size))
    whole = gains["all pairs"][rows].mean(axis=1)
    found = {}
    for name, gain in gains.items():
        low, high = np.quantile(gain[rows].mean(axis=1) / whole, [0.025, 0.975])
        found[name] = (gain.mean() / gains["all pairs"].mean(), low, high)
    return found


def measure(
    gold: Sequence[np.ndarray], model: ErrorModel, chosen: dict[str, Strategy], seed: int
) -> list[dict[str, Any]]:
    judge = SimulatedJudge(gold, model, seed)
    random = np.array([g.mean() for g in gold])
    oracle = np.array([g.max() for g in gold])
    asked = {name: judge.sampling() if name == SAMPLED else judge for name in chosen}
    done = {name: played(s, gold, asked[name]) for name, s in chosen.items()}
    found = shares({name: p.picks - random for name, p in done.items()})
    return [
        {
            "accuracy": model.accuracy,
            "strategy": name,
            "calls": round(float(p.calls.mean()), 1),
            "gold": round(float(p.picks.mean()), 4),
            "of oracle": round(float((p.picks - random).mean() / (oracle - random).mean()), 3),
            "of all pairs": round(float(found[name][0]), 3),
            "low": round(float(found[name][1]), 3),
            "high": round(float(found[name][2]), 3),
            "is best": round(float(np.mean(p.true)), 3),
            "says best": round(float(np.mean(p.claimed)), 3) if p.claimed else None,
        }
        for name, p in done.items()
    ]


def normal_groups(n_groups: int, size: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=size) for _ in range(n_groups)]


def gold_groups(name: str, limit: int, size: int) -> list[np.ndarray]:
    """Groups of a gold set whose completions are not all of one value."""
    found = []
    for group in READERS[name](data_folder()):
        values = np.array(group.gold[:size])
        if len(values) > 1 and values.min() < values.max():
            found.append(values)
        if len(found) == limit:
            break
    return found


def published_shares(folder: Path) -> dict[str, float]:
    """The request's share of the error that gives Auto-J's published accuracy in one and in both orders.

    On pairs that people decided and Auto-J too, in both orders; gaps are half normal with median 1.
    """
    outputs = folder / "auto-j" / "data" / "outputs"
    pairs = read_pairs(folder / "auto-j" / "data" / "test" / "testdata_pairwise.jsonl")
    decisions = read_decisions(
        outputs / "pairwise_example_output.jsonl", outputs / "pairwise_exchange_example_output.jsonl"
    )
    right = np.array(
        [
            (d.given == p.preference, d.swapped == p.preference)
            for p, d in zip(pairs, decisions, strict=True)
            if "tie" not in (p.preference, d.given, d.swapped)
        ]
    )
    one, both = float(right.mean()), float(right.all(axis=1).mean())
    grid = (np.arange(400) + 0.5) / 400
    z = np.array([NORMAL.inv_cdf(q) for q in grid])
    gap = np.array([NORMAL.inv_cdf(0.5 + q / 2) for q in grid]) / NORMAL.inv_cdf(0.75)
    cdf = np.vectorize(NORMAL.cdf)
    deviation = _root(lambda s: cdf(gap / s).mean() - one, 0.05, 50.0)

    def both_right(request: float) -> float:
        lasting = np.sqrt(1 - request) * deviation * z
        seen = cdf((gap[:, None] + lasting[None, :]) / (np.sqrt(request) * deviation))
        return float((seen**2).mean())

    request = _root(lambda r: both_right(r) - both, 1e-3, 0.999)
    return {
        "pairs": len(right),
        "one_order": round(one, 4),
        "both_orders": round(both, 4),
        "accuracy_at_median_gap": round(NORMAL.cdf(1 / deviation), 3),
        "request_share": round(request, 3),
    }


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function is 0, by halving."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


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
        self.threshold = _root(lambda t: TIES - margins.cdf(t) + margins.cdf(-t), 0.0, 10 * margins.stdev)
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
    largest = NormalDist().inv_cdf  # the mean of the largest of `size` normals, by its quantile function
    grid = (np.arange(20_000) + 0.5) / 20_000
    expected = float(np.mean([largest(q ** (1 / size)) for q in grid]))
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
    arguments.add_argument("--divisions", nargs="+", choices=list(DIVISIONS), default=list(DIVISIONS))
    arguments.add_argument("--accuracies", nargs="+", type=float, default=[0.6, 0.7, 0.8])
    arguments.add_argument("--only", nargs="+", help="strategies beside all pairs; all of them without")
    arguments.add_argument("--sets", nargs="+", choices=["normal", *READERS], default=["normal"])
    arguments.add_argument("--published", action="store_true", help="also what Auto-J's decisions say")
    arguments.add_argument(
        "--ceiling", action="store_true", help="what a budget can do where errors are fresh"
    )
    arguments.add_argument("--name", default="strategies", help="of the result file")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--no-file", action="store_true", help="print only")
    given = arguments.parse_args()

    if given.ceiling:
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
        if not given.no_file:
            question = "what can a budget do where each request errs anew, for an asker who knows the errors?"
            publish(f"{given.name}_ceiling", question, {"groups": given.groups, "rows": rows})
        return
    chosen = {n: s for n, s in strategies().items() if not given.only or n in [*given.only, "all pairs"]}
    results: dict[str, Any] = {"slot_bias": SLOT, "ties": TIES, "divisions": DIVISIONS, "rows": []}
    if given.published:
        results["auto_j"] = published_shares(data_folder())
        print(json.dumps(results["auto_j"]))
    for set_name in given.sets:
        gold = (
            normal_groups(given.groups, given.size, given.seed)
            if set_name == "normal"
            else gold_groups(set_name, given.groups, given.size)
        )
        for division in given.divisions:
            rows = []
            for accuracy in given.accuracies:
                model = ErrorModel(accuracy, *DIVISIONS[division])
                rows += measure(gold, model, chosen, given.seed + 1)
            head = {"set": set_name, "groups": len(gold), "division": division}
            print(f"\n{json.dumps(head)}", flush=True)
            show(rows)
            results["rows"] += [head | row for row in rows]
    if not given.no_file:
        publish(given.name, "gold of the pick for judge calls, by strategy, on simulated judges", results)


if __name__ == "__main__":
    main()
