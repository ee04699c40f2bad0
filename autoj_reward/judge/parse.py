# SPDX-License-Identifier: Apache-2.0
"""From a judge's text to the verdict it states, or the reason why there is none.

Match loosely, then validate. Only the judge's own output is read, never the prompt, which holds an
example verdict. A verdict counts only where the output concludes with it: the same words quoted in
the middle, with the conclusion missing, are no verdict.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from autoj_reward.judge.verdict import VerdictSet, squeeze
from autoj_reward.judgments import Verdict
from autoj_reward.types import Failure, FailureReason, FinishReason

_CLOSING = re.compile(r"[\s\]\)}>*_`~\"'“”‘’«».,;!…。，！；、”’）】」』-]*\Z")
"""What may follow a concluding verdict: blanks, closing marks, emphasis."""

_NUMBER = re.compile(r"[+-]?\d{1,6}(?:\.\d{1,6})?\Z")


@dataclass(frozen=True, slots=True)
class Stated:
    """A verdict that the text concludes with.

    Attributes:
        verdict: The verdict.
        start: Where it begins in the text: everything before is what the judge had written when the
            verdict was due.
    """

    verdict: Verdict
    start: int


def find_verdict(text: str, finish_reason: FinishReason | None, verdicts: VerdictSet) -> Stated | Failure:
    """The verdict that the text concludes with.

    Args:
        text: The judge's output, thinking left out.
        finish_reason: How it ended.
        verdicts: What it may state.

    Returns:
        The verdict and its place, or a failure: `truncated` (cut before it concluded), `no_verdict`,
        or `off_scale`.
    """
    found = next(iter(deque(verdicts.pattern.finditer(text), maxlen=1)), None)
    if found is None or not _CLOSING.match(text, found.end()):
        return _no_conclusion(text, finish_reason, quoted=found is not None)
    stated = squeeze(found["verdict"]).strip("*_` ")
    verdict = verdicts.stated.get(_canonical(stated))
    if verdict is None:
        return Failure(
            reason=FailureReason.OFF_SCALE,
            detail=f"the output ends with {stated!r}, which is not one of "
            f"{', '.join(t.strip() for t in verdicts.texts)}",
            raw_text=text,
        )
    return Stated(verdict, _start(text, found))


def _no_conclusion(text: str, finish_reason: FinishReason | None, *, quoted: bool) -> Failure:
    aside = " (a verdict is quoted before the end, which does not count)" if quoted else ""
    if finish_reason == "length":
        return Failure(
            reason=FailureReason.TRUNCATED,
            detail=f"the output was cut at the token limit before its verdict{aside}",
            raw_text=text,
        )
    return Failure(
        reason=FailureReason.NO_VERDICT,
        detail=f"the output does not end with a verdict{aside}",
        raw_text=text,
    )


def _canonical(stated: str) -> str:
    """`7.0` and `07` are 7; anything that is not a number stays as it is."""
    return f"{float(stated):g}" if _NUMBER.match(stated) else stated


def _start(text: str, found: re.Match[str]) -> int:
    """Where the verdict begins, the blanks before it included: they are part of its tokens."""
    start = found.start("verdict")
    while start > found.start() and text[start - 1] in " \t":
        start -= 1
    return start
