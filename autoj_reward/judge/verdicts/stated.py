# SPDX-License-Identifier: Apache-2.0
"""Look up the text of a stated verdict among those that a judge may write."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Collection

_EMPHASIS = "*_` "
_NUMBER = re.compile(r"[+-]?\d{1,6}(?:\.\d{1,6})?\Z")


def squeeze(text: str) -> str:
    """Case-folded, with blanks squeezed: how stated verdicts are looked up."""
    return " ".join(text.casefold().split())


def key_in(text: str, known: Collection[str]) -> str:
    """The form in which a set knows a stated text, or the text's plainest form if the set does not.

    It is looked up as it is, which may be `A*` or `+1`, then without emphasis, and last by its numbers: `7.0`
    and `07` are 7.

    Args:
        text: What a judge stated.
        known: The set's texts, squeezed.
    """
    stated = squeeze(text)
    plain = _plain(stated)
    for form in (stated, stated.strip(_EMPHASIS), plain):
        if form in known:
            return form
    return _by_plain_form(tuple(known)).get(plain, plain)


@functools.lru_cache(maxsize=64)
def _by_plain_form(known: tuple[str, ...]) -> dict[str, str]:
    """A set's texts by their plainest forms, without those that several texts have."""
    counts = Counter(map(_plain, known))
    return {plain: form for form in known if counts[plain := _plain(form)] == 1}


def _plain(squeezed: str) -> str:
    """Without emphasis, and each number in its shortest form."""
    words = (word.strip(_EMPHASIS) for word in squeezed.split(" "))
    return " ".join(f"{float(word):g}" if _NUMBER.match(word) else word for word in words)
