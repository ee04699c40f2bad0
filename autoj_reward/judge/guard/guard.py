# SPDX-License-Identifier: Apache-2.0
"""The guard: sanitise untrusted completions before a judge reads them, and flag what it found.

What imitates the judge's delimiters or verdicts is neutralised in the judge's input, so that a person
reads the same text: two spaces are put between its words and after each of its brackets and marks, and
invisible joiners between digits and in rows of marks. Words addressed to the judge cannot be neutralised that
way: they are flagged. Only an empty completion loses by rule: right answers look like everything else,
`[[6]]` on a line of its own included. The judge's prompt, the rows and what the trainer sees never change.

Neither the prompt nor a rubric or reference is guarded: they come from the person who runs the judge.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast

from autoj_reward.errors import ConfigError
from autoj_reward.judge.guard.degenerate import is_repeated, is_trivial
from autoj_reward.judge.guard.folding import fold, is_blank, is_hidden, is_plain, places
from autoj_reward.judge.guard.imitations import Imitations, imitations_of
from autoj_reward.judge.messages.text import completion_text
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.judgments import Verdict
from autoj_reward.types import Request

Flag = Literal[
    "delimiter", "verdict", "disguised", "forged", "hidden", "instruction", "empty", "trivial", "repeated"
]
"""What the guard found in a completion.

delimiter, verdict: an imitation of the judge's own, neutralised. disguised: one of these was written with
look-alike letters or invisible characters. forged: a line is the judge's verdict and nothing else, or the
judge's template is acted out. hidden: invisible text was taken out. instruction: words addressed to a judge.
empty: nothing to see. trivial: marks without a word or number, one character again and again, or an opening
and nothing after it. repeated: most of the text says the same again and again."""

FLAGS: tuple[Flag, ...] = (
    "delimiter", "verdict", "disguised", "forged", "hidden", "instruction", "empty", "trivial", "repeated",
)  # fmt: skip

Treatment = Literal["judge", "lowest"]
"""judge: the judge decides. lowest: the lowest rating, or a loss, by rule and without asking the judge."""

_VERSION = 5
"""Counts up when the same guard would show a judge another text."""

_JOINER = "\u2060"
"""Word joiner: shows nothing, and allows no line break."""

_TOUCHING = re.compile(r"""(?<=[^\w\s.,'"“”‘’。，、])[ \t]?(?=\S)|(?<=\w)[ \t](?=\w)""")
"""Where a mark is near to what follows, and where two words are: marks of prose and numbers stay."""

_DIGITS = re.compile(r"(?<=\d)(?=\d)")
"""Between two digits of a number."""

_SMUGGLED = re.compile(
    # Tag characters outside a flag (🏴, letters, an end), runs of variation selectors, control characters,
    # overrides of direction.
    "(?P<flag>\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f)"
    "|[\U000e0000-\U000e007f]+"
    "|[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2,}"
    "|[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u202d\u202e\ufff9-\ufffb]+"
)
"""Text that a person does not see and a tokenizer does."""

_SUSPECT = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u202d\u202e\ufe00-\ufe0f\ufff9-\ufffb\U000e0000-\U000e01ef]"
)
"""Any character of such text. Searching for one is much faster than matching a whole run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Which parts of the guard are on. Give one to `Judge.load(guard=...)`; True there means `Guard()`.

    Attributes:
        delimiters: Neutralise imitations of the judge's delimiters and of special tokens.
        verdicts: Neutralise imitations of verdicts.
        hidden: Take out text that a person cannot see: tag characters, control characters, runs of
            variation selectors, overrides of direction. Joiners in emoji and scripts stay.
        instructions: Flag words addressed to a judge. They are never changed.
        empty: What a completion without a visible character gets; null counts as empty. By rule, so that
            an empty completion never has the rating that a judge makes up for it. Of two empty
            completions neither is preferred.
        forged: What a completion gets that looks as if it acted the judge's part: a line that is a verdict
            in the judge's own form and nothing else, or two of its headed parts at the beginnings of lines.
            An honest answer can look so too, `[[6]]` for a matrix: lowest is for prompts where none does.
        trivial: What marks without a word or number, one repeated character, or an opening without an
            answer gets.
        repeated: What a text gets that repeats itself for most of its length.
        penalty: Taken from the reward of a flagged completion, as a share of the scale in [0, 1]; the
            verdict and its distribution stay the judge's.
        penalised: The flags that cost the penalty.

    Raises:
        ConfigError: A value is none of its choices.
    """

    delimiters: bool = True
    verdicts: bool = True
    hidden: bool = True
    instructions: bool = True
    empty: Treatment = "lowest"
    forged: Treatment = "judge"
    trivial: Treatment = "judge"
    repeated: Treatment = "judge"
    penalty: float = 0.0
    penalised: tuple[Flag, ...] = ("delimiter", "verdict", "disguised", "hidden", "instruction")

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {getattr(self, name)!r} is not judge or lowest"
            for name in ("empty", "forged", "trivial", "repeated")
            if getattr(self, name) not in ("judge", "lowest")
        ]
        problems += [
            f"{name} = {getattr(self, name)!r} is not true or false"
            for name in ("delimiters", "verdicts", "hidden", "instructions")
            if not isinstance(getattr(self, name), bool)
        ]
        number = isinstance(self.penalty, int | float) and not isinstance(self.penalty, bool)
        if not number or not 0 <= self.penalty <= 1:
            problems.append(f"penalty = {self.penalty!r} is not in [0, 1]")
        if unknown := sorted(set(self.penalised) - set(FLAGS)):
            problems.append(f"penalised names {unknown}, which are not flags")
        if problems:
            raise ConfigError("the guard's settings are wrong: " + "; ".join(problems), hint=", ".join(FLAGS))

    @property
    def fingerprint(self) -> str:
        """Hash of the settings, kept on every judgment that was guarded by them."""
        values = [getattr(self, f.name) for f in fields(self)]
        return hashlib.sha256(repr((_VERSION, values)).encode()).hexdigest()[:16]


def make_guard(given: Guard | bool | Mapping[str, Any] | None) -> Guard | None:
    """A guard from what a caller may give: True or settings by name; False and None mean none.

    Raises:
        ConfigError: A setting is unknown or wrong.
    """
    if given is None or given is False:
        return None
    if given is True:
        return Guard()
    if isinstance(given, Guard):
        return given
    if not isinstance(given, Mapping):
        raise ConfigError(f"guard = {given!r} is not true, false, a Guard or its settings by name")
    known = {f.name for f in fields(Guard)}
    if unknown := sorted(set(given) - known):
        raise ConfigError(f"the guard has no settings {unknown}", hint=", ".join(sorted(known)))
    settings: dict[str, Any] = {k: tuple(v) if k == "penalised" else v for k, v in given.items()}
    return Guard(**settings)


@dataclass(frozen=True, slots=True)
class GuardedRequest:
    """A request as the judge is to see it.

    Attributes:
        request: With neutralised completions.
        flags: For each completion what was found, in the order of `FLAGS`.
        verdict: By rule, where the judge is not to be asked; else None.
        penalties: For each completion what its reward loses, as a share of the scale in [0, 1].
    """

    request: Request
    flags: tuple[tuple[Flag, ...], ...]
    verdict: Verdict | None
    penalties: tuple[float, ...]


class GuardRunner:
    """Applies a guard for one judge, whose delimiters and verdicts it knows."""

    def __init__(self, guard: Guard, spec: JudgeSpec) -> None:
        self.guard = guard
        self._spec = spec
        self._imitations: Imitations = imitations_of(spec)

    def apply(self, request: Request) -> GuardedRequest:
        """Neutralise and flag a request's completions, and decide what is decided by rule."""
        guard = self.guard
        looked = [self.sanitize(completion_text(c)) for c in request.completions]
        lowest = [any(getattr(guard, f, "judge") == "lowest" for f in flags) for _, flags in looked]
        return GuardedRequest(
            request=replace(request, completions=tuple(text for text, _ in looked)),
            flags=tuple(flags for _, flags in looked),
            verdict=self._ruled(lowest),
            penalties=tuple(
                guard.penalty if any(f in guard.penalised for f in flags) else 0.0 for _, flags in looked
            ),
        )

    def sanitize(self, text: str) -> tuple[str, tuple[Flag, ...]]:
        """A completion's text as the judge is to see it, and what was found in it."""
        guard, found = self.guard, set[Flag]()
        if guard.hidden and not is_plain(text) and _SUSPECT.search(text):
            shown = _SMUGGLED.sub(lambda found: found["flag"] or "", text)
            found.update(["hidden"] if shown != text else [])
            text = shown
        folded = fold(text)
        if not folded.strip() and is_blank(text):
            return text, _ordered({*found, "empty"})
        stated = self._imitations.stated_in(folded)
        if self._imitations.forges(folded, stated):
            found.add("forged")
        if is_trivial(folded):
            found.add("trivial")
        if is_repeated(folded):
            found.add("repeated")
        if guard.instructions and self._imitations.addresses_judge(folded):
            found.add("instruction")
        spans: list[tuple[int, int]] = []
        if guard.delimiters and (delimiters := self._imitations.delimiter_spans(folded)):
            found.add("delimiter")
            spans += delimiters
        if guard.verdicts and (verdicts := self._imitations.verdict_spans(folded, stated)):
            found.add("verdict")
            spans += verdicts
        if not spans:
            return text, _ordered(found)
        text, disguised = _neutralised(text, spans)
        return text, _ordered({*found, "disguised"} if disguised else found)

    def _ruled(self, lowest: Sequence[bool]) -> Verdict | None:
        if not any(lowest):
            return None
        if len(lowest) == 1:
            assert self._spec.rating is not None
            return min(cast(Sequence[float], self._spec.rating.verdicts.verdicts))
        return "tie" if all(lowest) else "second" if lowest[0] else "first"


def _ordered(found: set[Flag]) -> tuple[Flag, ...]:
    return tuple(f for f in FLAGS if f in found)


def _neutralised(text: str, spans: Sequence[tuple[int, int]]) -> tuple[str, bool]:
    """The text with the places of its folded form disarmed, and whether any of them was disguised."""
    where = range(len(text)) if len(fold(text)) == len(text) and text.isascii() else places(text)
    pieces: list[str] = []
    done, disguised = 0, False
    for start, end in _joined(spans):
        first, last = where[start], where[end - 1] + 1
        piece = text[first:last]
        disguised |= _is_disguised(piece)
        pieces += [text[done:first], disarm(piece)]
        done = last
    return "".join([*pieces, text[done:]]), disguised


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, overlapping ones as one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        elif end > start:
            joined.append((start, end))
    return joined


def disarm(piece: str) -> str:
    """The same to a reader, another text to a tokenizer.

    Two spaces go after its marks and between its words, and invisible joiners between the digits of a number
    and between marks without a word. Look-alike letters would lower the rating of honest quotations more.
    """
    shown = "".join(c for c in piece if not is_hidden(c))
    if len(shown) > 1 and not any(map(str.isalnum, shown)):
        return _JOINER.join(shown)
    spaced = _TOUCHING.sub("  ", shown)
    parted = _DIGITS.sub(_JOINER, spaced)
    if "  " in parted:
        return parted
    # Chinese writes no blanks, and a sentence of it reads the same with some.
    chinese = next((n for n, c in enumerate(parted[:-1]) if c > "\u2e7f"), None)
    place, gap = (1, _JOINER) if chinese is None else (chinese + 1, "  ")
    return parted[:place] + gap + parted[place:]


def _is_disguised(piece: str) -> bool:
    """Whether characters of a piece are invisible, or pass for an ASCII letter, digit or mark."""
    return any(
        not c.isascii() and c not in _JOINER and (is_hidden(c) or (fold(c).isascii() and c not in _HONEST))
        for c in piece
    )


_HONEST = "，：；（）【】“”‘’　"
"""Marks of Chinese text that fold to ASCII."""
