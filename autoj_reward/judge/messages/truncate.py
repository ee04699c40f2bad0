# SPDX-License-Identifier: Apache-2.0
"""Truncate overlong completions in the middle, with a visible marker."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import replace

from autoj_reward.types import Request

_CHARS_PER_TOKEN = 4
"""A cautious guess; where it cuts too little, the next round cuts more."""

_MARK = "\n[... {n} characters left out ...]\n"
_ROOM = len(_MARK) + 8
"""Characters that a mark takes, at most."""

MOST_CUTS = 8
"""Rounds of truncation before an input counts as too long after all."""


def truncate_middle(
    request: Request, overflow_tokens: int, cut: Sequence[int]
) -> tuple[Request, tuple[int, ...]]:
    """Cut the longest completion in its middle.

    Args:
        request: What is too long; its completions are texts.
        overflow_tokens: How many tokens too many, at least 1.
        cut: Characters that earlier cuts took out of each completion.

    Returns:
        The request with the cut, and the characters taken out of each completion in all; if nothing is left
        to cut, the request itself and what was cut before.
    """
    texts, removed = [str(c) for c in request.completions], list(cut)
    longest = max(range(len(texts)), key=lambda i: len(texts[i]))
    n = min(overflow_tokens * _CHARS_PER_TOKEN + _ROOM, len(texts[longest]))
    if n == 0:
        return request, tuple(removed)
    texts[longest], removed[longest] = _without_middle(texts[longest], n, cut[longest])
    return replace(request, completions=tuple(texts)), tuple(removed)


def truncate_evenly(
    texts: Sequence[str], overflow_tokens: int, cut: Sequence[int]
) -> tuple[list[str], list[int]]:
    """Cut the longer ones of several texts in their middle, all to the same length.

    Args:
        texts: Texts that are too long together.
        overflow_tokens: How many tokens too many, at least 1.
        cut: Characters that earlier cuts took out of each.

    Returns:
        The texts with their cuts, and the characters taken out of each in all.
    """
    lengths = [len(text) for text in texts]
    wanted = overflow_tokens * _CHARS_PER_TOKEN
    # From the greatest length down: the first one that frees enough. Texts as short as a mark stay.
    caps = range(max(lengths) - 1, _ROOM - 1, -1)
    if not caps:
        return list(texts), list(cut)
    place = bisect.bisect_left(caps, True, key=lambda cap: sum(max(n - cap, 0) for n in lengths) >= wanted)
    cap = caps[min(place, len(caps) - 1)]
    made = [
        _without_middle(text, len(text) - cap + _ROOM, before) if len(text) > cap else (text, before)
        for text, before in zip(texts, cut, strict=True)
    ]
    return [text for text, _ in made], [removed for _, removed in made]


def _without_middle(text: str, n: int, before: int) -> tuple[str, int]:
    """The text with a mark in place of n characters in its middle, and what is missing there in all.

    `before` are the characters that an earlier cut took out, whose mark is among the n.
    """
    start = (len(text) - n) // 2
    missing = n + before - (len(_MARK.format(n=before)) if before else 0)
    return text[:start] + _MARK.format(n=missing) + text[start + n :], missing
