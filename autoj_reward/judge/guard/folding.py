# SPDX-License-Identifier: Apache-2.0
"""Fold text to what a reader sees: compatibility forms, look-alike letters, invisible characters.

A folded text is for finding things in, not for showing. Every folded character knows where it came from.
"""

from __future__ import annotations

import re
import unicodedata

_LATIN = {
    "a": "аαɑ", "b": "ьƅ", "c": "сϲᴄ", "d": "ԁ", "e": "еєҽ", "g": "ɡց", "h": "һհ", "i": "іιıɩ", "j": "јϳ",
    "k": "кκ", "l": "ӏǀ", "m": "м", "n": "ոпη", "o": "оοօо", "p": "рρ", "q": "ԛզ", "r": "гᴦ", "s": "ѕꜱ",
    "t": "тτᴛ", "u": "υսᴜ", "v": "νѵᴠ", "w": "ԝѡᴡ", "x": "хχ", "y": "уүγ", "z": "ᴢ",
}  # fmt: skip
"""Small letters of other scripts (Cyrillic, Greek, Armenian) and small capitals that look like Latin ones."""

_MARKS = {
    "[": "⟦【〔〚⦋❲", "]": "⟧】〕〛⦌❳", "<": "‹⟨〈❮≺", ">": "›⟩〉❯≻", "|": "∣│❘¦￨", "*": "∗⁎✱✳٭⚹",
    ":": "∶ː꞉։׃", "#": "♯", "/": "∕⁄⧸╱", "=": "═", "_": "ˍ", "-": "‐‑‒–—−", '"': "“”„‟", "'": "‘’‚‛",
}  # fmt: skip

_LOOKS_LIKE = {other: one for table in (_LATIN, _MARKS) for one, others in table.items() for other in others}
_BLANK = "\u115f\u1160\u3164\uffa0"
"""Letters by category that show nothing."""
_UNSEEN_MARKS = frozenset(
    map(
        chr,
        (
            0x2800,
            0x034F,
            0x17B4,
            0x17B5,
            *range(0x180B, 0x180F),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ),
    )
)
"""Combining marks that show nothing, and the empty Braille cell."""
_LINE_ENDS = "\u2028\u2029\x85\x0b\x0c"

_FOLDED = re.compile(r"[^\t\n\r -~]+")
"""Characters of which folding changes more than the case."""


class _Folds(dict[int, str]):
    """Code point to what it folds to, found when first met."""

    def __missing__(self, point: int) -> str:
        folded = self[point] = _fold_one(chr(point))
        return folded


_FOLDS = _Folds()


def fold(text: str) -> str:
    """The folded text.

    Each character by itself: NFKD without combining marks, case-folded, look-alikes made Latin, format and
    control characters gone, blanks made spaces and line separators line feeds.
    """
    if is_plain(text):
        return text.lower()
    pieces: list[str] = []
    done = 0
    for found in _FOLDED.finditer(text):
        pieces += [text[done : found.start()].lower(), found[0].translate(_FOLDS)]
        done = found.end()
    return "".join([*pieces, text[done:].lower()])


def is_plain(text: str) -> bool:
    """Whether a text is ASCII, without control characters but tabs and line ends."""
    if not text.isascii():
        return False
    return text.replace("\n", "").replace("\t", "").replace("\r", "").isprintable()


def places(text: str) -> list[int]:
    """For each character of `fold(text)` the index in `text` of the character that it came from."""
    return [i for i, c in enumerate(text) for _ in _FOLDS[ord(c)]]


def is_hidden(character: str) -> bool:
    """Whether a character folds to nothing: a reader does not see it, or sees it as part of another."""
    return not _FOLDS[ord(character)]


def is_blank(text: str) -> bool:
    """Whether a text shows nothing. Unlike in folding, combining marks by themselves are seen: بَ without its
    letter may be the answer."""
    return all(
        c.isspace()
        or c in _BLANK
        or c in _UNSEEN_MARKS
        or unicodedata.category(c) in ("Cf", "Cc", "Zs", "Cs")
        for c in text
    )


def _fold_one(character: str) -> str:
    if character in "\t\n\r":
        return character
    if character in _LINE_ENDS:
        return "\n"
    if character in _BLANK or character == "\u2800":
        return "" if character in _BLANK else " "
    category = unicodedata.category(character)
    if category in ("Cf", "Cc", "Mn", "Me"):
        return ""
    if category == "Zs":
        return " "
    plain = [
        c for c in unicodedata.normalize("NFKD", character) if unicodedata.category(c) not in ("Mn", "Me")
    ]
    folded = "".join(plain).casefold()
    return "".join(_LOOKS_LIKE.get(c, c) for c in folded)
