# SPDX-License-Identifier: Apache-2.0
"""Fit Bradley-Terry strengths with ties, soft outcomes and standard errors; find cycles.

The model is Davidson's (JASA 65, 1970, 317-328). With strengths s and a tie parameter nu,

    P(i beats j) : P(tie) : P(j beats i)  =  e^(d/2) : nu : e^(-d/2)      where d = s_i - s_j.

The judge's probabilities replace counts: each comparison adds the cross-entropy between the judge's
probabilities and the model's. Each strength has a normal prior, which keeps an undefeated completion finite
and can carry direct ratings. The estimate is the posterior's mode, its covariance the inverse of the negative
Hessian there (Laplace). Libraries such as choix fit counts without ties and give no standard errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_TIE_PRIOR = (-1.0, 0.1)
"""Mean and precision of log nu: about one tie in six at equal strength; a weak prior."""
_STEPS = 50
_CLOSE = 1e-7


@dataclass(frozen=True, slots=True)
class Strengths:
    """Strengths of n completions, in log-odds.

    Attributes:
        values: (n,) strengths; only differences have a meaning.
        covariance: (n, n) posterior covariance.
        log_tie: log nu.
        log_evidence: Laplace approximation of the log marginal likelihood, to compare priors.
    """

    values: Floats
    covariance: Floats
    log_tie: float
    log_evidence: float

    def win_probs(self) -> Floats:
        """(n, n) probabilities that i beats j, ties counted as one half; 0.5 on the diagonal."""
        win, tie, _ = _outcomes(self.values[:, None] - self.values[None, :], self.log_tie)
        return win + tie / 2

    def against_group(self, known: Bools | None = None) -> tuple[Floats, Floats]:
        """Mean win probability of each completion against the others, and its standard error (delta method).

        Without others they are 0.5 and 0.

        Args:
            known: (n,) which completions count as others; None for all.
        """
        counts = np.ones(len(self.values)) if known is None else known.astype(np.float64)
        others = counts.sum() - counts
        n_others = np.maximum(others, 1.0)
        probs = self.win_probs()
        win, _, loss = _outcomes(self.values[:, None] - self.values[None, :], self.log_tie)
        # The slope of win + tie/2, see _outcomes.
        slope = (win + loss - (win - loss) ** 2) / 4
        slope *= counts
        np.fill_diagonal(slope, 0.0)
        jacobian = (np.diag(slope.sum(axis=1)) - slope) / n_others[:, None]
        means = np.where(others == 0, 0.5, (probs @ counts - 0.5 * counts) / n_others)
        variances = np.sum((jacobian @ self.covariance) * jacobian, axis=1)
        return means, np.sqrt(np.maximum(variances, 0.0))

    def best_probs(self, rng: np.random.Generator, *, n_draws: int = 1000) -> Floats:
        """(n,) probabilities of having the highest strength, by draws from the posterior."""
        n = len(self.values)
        root = np.linalg.cholesky(self.covariance + 1e-12 * np.eye(n))
        draws = self.values + rng.standard_normal((n_draws, n)) @ root.T
        return np.bincount(draws.argmax(axis=1), minlength=n) / n_draws


def fit_strengths(
    pairs: Ints,
    win: Floats,
    tie: Floats,
    *,
    prior_mean: Floats,
    prior_variance: Floats,
) -> Strengths:
    """Fit strengths to comparisons.

    Args:
        pairs: (m, 2) indices of the completions compared; m may be 0.
        win: (m,) probability that the first of each pair wins, ties not counted.
        tie: (m,) probability of a tie; win + tie is at most 1.
        prior_mean: (n,) prior means of the strengths.
        prior_variance: (n,) prior variances, above 0.
    """
    return fit_under_priors(pairs, win, tie, prior_mean[None], prior_variance[None])[0]


def fit_under_priors(
    pairs: Ints, win: Floats, tie: Floats, prior_means: Floats, prior_variances: Floats
) -> list[Strengths]:
    """`fit_strengths` under k priors at once: (k, n) means and variances."""
    k, n = prior_means.shape
    m = len(pairs)
    net = 2 * win + tie - 1
    design = np.zeros((m, n))
    design[np.arange(m), pairs[:, 0]], design[np.arange(m), pairs[:, 1]] = 1.0, -1.0
    mean = np.concatenate([prior_means, np.full((k, 1), _TIE_PRIOR[0])], axis=1)
    precision = np.concatenate([1 / prior_variances, np.full((k, 1), _TIE_PRIOR[1])], axis=1)

    def log_posterior(x: Floats) -> Floats:
        d, log_tie = x[:, :n] @ design.T, x[:, n:]
        log_norm = np.logaddexp(np.logaddexp(d / 2, -d / 2), log_tie)
        fit = np.sum(net * d / 2 + tie * log_tie - log_norm, axis=1)
        log_density: Floats = fit - np.sum(precision * (x - mean) ** 2, axis=1) / 2
        return log_density

    x, hessian = mean.copy(), np.zeros((k, n + 1, n + 1))
    value = log_posterior(x)
    diagonal = np.arange(n + 1)
    for _ in range(_STEPS):
        p_win, p_tie, p_loss = _outcomes(x[:, :n] @ design.T, x[:, n:])
        p_net = p_win - p_loss
        gradient = -precision * (x - mean)
        gradient[:, :n] += (net - p_net) / 2 @ design
        gradient[:, n] += np.sum(tie - p_tie, axis=1)
        spread = (p_win + p_loss - p_net**2) / 4
        hessian[:, :n, :n] = (design.T * spread[:, None, :]) @ design
        hessian[:, n, :n] = hessian[:, :n, n] = (-p_tie * p_net / 2) @ design
        hessian[:, n, n] = np.sum(p_tie * (1 - p_tie), axis=1)
        hessian[:, diagonal, diagonal] += precision
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        # The objective is strictly concave, so a short enough Newton step increases it.
        size = np.ones((k, 1))
        new = log_posterior(x + step)
        while (falling := (new < value - _CLOSE) & (size[:, 0] > 1e-6)).any():
            size[falling] /= 2
            new = log_posterior(x + size * step)
        x, gained, value = x + size * step, new - value, new
        if gained.max() < _CLOSE:
            break
    log_det = np.linalg.slogdet(hessian)[1]
    evidence = value + np.sum(np.log(precision), axis=1) / 2 - log_det / 2
    covariance = np.linalg.inv(hessian)[:, :n, :n]
    return [
        Strengths(
            values=x[i, :n],
            covariance=covariance[i],
            log_tie=float(x[i, n]),
            log_evidence=float(evidence[i]),
        )
        for i in range(k)
    ]


def find_cycles(beats: Bools) -> list[list[int]]:
    """Sets of completions that beat each other in a cycle.

    Args:
        beats: (n, n) whether i beat j.

    Returns:
        The strongly connected components of more than one completion. Empty if some order agrees with all
        verdicts.
    """
    reach = beats.copy()
    for _ in range(max(1, len(beats).bit_length())):
        reach |= (reach.astype(np.float32) @ reach.astype(np.float32)) > 0
    mutual = reach & reach.T
    found: list[list[int]] = []
    seen: set[int] = set()
    for i in range(len(beats)):
        if i not in seen and mutual[i].any():
            members = [int(j) for j in np.flatnonzero(mutual[i])]
            seen.update(members)
            found.append(members)
    return found


def cyclic_triads(beats: Bools) -> tuple[int, int]:
    """Number of cyclic triples (a beats b beats c beats a), and of those with three decided pairs."""
    wins = beats.astype(np.float64)
    decided = (beats | beats.T).astype(np.float64)
    cyclic = round(float(np.trace(wins @ wins @ wins)) / 3)
    return cyclic, round(float(np.trace(decided @ decided @ decided)) / 6)


def _outcomes(d: Floats, log_tie: Floats | float) -> tuple[Floats, Floats, Floats]:
    """Win, tie and loss probabilities at strength differences d.

    With x = +1/2, 0, -1/2 for a win, a tie and a loss, x's mean is (win - loss) / 2, and the mean's slope in
    d is x's variance, (win + loss - (win - loss)^2) / 4.
    """
    top = np.maximum(np.abs(d) / 2, log_tie)
    win, tie, loss = np.exp(d / 2 - top), np.exp(log_tie - top), np.exp(-d / 2 - top)
    total = win + tie + loss
    return win / total, tie / total, loss / total
