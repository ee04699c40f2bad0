# SPDX-License-Identifier: Apache-2.0
"""The budgeted strategy: rate all, then compare where the best is uncertain.

Ratings give every strength a normal prior, mean `slope` times the standardised rating and variance
`spread`^2; how far the ratings are to be trusted is learnt from the comparisons of the group itself, by
weighing a few such priors by their Laplace evidence. Each round then asks the comparisons that
tell most about the best, in one of two ways:

top_two  pairs (i, j) not yet asked with the largest P(i best) P(j best) Var(s_i - s_j): mostly the leader
         against its challengers, as in top-two sampling (Russo, COLT 2016), but a batch at a time.
halving  successive halving (Karnin, Koren and Somekh, ICML 2013): the budget is split over log2 n rounds,
         the completions still in are paired at random, and the better half by posterior mean stays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from autoj_reward.errors import ConfigError
from autoj_reward.ranking.bradley_terry import Floats, Strengths, fit_under_priors
from autoj_reward.ranking.evidence import Evidence, Round
from autoj_reward.ranking.strategies import Pair, Standing, standing_of

_SLOPES = (0.2, 0.5, 1.2, 2.5)
"""Log-odds per standard deviation of the ratings that are weighed against each other."""
_SPREADS = (0.4, 1.0, 2.0)
"""Standard deviations, in log-odds, of a strength about what its rating says."""
_AT_MOST_IN_A_ROUND = 3
"""Comparisons of one completion in one round, so that a batch does not ask the same thing over and over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgeted:
    """The best pick for few judge calls.

    It stops at whatever comes first: the calls, the tokens, the confidence, or nothing left to ask.

    Attributes:
        calls: Most judge calls for a group, ratings and both orders of comparisons counted. None, with no
            tokens and no confidence given either, is an eighth of what all pairs would cost, and in groups of
            12 and fewer at least what the ratings cost and a comparison for each four completions. A group
            whose ratings alone cost as much as a given budget is rated and no more, with a warning.
        tokens: Most tokens for a group, prompts and outputs. What a round will cost is foreseen from the
            tokens of earlier ones, so that the last round may pass it by a little.
        confidence: Stop when the pick is the best with this probability, in (0.5, 1): the best for this
            judge, that is what comparing all pairs without end would show.
        allocation: Which comparisons.
        n_rounds: Rounds over which the comparisons are spread; more rounds, better chosen ones.
    """

    calls: int | None = None
    tokens: int | None = None
    confidence: float | None = None
    allocation: Literal["top_two", "halving"] = "top_two"
    n_rounds: int = 6

    def __post_init__(self) -> None:
        for name in ("calls", "tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} = {value} is not at least 1")
        if self.confidence is not None and not 0.5 < self.confidence < 1:
            raise ConfigError(f"confidence = {self.confidence} is not in (0.5, 1)")
        if self.allocation not in ("top_two", "halving") or self.n_rounds < 1:
            raise ConfigError(
                f"allocation = {self.allocation!r} is not top_two or halving, or n_rounds is below 1"
            )

    @property
    def name(self) -> str:
        return "budgeted"

    @property
    def asks(self) -> Literal["ratings", "comparisons", "both"]:
        return "both"

    def rounds(self, evidence: Evidence) -> Iterator[Round]:
        yield Round(rate=tuple(range(evidence.n)))
        if evidence.n == 1:
            return
        n_pairs = evidence.n * (evidence.n - 1) // 2
        n_rounds = self.n_rounds if self.allocation == "top_two" else (evidence.n - 1).bit_length()
        alive = list(range(evidence.n))
        for n_later in itertools.chain(range(n_rounds - 1, -1, -1), itertools.repeat(0)):
            fit = self._fit(evidence)
            best = fit.best_probs(evidence.rng(1))
            left = min(n_pairs, self._comparisons_left(evidence))
            if left == 0 or (self.confidence is not None and best.max() >= self.confidence):
                return
            if self.allocation == "halving":
                alive = sorted(alive, key=lambda i: -fit.values[i])[: max(2, math.ceil(len(alive) / 2))]
                pairs = _spread(alive, evidence, left - _reserved(len(alive), left, n_later))
            else:
                pairs = _telling(best, fit.covariance, evidence, math.ceil(left / (n_later + 1)))
            if not pairs:
                return
            yield Round(compare=tuple(pairs))

    def standing(self, evidence: Evidence) -> Standing:
        return standing_of(evidence, self._fit(evidence))

    def _comparisons_left(self, evidence: Evidence) -> int:
        """How many comparisons the calls and tokens still allow."""
        n_pairs = evidence.n * (evidence.n - 1) // 2
        calls, left = self.calls, n_pairs
        if calls is None and self.tokens is None and self.confidence is None:
            costs = evidence.costs
            # Of a small group the ratings alone cost more than an eighth.
            least = evidence.n * costs.rating + max(1, evidence.n // 4) * costs.comparison
            calls = max(n_pairs * costs.comparison // 8, least)
        if calls is not None:
            left = min(left, (calls - evidence.n_calls) // evidence.costs.comparison)
        if self.tokens is not None:
            left = min(left, (self.tokens - evidence.n_tokens) // max(1, _comparison_tokens(evidence)))
        return max(0, left)

    def _fit(self, evidence: Evidence) -> Strengths:
        """The fit, averaged over what ratings may be worth."""
        z = _standardised(evidence.expected())
        pairs, win, tie = evidence.outcomes()
        priors = [(slope, spread) for slope in _SLOPES for spread in _SPREADS]
        means = np.array([slope * z for slope, _ in priors])
        variances = np.array([np.full(evidence.n, spread**2) for _, spread in priors])
        fits = fit_under_priors(pairs, win, tie, means, variances)
        return _mixed(fits)


def _mixed(fits: list[Strengths]) -> Strengths:
    """Fits averaged by their evidence; the covariance counts their disagreement (law of total variance)."""
    logs = np.array([f.log_evidence for f in fits])
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    values = np.einsum("k,ki->i", weights, np.array([f.values for f in fits]))
    offsets = np.array([f.values for f in fits]) - values
    within = np.einsum("k,kij->ij", weights, np.array([f.covariance for f in fits]))
    return Strengths(
        values=values,
        covariance=within + np.einsum("k,ki,kj->ij", weights, offsets, offsets),
        log_tie=float(weights @ [f.log_tie for f in fits]),
        log_evidence=float(logs.max()),
    )


def _standardised(ratings: Floats) -> Floats:
    """Ratings with mean 0 and deviation 1 within the group; 0 for a missing one, and if all are equal."""
    if np.isnan(ratings).all():
        return np.zeros_like(ratings)
    offsets = ratings - np.nanmean(ratings)
    deviation = float(np.nanstd(ratings))
    return np.nan_to_num(offsets / deviation) if deviation > 1e-9 else np.zeros_like(ratings)


def _comparison_tokens(evidence: Evidence) -> int:
    """Tokens of a comparison: the mean of those made, else two ratings' in each order."""
    made = [c.n_tokens for c in evidence.comparisons.values()]
    if made:
        return round(sum(made) / len(made))
    rated = [r.n_tokens for r in evidence.ratings.values()]
    orders = evidence.costs.comparison / evidence.costs.rating
    return round(2 * orders * sum(rated) / max(1, len(rated)))


def _telling(best: Floats, covariance: Floats, evidence: Evidence, n: int) -> list[Pair]:
    """The n unasked pairs that tell most about the best."""
    variance = np.diag(covariance)
    of_difference = variance[:, None] + variance[None, :] - 2 * covariance
    floor = 0.1 / len(best)
    value = np.triu(np.outer(best + floor, best + floor) * of_difference, 1)
    chosen: list[Pair] = []
    times = np.zeros(len(best), dtype=np.int64)
    for flat in np.argsort(-value, axis=None, kind="stable")[: len(best) * (len(best) - 1) // 2]:
        i, j = divmod(int(flat), len(best))
        if len(chosen) == n:
            break
        if (i, j) not in evidence.comparisons and max(times[i], times[j]) < _AT_MOST_IN_A_ROUND:
            chosen.append((i, j))
            times[[i, j]] += 1
    return chosen


def _reserved(n_alive: int, left: int, n_later: int) -> int:
    """Of what is left, what later rounds of halving will need: their even share, or all of their pairs."""
    reserved = 0
    for _ in range(n_later):
        n_alive = max(2, math.ceil(n_alive / 2))
        reserved += min(left // (n_later + 1), n_alive * (n_alive - 1) // 2)
    return reserved


def _spread(alive: list[int], evidence: Evidence, n: int) -> list[Pair]:
    """N unasked pairs among those still in, each as often as the others as far as it goes."""
    random = evidence.rng(len(alive)).random(evidence.n)
    unasked = [p for p in itertools.combinations(sorted(alive), 2) if p not in evidence.comparisons]
    times = np.zeros(evidence.n)
    chosen: list[Pair] = []
    while unasked and len(chosen) < n:
        pair = min(unasked, key=lambda p: (times[p[0]] + times[p[1]], random[p[0]] * random[p[1]]))
        unasked.remove(pair)
        chosen.append(pair)
        times[list(pair)] += 1
    return chosen
