# SPDX-License-Identifier: Apache-2.0
"""Train a TF-IDF scenario classifier and its nearest-centroid baseline.

Sharpness and `min_prob` are chosen on held-out folds of the training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoj_reward.autoj.scenarios.embedded import LinearModel, softmax
from autoj_reward.autoj.scenarios.features import hashed_counts, weighted
from autoj_reward.autoj.scenarios.names import DEFAULT
from autoj_reward.errors import ConfigError, DataError

N_HASHED = 1 << 18
_LEAST_ROWS = 2
"""Words that occur in fewer rows are left out, which improves accuracy."""

_PENALTY = 0.5
_FOLDS = 5


def train(
    queries: Sequence[str], labels: Sequence[str], *, n_hashed: int = N_HASHED, seed: int = 0
) -> LinearModel:
    """Train a classifier: one linear support vector machine per label, over TF-IDF features.

    Args:
        queries: B queries.
        labels: B labels, each at least five times.
        n_hashed: Number of hash buckets for words, a power of two.
        seed: Seed of the folds.

    Raises:
        DataError: The lengths differ, or a label is too rare.
        ConfigError: scikit-learn is not installed.
    """
    hashed, wanted = _checked(queries, labels, n_hashed)
    names = sorted(set(labels))
    held_out = np.zeros((len(labels), len(names)))
    for train_rows, test_rows in _folds(wanted, seed):
        counts = hashed[:, _frequent(hashed[train_rows])]
        idf = _idf(counts[train_rows])
        fitted = _fit(weighted(counts[train_rows], idf), wanted[train_rows])
        held_out[test_rows] = fitted.decision_function(weighted(counts[test_rows], idf))
    truth = np.searchsorted(names, wanted)
    sharpness = _sharpness(held_out, truth)
    probs = softmax(sharpness * held_out)
    columns = _frequent(hashed)
    counts = hashed[:, columns]
    idf = _idf(counts)
    fitted = _fit(weighted(counts, idf), wanted)
    weights, scales = _whole_numbers(fitted.coef_.T)
    return LinearModel(
        labels=tuple(str(name) for name in fitted.classes_),
        n_hashed=n_hashed,
        columns=columns.astype(np.int32),
        weights=weights,
        scales=scales,
        bias=fitted.intercept_.astype(np.float32),
        idf=idf.astype(np.float16).astype(np.float32),
        sharpness=sharpness,
        min_prob=_min_prob(probs, truth, names),
        facts={
            "n_rows": len(labels),
            "n_labels": len(names),
            "held_out_accuracy": round(float((probs.argmax(axis=1) == truth).mean()), 4),
        },
    )


def nearest_centroid(
    queries: Sequence[str], labels: Sequence[str], others: Sequence[str], *, n_hashed: int = N_HASHED
) -> list[str]:
    """Label `others` by the nearest mean of the labelled queries, over the same features.

    Raises:
        DataError: The lengths differ, or a label is too rare.
        ConfigError: scikit-learn is not installed.
    """
    hashed, wanted = _checked(queries, labels, n_hashed)
    columns = _frequent(hashed)
    counts = hashed[:, columns]
    idf = _idf(counts)
    names, places = np.unique(wanted, return_inverse=True)
    members = np.eye(len(names))[places]
    features = weighted(counts, idf)
    centroids = (features.T @ members) / members.sum(axis=0)
    # |x - c|^2 without |x|^2, which does not depend on the centroid.
    shown = weighted(hashed_counts(others, n_hashed)[:, columns], idf)
    distances = (centroids**2).sum(axis=0) - 2 * (shown @ centroids)
    return [str(name) for name in names[distances.argmin(axis=1)]]


def _checked(queries: Sequence[str], labels: Sequence[str], n_hashed: int) -> tuple[Any, NDArray[Any]]:
    if len(queries) != len(labels) or not labels:
        raise DataError(f"there are {len(queries)} queries and {len(labels)} labels")
    if n_hashed < 2 or n_hashed & (n_hashed - 1):
        raise ConfigError(f"n_hashed = {n_hashed} is not a power of two")
    names, numbers = np.unique(np.asarray(labels), return_counts=True)
    if len(names) < 2 or numbers.min() < _FOLDS:
        raise DataError(
            f"label {str(names[numbers.argmin()])!r} has {numbers.min()} rows; each of at least two labels "
            f"needs {_FOLDS}"
        )
    return hashed_counts(queries, n_hashed), np.asarray(labels)


def _folds(wanted: NDArray[Any], seed: int) -> Any:
    from sklearn.model_selection import StratifiedKFold

    return StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(wanted, wanted)


def _fit(features: Any, wanted: NDArray[Any]) -> Any:
    from sklearn.svm import LinearSVC

    return LinearSVC(C=_PENALTY, random_state=0).fit(features, wanted)


def _frequent(counts: Any) -> NDArray[np.int64]:
    """Buckets that occur in enough rows, ascending."""
    places: NDArray[np.int64] = np.flatnonzero(np.asarray((counts > 0).sum(axis=0)).ravel() >= _LEAST_ROWS)
    return places


def _idf(counts: Any) -> NDArray[np.float64]:
    """Smoothed inverse document frequencies, as scikit-learn defines them: log((1 + n) / (1 + df)) + 1."""
    n_rows = counts.shape[0]
    frequency = np.asarray((counts > 0).sum(axis=0)).ravel()
    result: NDArray[np.float64] = np.log((1.0 + n_rows) / (1.0 + frequency)) + 1.0
    return result


def _sharpness(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """The factor with the highest likelihood of the held-out labels."""
    grid = np.geomspace(0.5, 50.0, 60)
    rows = np.arange(len(truth))
    losses = [-np.log(np.maximum(softmax(f * logits)[rows, truth], 1e-12)).mean() for f in grid]
    return float(grid[int(np.argmin(losses))])


def _min_prob(probs: NDArray[np.float64], truth: NDArray[np.int64], names: Sequence[str]) -> float:
    """The threshold for answering `default` with the highest accuracy on held-out rows; 0 for none."""
    if DEFAULT not in names:
        return 0.0
    best, answers = probs.max(axis=1), probs.argmax(axis=1)
    default = names.index(DEFAULT)
    grid = np.arange(0.0, 0.51, 0.01)
    right = [(np.where(best < least, default, answers) == truth).mean() for least in grid]
    return round(float(grid[int(np.argmax(right))]), 2)


def _whole_numbers(weights: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights of shape (F, L) as integers, and the L factors that restore them."""
    largest = np.maximum(np.abs(weights).max(axis=0), 1e-12)
    return np.rint(weights / largest * 127).astype(np.int8), (largest / 127).astype(np.float32)
