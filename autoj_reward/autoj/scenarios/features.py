# SPDX-License-Identifier: Apache-2.0
"""Features of the shipped scenario classifier: hashed words and word pairs from both ends of a query.

Hashing keeps no words, so the classifier's file holds none of the texts that it was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError

HEAD_CHARS, TAIL_CHARS = 600, 300
"""A query says what is wanted at its start or end; the middle is the material that it is about."""

TOKENS = r"(?u)\b\w+\b|[?=+*/<>{}#]"
"""Words, and the signs of formulas and code."""


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
    # Lone surrogates are not characters; the tokens around them stay.
    texts = [shortened(q).encode("utf-8", "replace").decode("utf-8") for q in queries]
    return hashing.transform(texts)


def weighted(counts: Any, idf: Any) -> Any:
    """TF-IDF of counts: rows of unit length (or zero), term frequencies as 1 + log.

    Args:
        counts: A sparse matrix of shape (B, F).
        idf: F inverse document frequencies.
    """
    import numpy as np
    from sklearn.preprocessing import normalize

    result = counts.astype(np.float64)
    result.data = (np.log(result.data) + 1.0) * idf[result.indices]
    return normalize(result, copy=False)
