# SPDX-License-Identifier: Apache-2.0
"""The budgeted strategy: rate all completions, then compare where the best is uncertain.

Ratings give every strength a normal prior of mean `slope` times the standardised rating and variance
`spread`^2. A few such priors are weighted by their Laplace evidence from the group's comparisons, which
learns how far to trust the ratings. Each round then compares pairs that tell most about the best:

top_two  pairs (i, j) not yet compared with the largest P(i best) P(j best) Var(s_i - s_j): mostly the leader
         against its challengers, as in top-two sampling (Russo, COLT 2016), but in batches.
halving  successive halving (Karnin, Koren and Somekh, ICML 2013): the budget is split over log2 n rounds,
         remaining completions are paired at random, and the better half by posterior mean stays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from autoj_reward.errors import ConfigError
from autoj_reward.ranking.bradley_terry import Floats, Strengths, fit_under_priors
from autoj_reward.ranking.evidence import Evidence, Round
from autoj_reward.ranking.strategies import Asks, Pair, Standing, standing_of

_SLOPES = (0.2, 0.5, 1.2, 2.5)
"""Log-odds per standard deviation of the ratings."""
_SPREADS = (0.4, 1.0, 2.0)
"""Standard deviations, in log-odds, of strengths around their ratings."""
_AT_MOST_IN_A_ROUND = 3
"""Most comparisons of one completion in a round, so that a batch is not spent on one completion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgeted:
    """The best pick for few judge calls.

    It stops at the limit of calls or tokens, at the confidence, or when all pairs are compared.

    Attributes:
        calls: Most judge calls per group: ratings, and both orders of comparisons. None, without tokens and
            confidence, is an eighth of the cost of all pairs, and at least the ratings and one comparison for
            four completions. If a given limit pays for ratings only, nothing is compared, with a warning.
        tokens: Most tokens per group, prompts and outputs. A round's tokens are estimated from earlier ones,
            so the last round may exceed the limit a little.
        confidence: Stop when the pick is the best with this probability, in (0.5, 1), for this judge: what
            comparing all pairs endlessly would show.
        allocation: How comparisons are chosen.
        n_rounds: Rounds over which comparisons are spread, at least 1; more rounds choose better.
    """

    calls: int | None = None
    tokens: int | None = None
    confidence: float | None = None
    allocation: Literal["top_two", "halving"] = "top_two"
    n_rounds: int = 6
    name: ClassVar[str] = "budgeted"
    asks: ClassVar[Asks] = "both"

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
        n_pairs = evidence.n * (evidence.n - 1) // 2
        calls, left = self.calls, n_pairs
        if calls is None and self.tokens is None and self.confidence is None:
            cost = evidence.calls_per_comparison
            # In small groups, and by a rubric of criteria, the ratings alone cost more than an eighth.
            least = _rating_calls(evidence) + max(1, evidence.n // 4) * cost
            calls = max(n_pairs * cost // 8, least)
        if calls is not None:
            left = min(left, (calls - evidence.n_calls) // evidence.calls_per_comparison)
        if self.tokens is not None:
            left = min(left, (self.tokens - evidence.n_tokens) // max(1, _comparison_tokens(evidence)))
        return max(0, left)

    def _fit(self, evidence: Evidence) -> Strengths:
        """The fit, averaged over the priors."""
        z = _standardised(evidence.expected())
        pairs, win, tie = evidence.outcomes()
        priors = [(slope, spread) for slope in _SLOPES for spread in _SPREADS]
        means = np.array([slope * z for slope, _ in priors])
        variances = np.array([np.full(evidence.n, spread**2) for _, spread in priors])
        fits = fit_under_priors(pairs, win, tie, means, variances)
        return _mixed(fits)


def _mixed(fits: list[Strengths]) -> Strengths:
    """Fits averaged by their evidence; the covariance by the law of total variance."""
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
    """Ratings with mean 0 and deviation 1; 0 for missing ratings, and if all are equal."""
    if np.isnan(ratings).all():
        return np.zeros_like(ratings)
    offsets = ratings - np.nanmean(ratings)
    deviation = float(np.nanstd(ratings))
    return np.nan_to_num(offsets / deviation) if deviation > 1e-9 else np.zeros_like(ratings)


def _comparison_tokens(evidence: Evidence) -> int:
    """Estimated tokens of a comparison: the mean so far, else in each call twice those of a rating's call."""
    made = [c.n_tokens for c in evidence.comparisons.values()]
    if made:
        return round(sum(made) / len(made))
    rated = sum(r.n_tokens for r in evidence.ratings.values())
    return round(2 * evidence.calls_per_comparison * rated / max(1, _rating_calls(evidence)))


def _rating_calls(evidence: Evidence) -> int:
    return sum(r.n_calls for r in evidence.ratings.values())


def _telling(best: Floats, covariance: Floats, evidence: Evidence, n: int) -> list[Pair]:
    """The n new pairs that tell most about the best."""
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
    """Comparisons to leave for later rounds of halving: an even share each, or all their pairs."""
    reserved = 0
    for _ in range(n_later):
        n_alive = max(2, math.ceil(n_alive / 2))
        reserved += min(left // (n_later + 1), n_alive * (n_alive - 1) // 2)
    return reserved


def _spread(alive: list[int], evidence: Evidence, n: int) -> list[Pair]:
    """At most n new pairs of the remaining completions, spread evenly."""
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
