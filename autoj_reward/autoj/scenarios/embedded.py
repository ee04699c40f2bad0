# SPDX-License-Identifier: Apache-2.0
"""The shipped scenario classifier: a linear model over TF-IDF features in one small file.

The file is a NumPy archive of plain arrays, so reading it runs no code. `docs/scenarios.md` describes its
training data and accuracy.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoj_reward.autoj.scenarios.answers import ScenarioAnswer, answer_of
from autoj_reward.autoj.scenarios.features import hashed_counts, weighted
from autoj_reward.errors import ConfigError

SHIPPED = "classifier.npz"
_FORMAT = 1
_CHUNK = 512


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearModel:
    """A trained linear classifier; L labels, F features.

    Attributes:
        labels: L names.
        n_hashed: Number of hash buckets for words.
        columns: The F buckets in use, ascending.
        weights: Quantised weights from -127 to 127, of shape (F, L).
        scales: L factors of the weights, by label.
        bias: L biases.
        idf: F inverse document frequencies.
        sharpness: Factor of the logits before the softmax, fitted on held-out rows.
        min_prob: Probability below which the answer is `default`, chosen on held-out rows.
        facts: Facts about its training.
    """

    labels: tuple[str, ...]
    n_hashed: int
    columns: NDArray[np.int32]
    weights: NDArray[np.int8]
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]
    idf: NDArray[np.float32]
    sharpness: float
    min_prob: float
    facts: dict[str, Any]

    def logits(self, queries: Sequence[str]) -> NDArray[np.float64]:
        """Scores of shape (B, L)."""
        features = weighted(hashed_counts(queries, self.n_hashed)[:, self.columns], self.idf.astype(float))
        scores: NDArray[np.float64] = features @ self.weights.astype(np.float32) * self.scales + self.bias
        return scores

    def probs(self, queries: Sequence[str]) -> NDArray[np.float64]:
        """Probabilities of shape (B, L), each row summing to 1."""
        return softmax(self.sharpness * self.logits(queries))


class EmbeddedClassifier:
    """Classifies queries with the shipped classifier, or another file of its format.

    Args:
        path: A file that `save_model` wrote; None is the shipped one.
        min_prob: Probability in [0, 1] below which the answer is `default`; None is the file's value.

    Raises:
        ConfigError: The file cannot be read or has another format, or scikit-learn is not installed.
    """

    def __init__(self, path: str | Path | None = None, *, min_prob: float | None = None) -> None:
        if min_prob is not None and not 0.0 <= min_prob <= 1.0:
            raise ConfigError(f"min_prob = {min_prob} is not in [0, 1]")
        self.model = load_model(path)
        self.name = "embedded" if path is None else str(path)
        self._min_prob = self.model.min_prob if min_prob is None else min_prob

    def classify(self, queries: Sequence[str]) -> list[ScenarioAnswer]:
        """B answers in the same order."""
        answers: list[ScenarioAnswer] = []
        for start in range(0, len(queries), _CHUNK):
            for row in self.model.probs(queries[start : start + _CHUNK]):
                at = int(row.argmax())
                answers.append(answer_of(self.model.labels[at], float(row[at]), self._min_prob))
        return answers

    def close(self) -> None:
        """Does nothing; no file stays open."""


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows as probabilities."""
    powers: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def save_model(model: LinearModel, path: str | Path) -> None:
    """Write a model as arrays and one JSON text."""
    known = {
        "format": _FORMAT,
        "n_hashed": model.n_hashed,
        "labels": list(model.labels),
        "sharpness": model.sharpness,
        "min_prob": model.min_prob,
        "facts": model.facts,
    }
    np.savez_compressed(
        path,
        columns=model.columns,
        weights=model.weights,
        scales=model.scales,
        bias=model.bias,
        idf=model.idf.astype(np.float16),
        known=np.frombuffer(json.dumps(known, sort_keys=True).encode(), dtype=np.uint8),
    )


def load_model(path: str | Path | None = None) -> LinearModel:
    """Read a model.

    Raises:
        ConfigError: The file does not exist, or has another format.
    """
    file: Any = resources.files("autoj_reward.autoj.scenarios") / SHIPPED if path is None else Path(path)
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            known = json.loads(arrays["known"].tobytes())
            if known["format"] != _FORMAT:
                raise ConfigError(
                    f"{file} is a scenario classifier of format {known['format']}, not {_FORMAT}",
                    hint="train it again with this version",
                )
            model = LinearModel(
                labels=tuple(known["labels"]),
                n_hashed=int(known["n_hashed"]),
                columns=arrays["columns"],
                weights=arrays["weights"],
                scales=arrays["scales"],
                bias=arrays["bias"],
                idf=arrays["idf"].astype(np.float32),
                sharpness=float(known["sharpness"]),
                min_prob=float(known["min_prob"]),
                facts=dict(known["facts"]),
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{file} is not a scenario classifier: {error}") from error
    shape = (len(model.idf), len(model.labels))
    fits = model.weights.shape == shape and model.columns.shape == shape[:1]
    fits = fits and model.scales.shape == model.bias.shape == shape[1:]
    fits = fits and bool(((model.columns >= 0) & (model.columns < model.n_hashed)).all())
    if not fits:
        raise ConfigError(f"{file} is not a scenario classifier: its arrays do not fit each other")
    return model
