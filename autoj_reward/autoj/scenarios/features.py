# SPDX-License-Identifier: Apache-2.0
"""Features of the shipped scenario classifier: hashed words and word pairs from both ends of a query.

Hashing stores no words, so the classifier's file contains none of its training texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError

HEAD_CHARS, TAIL_CHARS = 600, 300
"""A query's task is at its start or end; the middle is the material."""

TOKENS = r"(?u)\b\w+\b|[?=+*/<>{}#]"
"""Words, and characters of formulas and code."""


def shortened(query: str) -> str:
    """A query's first 600 and last 300 characters, or all of a shorter one."""
    if len(query) <= HEAD_CHARS + TAIL_CHARS:
        return query
    return query[:HEAD_CHARS] + " " + query[-TAIL_CHARS:]


def hashed_counts(queries: Sequence[str], n_features: int) -> Any:
    """Counts of hashed words and word pairs: a sparse matrix of shape (B, n_features).

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import HashingVectorizer
    except ImportError as error:
        raise ConfigError(
            "the embedded scenario classifier needs the package scikit-learn",
            hint=how_to_install("scenarios"),
        ) from error
    hashing = HashingVectorizer(
        n_features=n_features, ngram_range=(1, 2), token_pattern=TOKENS, norm=None, alternate_sign=False
    )
    # scikit-learn rejects lone surrogates.
    texts = [shortened(q).encode("utf-8", "replace").decode("utf-8") for q in queries]
    return hashing.transform(texts)


def weighted(counts: Any, idf: Any) -> Any:
    """TF-IDF of (B, F) sparse counts: rows of unit length (or zero), term frequencies as 1 + log."""
    import numpy as np
    from sklearn.preprocessing import normalize

    result = counts.astype(np.float64)
    result.data = (np.log(result.data) + 1.0) * idf[result.indices]
    return normalize(result, copy=False)
