# SPDX-License-Identifier: Apache-2.0
"""Escape untrusted text for HTML."""

from __future__ import annotations

import unicodedata
from html import escape


def shown(text: str) -> str:
    """Text as HTML: controls, lone surrogates and invisible marks are shown as U+FFFD or left out."""
    return escape("".join(_visible(c) for c in text))


def _visible(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    category = unicodedata.category(character)
    if category == "Zs":
        return character
    # Joiners belong to emoji and scripts; marks that turn the direction around could turn the page's around.
    return character if character in "\u200c\u200d" else "" if category == "Cf" else "\ufffd"
