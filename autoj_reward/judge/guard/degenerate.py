# SPDX-License-Identifier: Apache-2.0
"""Detect completions with almost no content: one word, an opening only, repetition."""

from __future__ import annotations

import re
import zlib

_OPENINGS = re.compile(
    r"\W*+(?:(?:thought process|solution|answer|reasoning|explanation|final answer|analysis|step 1|"
    r"let'?s (?:solve|think|break|work|go)(?: (?:this|it|about|through|down|out|problem|the))*+"
    r"(?: step by step)?|sure|of course|certainly|okay|ok|"
    r"here(?:'s| is) (?:the|my) (?:answer|solution|response)|"
    r"解答|解|答案|思考过程|让我们一步(?:一)?步(?:地)?(?:思考|解决)?)\W*+)++",
)
"""Openings that have been seen to please judges by themselves (arXiv 2507.08794), and their like."""

_LONGEST_OPENING = 160
_LONGEST_WORD = 24
"""One repeated character of more than this length is neither a word nor a number."""
_LEAST_REPEATED = 400
"""Characters from which a text can count as repeated."""
_REPEATED_RATIO = 12.0
"""Prose shrinks by a factor of 2 to 4 in zlib, tables and code by up to 8, loops by far more."""
_MOST_CHARACTERS = 32_768
"""A text is looked at up to this length: zlib sees no farther back."""


def is_trivial(folded: str) -> bool:
    """Whether a folded text is marks alone, one character or word again and again, or an opening alone.

    One word or number is an answer: 11, Paris, yes.
    """
    text = folded.strip()
    if not any(map(str.isalnum, text)):
        return True
    if len(text) > _LONGEST_WORD and text.count(text[0]) == len(text):
        return True
    if _is_one_word(text):
        return True
    return len(text) <= _LONGEST_OPENING and _OPENINGS.fullmatch(text) is not None


def _is_one_word(text: str) -> bool:
    """Whether a text is one word, more than once."""
    first = text.split(maxsplit=2)[:2]
    return len(first) == 2 and first[0] == first[1] and len(set(text.split())) == 1


def is_repeated(folded: str) -> bool:
    """Whether most of a folded text repeats what it said before.

    Told by how far it can be compressed (zlib, level 1): a text of at least 400 characters that shrinks
    more than twelve times says little that is new.
    """
    if len(folded) < _LEAST_REPEATED:
        return False
    data = folded[:_MOST_CHARACTERS].encode("utf-8", "surrogatepass")
    return len(data) / len(zlib.compress(data, 1)) > _REPEATED_RATIO
