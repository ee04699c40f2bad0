# SPDX-License-Identifier: Apache-2.0
"""Parse a judge's text into the verdict it states, or a typed failure.

Match loosely, then validate. Only the judge's own output is read, never the prompt, which holds an
example verdict. A verdict counts only where the output concludes with it: the same words quoted in
the middle, without a conclusion, are not a verdict. What follows the judge's prefix counts before
other verdicts of its line; a line that states two different ones states none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from autoj_reward.judge.verdict import VerdictSet, shown
from autoj_reward.judge.verdicts.stated import key_in
from autoj_reward.judgments import Verdict
from autoj_reward.types import Failure, FailureReason, FinishReason

_CLOSING = re.compile(r"[\s\]\)}>*_`~\"'“”‘’«».,;!…。，！；、”’）】」』-]*\Z")
"""What may follow a concluding verdict: blanks, closing marks, emphasis."""

_SCALE = re.compile(
    r"[^\w\[/]{0,8}(?:/|(?:out\s{1,4}of|of|on\s{1,4}(?:an?|the)|scale|from|max|maximum)\b|满分|总分)"
    r"(?:[\W\d_]|(?:out|of|on|an?|the|scale|from|to|in|and|between|range|points?|max|maximum|being|is|"
    r"worst|best|lowest|highest)\b|满分|总分|分){0,120}\Z",
    re.IGNORECASE,
)
"""What may follow besides: a note on the scale, `out of [[10]]` or `(scale [[1]] to [[10]])`."""

_LONGEST_SCALE = 160
"""Characters of a note on the scale."""

_PASSED_OVER = ' \t\u00a0\u3000*_`#"“”'
"""What may stand between the words of a prefix."""

_TWO_WAY = ('"', "`")
_PAIRED = (("“", "”"), ("«", "»"), ("「", "」"), ("『", "』"))
_APOSTROPHE = re.compile(r"(?:(?<=[\s(:,])|\A)['‘](?=\w|\Z)")
_CLOSING_APOSTROPHE = re.compile(r"['’](?!\w)")
_PAUSES = ".!?:;,。！？：；，"
_SENTENCE_ENDS = ".!?。！？"
_MARKUP = " \t*_#>|-"
_INTRODUCES = re.compile(
    r"(?:(?:so|thus|therefore|hence|overall|final|finally|my|the|own|in|conclusion|所以|因此|综上|总体)[,，]?\s{0,4}){1,5}\Z",
    re.IGNORECASE,
)
"""Words with which a judge comes to its own verdict."""


@dataclass(frozen=True, slots=True)
class Stated:
    """A verdict that the text concludes with.

    Attributes:
        verdict: The verdict.
        start: Where it begins in the text: everything before is what the judge had written when the
            verdict was due.
        between: The words between its two scores; empty for a verdict of one text.
    """

    verdict: Verdict
    start: int
    between: str = ""


def find_verdict(text: str, finish_reason: FinishReason | None, verdicts: VerdictSet) -> Stated | Failure:
    """The verdict that the text concludes with.

    Args:
        text: The judge's output, thinking left out.
        finish_reason: How it ended.
        verdicts: What it may state.

    Returns:
        The verdict and its place, or a failure: `truncated` (cut before it concluded, or right after what
        may be a quotation), `no_verdict` (also where a line states two different ones), or `off_scale`.
    """
    found = _locate(text, finish_reason, verdicts)
    if isinstance(found, Failure):
        return found
    stated = stated_text(found, verdicts)
    verdict = verdicts.stated.get(stated)
    if verdict is None:
        return _off_scale(text, stated, verdicts)
    if verdicts.scores is None:
        return Stated(verdict, _start(text, found.start(), found.start("verdict"), verdicts.verdict_prefix))
    first, second = _scores(found, verdicts.scores)
    start = _start(text, found.start(), first.start("score"), verdicts.verdict_prefix)
    return Stated(verdict, start, text[first.end("score") : second.start("score")])


def find_scores(
    text: str, finish_reason: FinishReason | None, verdicts: VerdictSet, leads: Sequence[str]
) -> list[Stated | Failure] | Failure:
    """The scores of a whole list, which the text states together.

    Args:
        text: The judge's output, thinking left out.
        finish_reason: How it ended.
        verdicts: What each score may be. Its pattern finds all scores together, its `scores` each of them;
            with a group `index` they may be in any order, numbered from 1 or lettered from A.
        leads: The words before each of the G scores.

    Returns:
        G scores and their places, or an `off_scale` failure for one; or one failure for all of them, as in
        `find_verdict`, also `no_verdict` if there are not G scores.
    """
    found = _locate(text, finish_reason, verdicts)
    if isinstance(found, Failure):
        return found
    assert verdicts.scores is not None
    scores = _scores(found, verdicts.scores)
    numbered = {_place(m) if "index" in m.re.groupindex else n: m for n, m in enumerate(scores)}
    if len(scores) != len(leads) or numbered.keys() != set(range(len(leads))):
        return Failure(
            reason=FailureReason.NO_VERDICT,
            detail=f"the output gives {len(scores)} scores, not one for each of {len(leads)} completions",
            raw_text=text,
        )
    stated: list[Stated | Failure] = []
    for n, lead in enumerate(leads):
        score = numbered[n]
        verdict = verdicts.stated.get(key_in(score["score"], verdicts.stated))
        if verdict is None:
            stated.append(_off_scale(text, score["score"], verdicts))
        else:
            stated.append(Stated(verdict, _start(text, found.start(), score.start("score"), lead)))
    return stated


def _locate(text: str, finish_reason: FinishReason | None, verdicts: VerdictSet) -> re.Match[str] | Failure:
    """The match of the pattern that is the judge's own verdict."""
    matches = list(verdicts.pattern.finditer(text))
    prefixed = {
        m: start for m in matches if (start := _prefix_start(text, m, verdicts.verdict_prefix)) is not None
    }
    cut = finish_reason == "length"
    if verdicts.place == "start":
        begins = bool(matches) and not text[: prefixed.get(matches[0], matches[0].start())].strip(
            _MARKUP + "\r\n"
        )
        if begins and not (cut and matches[0].end() == len(text)):
            return matches[0]
        return _none(text, "its verdict", cut=cut, place="begin")
    if verdicts.place == "anywhere":
        found = matches[-1] if matches and not (cut and matches[-1].end() == len(text)) else None
    else:
        found = _concluding(text, matches, list(prefixed), cut=cut)
    if found is None:
        quoted = " (a verdict is quoted before the end, which does not count)" if matches else ""
        return _none(text, f"its verdict{quoted}", cut=cut)
    others = _differing(text, found, list(prefixed) if found in prefixed else matches, verdicts)
    if others:
        return Failure(
            reason=FailureReason.NO_VERDICT,
            detail=f"one line of the output states different verdicts: {', '.join(others)}",
            raw_text=text,
        )
    if verdicts.place == "end" and _is_quoted(text, prefixed.get(found, found.start()), cut=cut):
        return _none(text, "a verdict of its own (the last one may be a quotation)", cut=cut)
    return found


def _concluding(
    text: str, matches: Sequence[re.Match[str]], led: Sequence[re.Match[str]], *, cut: bool
) -> re.Match[str] | None:
    """The match that the text concludes with: the last one, or the last led one with its scale after it."""
    # What the limit cut off could be more than a scale.
    if led and not cut:
        rest = text[led[-1].end() :].rstrip()
        if len(rest) <= _LONGEST_SCALE and _SCALE.match(rest):
            return led[-1]
    return matches[-1] if matches and _CLOSING.match(text, matches[-1].end()) else None


def _prefix_start(text: str, found: re.Match[str], prefix: str) -> int | None:
    """Where the prefix begins that a match follows; blanks, emphasis and full-width forms do not matter.

    None where the match follows none. A pattern may hold words of the prefix itself, as those of comparisons
    do: then the match is a beginning too.
    """
    at = found.start("verdict")
    for wanted in reversed(_folded(prefix)):
        while at and text[at - 1] in _PASSED_OVER:
            at -= 1
        if not at or _folded(text[at - 1]) != wanted:
            words = text[found.start() : found.start("verdict")]
            return found.start() if any(c.isalnum() for c in words) else None
        at -= 1
    return at


def _folded(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c not in _PASSED_OVER)


def _differing(
    text: str, found: re.Match[str], rivals: Sequence[re.Match[str]], verdicts: VerdictSet
) -> list[str]:
    """The verdicts that the line of a match states, where they are not all the same; else none."""
    start = text.rfind("\n", 0, found.start()) + 1
    end = text.find("\n", found.end())
    line = [m for m in rivals if m.start() >= start and (end < 0 or m.end() <= end)]
    stated = list(dict.fromkeys(stated_text(m, verdicts) for m in line))
    return stated if len(stated) > 1 else []


def _is_quoted(text: str, start: int, *, cut: bool) -> bool:
    """Whether a verdict that begins at a place (its prefix included) is said by somebody else.

    In a finished text: in quotation marks that open in the middle of a sentence. A text that was cut may
    go on to say so: there any open quotation counts, and the verdict begins a sentence.
    """
    before = text[text.rfind("\n", 0, start) + 1 : start]
    if not cut:
        opened = _open_quote(before)
        said = before[:opened].strip(_MARKUP)
        return opened is not None and bool(said) and said[-1] not in _PAUSES
    whole = text[:start]
    if _open_quote(whole) is not None or whole.count("```") % 2 or before.lstrip().startswith(">"):
        return True
    sentence = before[1 + max(before.rfind(end) for end in _SENTENCE_ENDS) :].strip(_MARKUP)
    return bool(sentence) and not _INTRODUCES.match(sentence)


def _open_quote(text: str) -> int | None:
    """Where a quotation opens that is not closed by the end of the text, or None."""
    places = [text.rfind(mark) for mark in _TWO_WAY if text.count(mark) % 2]
    places += [text.rfind(opens) for opens, closes in _PAIRED if text.count(opens) > text.count(closes)]
    if last := list(_APOSTROPHE.finditer(text)):
        closed = _CLOSING_APOSTROPHE.search(text, last[-1].end())
        places += [] if closed else [last[-1].start()]
    return min(places, default=None)


def _none(text: str, missing: str, *, cut: bool, place: str = "end") -> Failure:
    if cut:
        return Failure(
            reason=FailureReason.TRUNCATED,
            detail=f"the output was cut at the token limit before {missing}",
            raw_text=text,
        )
    return Failure(
        reason=FailureReason.NO_VERDICT,
        detail=f"the output does not {place} with {missing}",
        raw_text=text,
    )


def _off_scale(text: str, stated: str, verdicts: VerdictSet) -> Failure:
    return Failure(
        reason=FailureReason.OFF_SCALE,
        detail=f"the output states {stated!r}, which is not one of {shown(verdicts.texts)}",
        raw_text=text,
    )


def stated_text(found: re.Match[str], verdicts: VerdictSet) -> str:
    """What a match states, as it is looked up; several scores with a blank between each."""
    if verdicts.scores is None:
        return key_in(found["verdict"], verdicts.stated)
    return key_in(" ".join(m["score"] for m in _scores(found, verdicts.scores)), verdicts.stated)


def _scores(found: re.Match[str], each: re.Pattern[str]) -> list[re.Match[str]]:
    return list(each.finditer(found.string, found.start("verdict"), found.end("verdict")))


def _place(score: re.Match[str]) -> int:
    """The place of a score's completion: `1` and `A` are 0; -1 of what is neither."""
    index = score["index"].strip()
    if index.isdecimal():
        return int(index) - 1
    return ascii_uppercase.find(index.upper()) if len(index) == 1 else -1


def _start(text: str, earliest: int, start: int, lead: str) -> int:
    """Where the verdict begins: blanks before it are part of its tokens, if the words before end without."""
    while start > earliest and text[start - 1] in " \t" and not lead[-1:].isspace():
        start -= 1
    return start
