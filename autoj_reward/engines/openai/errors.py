# SPDX-License-Identifier: Apache-2.0
"""Classify an endpoint's refusal of one input: too long, and by how much, or another reason."""

from __future__ import annotations

import re

from autoj_reward.engines.openai.connection import EndpointRejected
from autoj_reward.types import Failure, FailureReason

_TOO_LONG = re.compile(
    r"context|too (?:long|large|many tokens)|exceeds? .{0,200}?(?:length|size|tokens)|n_ctx", re.I
)
_LIMIT = re.compile(r"(?:context|length|size|limit|window|maximum)\D{0,40}?(\d{2,9})", re.I)


def refusal(error: EndpointRejected, n_chars: int, context_tokens: int | None) -> Failure:
    """The failure of a refused input; `too_long` if the endpoint's message says so."""
    if error.status == 413 or (error.status >= 400 and _TOO_LONG.search(error.message)):
        over = overflow(error.message, n_chars, context_tokens)
        return Failure(reason=FailureReason.TOO_LONG, detail=str(error), overflow_tokens=over)
    return Failure(reason=FailureReason.ENGINE, detail=str(error))


def overflow(message: str, n_chars: int, context_tokens: int | None) -> int:
    """Tokens over the limit according to an endpoint's message, at least 1.

    Some endpoints count no further than the limit ("at least 4097 tokens") or give no number: then the count
    is estimated from the text's length at five characters per token, a low estimate for English.
    `context_tokens` counts if the message states no limit.
    """
    limit = _LIMIT.search(message)
    most = int(limit.group(1)) if limit else context_tokens
    # About four characters per token.
    found = re.findall(r"(\d{2,9})( char)?", message)
    said = max((int(n) // 4 if of_chars else int(n) for n, of_chars in found), default=0)
    over = said - most if most is not None else 0
    if over <= 0 or "at least" in message:
        over = max(over, n_chars // 5 - (most or 0)) if most is not None else n_chars // 50
    return max(1, over)
