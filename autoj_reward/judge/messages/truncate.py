# SPDX-License-Identifier: Apache-2.0
"""Truncate overlong completions in the middle, with a visible marker."""

from __future__ import annotations

from dataclasses import replace

from autoj_reward.types import Request

_CHARS_PER_TOKEN = 4
"""A cautious guess; where it cuts too little, the next round cuts more."""

_MARK = "\n[... {n} characters left out ...]\n"


def truncate_middle(request: Request, overflow_tokens: int) -> tuple[Request, tuple[int, ...]]:
    """Cut the longest completion in its middle.

    Args:
        request: What is too long; its completions are texts.
        overflow_tokens: How many tokens too many, at least 1.

    Returns:
        The request with the cut, and the characters taken out of each completion; if nothing is
        left to cut, the request itself and zeros.
    """
    texts = [str(c) for c in request.completions]
    longest = max(range(len(texts)), key=lambda i: len(texts[i]))
    text = texts[longest]
    n = min(overflow_tokens * _CHARS_PER_TOKEN + len(_MARK) + 8, len(text))
    if n == 0:
        return request, (0,) * len(texts)
    start = (len(text) - n) // 2
    texts[longest] = text[:start] + _MARK.format(n=n) + text[start + n :]
    removed = tuple(n if i == longest else 0 for i in range(len(texts)))
    return replace(request, completions=tuple(texts)), removed
