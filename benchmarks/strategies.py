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
against; strategies_ceiling.py gives the bound that no strategy can pass. `--published` adds what Auto-J's
published decisions say about the division: the request's share that reproduces its accuracy in one order and
in both.
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

from autoj_reward.autoj.pairs import read_decisions, read_pairs
from autoj_reward.evaluate.gold import READERS
from autoj_reward.ranking.budgeted import Budgeted
from autoj_reward.ranking.evidence import Answers, Compared, Rated, Round
from autoj_reward.ranking.orders import order
from autoj_reward.ranking.runner import run_strategy
from autoj_reward.ranking.strategies import AllPairs, Knockout, Pointwise, Ring, Strategy, Swiss

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
"""Draws of a rating that are averaged: only the request's part of its error is drawn again."""
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
        self.calls_per_rating, self.calls_per_comparison = 1, 2
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
        other.ratings, other.calls_per_rating = self.sampled, SAMPLES
        other.calls_per_comparison = 2 * SAMPLES
        return other

    def answer(self, asked: list[tuple[int, Round]]) -> list[Answers]:
        return [
            Answers(
                ratings=tuple(
                    Rated(self.ratings[g][i], self.greedy[g][i], self.calls_per_rating) for i in wanted.rate
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
    evidences = run_strategy(strategy, [(len(g), n) for n, g in enumerate(gold)], judge)
    picks, claimed, true = [], [], []
    for values, liked, evidence in zip(gold, judge.liked, evidences, strict=True):
        standing = strategy.standing(evidence)
        best = (order(standing, RESOLUTION) or [[]])[0]
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
    deviation = root(lambda s: cdf(gap / s).mean() - one, 0.05, 50.0)

    def both_right(request: float) -> float:
        lasting = np.sqrt(1 - request) * deviation * z
        seen = cdf((gap[:, None] + lasting[None, :]) / (np.sqrt(request) * deviation))
        return float((seen**2).mean())

    request = root(lambda r: both_right(r) - both, 1e-3, 0.999)
    return {
        "pairs": len(right),
        "one_order": round(one, 4),
        "both_orders": round(both, 4),
        "accuracy_at_median_gap": round(NORMAL.cdf(1 / deviation), 3),
        "request_share": round(request, 3),
    }


def root(falling: Callable[[float], float], low: float, high: float) -> float:
    """The root of a falling function, by bisection."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--groups", type=int, default=200)
    arguments.add_argument("--size", type=int, default=32)
    arguments.add_argument("--divisions", nargs="+", choices=list(DIVISIONS), default=list(DIVISIONS))
    arguments.add_argument("--accuracies", nargs="+", type=float, default=[0.6, 0.7, 0.8])
    arguments.add_argument("--only", nargs="+", help="strategies beside all pairs; all of them without")
    arguments.add_argument("--sets", nargs="+", choices=["normal", *READERS], default=["normal"])
    arguments.add_argument("--published", action="store_true", help="also what Auto-J's decisions say")
    arguments.add_argument("--name", default="strategies", help="of the result file")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--no-file", action="store_true", help="print only")
    given = arguments.parse_args()

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
