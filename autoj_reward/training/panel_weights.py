# SPDX-License-Identifier: Apache-2.0
"""Fit a panel's weights, so that the weighted mean of its members' distributions makes the labels probable.

The likelihood of labels under a mixture is concave in the mixture's weights, so expectation maximisation
(Dempster, Laird and Rubin 1977) finds the best ones from any start. Each member's weight gets a prior of
one row, because a small file of labels would otherwise put all weight on one member.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoj_reward.errors import ConfigError
from autoj_reward.judgments import Judgment, Verdict
from autoj_reward.statistics import Share, calibration_error, cohen_kappa, share
from autoj_reward.training.calibration import LEAST_ROWS, place, refuse_graded

_PRIOR_ROWS = 1.0
_FLOOR = 1e-6
"""Least probability of a label, so that a single 0 does not decide the fit."""
_STEPS = 2000
_FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How well some weights agree with labels.

    Attributes:
        accuracy: Share of rows whose most probable verdict is the label, in [0, 1], with its 95% interval.
        kappa: Cohen's kappa of the same decisions.
        error: Expected calibration error in [0, 1].
        log_loss: Mean negative log-likelihood of the labels in nats.
    """

    accuracy: Share
    kappa: float
    error: float
    log_loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFit:
    """The fitted weights of a panel for one kind of verdict, and what they change.

    Attributes:
        protocol: `rating` or `comparison`.
        n: Labelled judgments of the fit.
        n_left_out: Judgments that a member has no verdict for, that a rule decided, or with a label that the
            panel does not know (a tie of two outcomes).
        weights: By member name; they sum to 1.
        before: Under the panel's present weights.
        after: Under fitted weights; each fifth of the rows under the fit of the others.
        alone: Each member alone.
    """

    protocol: str
    n: int
    n_left_out: int
    weights: dict[str, float]
    before: Agreement
    after: Agreement
    alone: dict[str, Agreement]


def fit_panel(judgments: Sequence[Judgment], labels: Sequence[Verdict], *, seed: int = 0) -> WeightFit:
    """Fit the weights of a panel of the rule `mean`.

    Args:
        judgments: B judgments of one kind by a panel of two members or more.
        labels: B labels. A rating that is not on the panel's scale counts as the nearest one that is.
        seed: Of the fifths and the intervals.

    Raises:
        ConfigError: Fewer than 20 judgments have a verdict of every member.
    """
    refuse_graded(
        (j, label) for j, label in zip(judgments, labels, strict=True) if j.distribution is not None
    )
    names = [m.name for m in judgments[0].members] if judgments else []
    read = [
        (j, label)
        for j, label in zip(judgments, labels, strict=True)
        if j.members
        and not j.by_rule
        and all(m.distribution is not None for m in j.members)
        # A panel of two outcomes says nothing about a tie.
        and (not isinstance(label, str) or (j.distribution is not None and label in j.distribution.verdicts))
    ]
    if len(read) < LEAST_ROWS:
        raise ConfigError(
            f"only {len(read)} judgments have a verdict of every member; a fit needs at least {LEAST_ROWS}"
        )
    probs = np.array([[m.distribution.probs for m in j.members if m.distribution] for j, _ in read])
    first = read[0][0].members[0].distribution
    assert first is not None  # those without were left out
    wanted = np.array([place(label, first.verdicts) for _, label in read])
    own = np.array([m.weight for m in read[0][0].members])
    fold = np.random.default_rng(seed).permutation(len(read)) % _FOLDS
    after = np.empty(probs.shape[::2])
    for k in range(_FOLDS):
        after[fold == k] = mixed(probs[fold == k], fit_weights(probs[fold != k], wanted[fold != k]))
    weights = fit_weights(probs, wanted)
    return WeightFit(
        protocol="comparison" if isinstance(first.verdicts[0], str) else "rating",
        n=len(read),
        n_left_out=len(judgments) - len(read),
        weights=dict(zip(names, weights.tolist(), strict=True)),
        before=agreement_of(mixed(probs, own / own.sum()), wanted, seed=seed),
        after=agreement_of(after, wanted, seed=seed),
        alone={name: agreement_of(probs[:, i], wanted, seed=seed) for i, name in enumerate(names)},
    )


def fit_weights(probs: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The most likely weights, (M,), summing to 1.

    Args:
        probs: (B, M, V) distribution of each member.
        labels: (B,) indices in the verdict set.
    """
    of_label = np.maximum(probs[np.arange(len(labels)), :, labels], _FLOOR)
    n_members = probs.shape[1]
    weights: NDArray[np.float64] = np.full(n_members, 1.0 / n_members)
    for _ in range(_STEPS):
        shares = of_label * weights
        counts = (shares / shares.sum(axis=1, keepdims=True)).sum(axis=0) + _PRIOR_ROWS
        new: NDArray[np.float64] = counts / counts.sum()
        if np.abs(new - weights).max() < 1e-9:
            return new
        weights = new
    return weights


def mixed(probs: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weighted mean over members: (B, M, V) and (M,) to (B, V)."""
    return np.asarray(np.einsum("bmv,m->bv", probs, weights), dtype=np.float64)


def agreement_of(probs: NDArray[np.float64], labels: NDArray[np.int64], *, seed: int = 0) -> Agreement:
    """How (B, V) distributions agree with (B,) labels."""
    decided = probs.argmax(axis=1)
    of_label = np.maximum(probs[np.arange(len(labels)), labels], _FLOOR)
    return Agreement(
        accuracy=share((decided == labels).tolist(), seed=seed),
        kappa=cohen_kappa(decided.tolist(), labels.tolist()),
        error=calibration_error(probs.max(axis=1), decided == labels),
        log_loss=float(-np.log(of_label).mean()),
    )
