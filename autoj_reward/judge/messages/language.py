# SPDX-License-Identifier: Apache-2.0
"""Detect a request's language, for judges with templates in several."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError

_BEGINNING_CHARS = 100
"""What is wanted is said first; what follows may be code, or a text to translate."""

_CHINESE = {"yue": "zh", "wuu": "zh"}
"""Varieties of Chinese that the identifier knows by themselves and that share its writing."""


def detect_language(text: str, among: Sequence[str]) -> str:
    """The language of a prompt, by its first 100 characters.

    Args:
        text: The prompt.
        among: Language codes (ISO 639-1); the first is that of everything else, and of texts that are in no
            language: numbers, code, nothing.

    Returns:
        One of `among`.

    Raises:
        ConfigError: The package py3langid is not installed.
    """
    found = _identified(text.strip()[:_BEGINNING_CHARS])
    return found if found in among else among[0]


@functools.lru_cache(maxsize=4096)
def _identified(beginning: str) -> str:
    if not any(character.isalpha() for character in beginning):
        return ""
    # Lone surrogates are not text in any language.
    label, _ = _identifier().classify(beginning.encode("utf-8", "replace").decode("utf-8"))
    return _CHINESE.get(str(label), str(label))


@functools.cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ConfigError(
            "the language of a request is not given, and the package py3langid is not installed",
            hint=f"{how_to_install('bilingual')}, or give each request a language",
        ) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
