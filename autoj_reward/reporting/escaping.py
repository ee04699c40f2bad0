# SPDX-License-Identifier: Apache-2.0
"""Make untrusted text safe to show, as HTML or in an image."""

from __future__ import annotations

import unicodedata
from html import escape


def shown(text: str) -> str:
    """`visible` text as HTML."""
    return escape(visible(text))


def visible(text: str) -> str:
    """Text with control characters and lone surrogates as U+FFFD, and without bidirectional marks."""
    return "".join(_visible(c) for c in text)


def _visible(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    category = unicodedata.category(character)
    if category == "Zs":
        return character
    # Joiners belong to emoji and scripts; a mark of direction could turn the page's own text around.
    return character if character in "\u200c\u200d" else "" if category == "Cf" else "\ufffd"
