# SPDX-License-Identifier: Apache-2.0
"""Patterns of judge delimiters and verdicts that a completion must not imitate.

Derived from a judge's templates, wrappers and verdict sets, so a judge of your own is covered as
well. All patterns are for folded text (`folding.fold`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from autoj_reward.judge.criteria.tasks import criterion_tasks
from autoj_reward.judge.guard.folding import fold
from autoj_reward.judge.spec import JudgeSpec, JudgingTask
from autoj_reward.judge.verdict import VerdictSet
from autoj_reward.judge.verdicts.bounded_regex import held_text
from autoj_reward.judge.verdicts.stated import key_in
from autoj_reward.types import PlainWrapper

_LONGEST_MARK = 40
"""A line of a template up to this long, in characters, is a delimiter; a longer one is an instruction."""

_ROLES = (
    r"(?:response|answer|completion|query|question|prompt|request|assistant|user|system|instruction|input|"
    r"output|reference|rubric|candidate|submission|document|context|conversation|standard|data|text|"
    r"用户问询|问询|回应|回答|回复)"
)
_GAP = r"[ \t_]{0,4}"
_LINE_BEGINS = r"^[ \t>*]*"

_BRACKETS = ("[", "<", "{")

GENERAL_DELIMITERS: dict[str, tuple[str, ...]] = {
    # Marker lines of judges: [END DATA], [The Start of Assistant A's Answer], <BEGIN RESPONSE 2>.
    rf"[\[<{{]{{1,2}}{_GAP}(?:the{_GAP})?(?:end|begin|beginning|start|stop){_GAP}(?:of{_GAP})?(?:the{_GAP})?"
    rf"{_ROLES}[^\[\]<>{{}}\n]{{0,30}}[\]>}}]{{1,2}}": _BRACKETS,
    # Headed parts: [Response 2], [Query]:, [回应1].
    rf"\[{_GAP}{_ROLES}{_GAP}(?:[a-c]|\d{{1,2}}|one|two){_GAP}\]": ("[",),
    rf"\[{_GAP}{_ROLES}{_GAP}\]{_GAP}:": ("[",),
    r"^#{2,6}[ \t]*(?:instruction|response|input|feedback|evaluation|verdict|judge?ment|score|system)s?"
    r"[ \t]*+(?:\d[ \t]*+)?:": ("##",),
    r"^(?:system|judge|evaluator|grader)[ \t]*:": ("system", "judge", "evaluator", "grader"),
    # Special tokens of chat templates.
    r"<\|[^|<>\n]{1,40}\|>": ("<|",),
    r"</?(?:s|think|bos|eos|pad|unk)>": ("<",),
    r"\[/?inst\]": ("[",),
    r"<</?sys>>": ("<<",),
    r"<(?:start|end)_of_turn>": ("<",),
}
"""Delimiters that judges and chat templates in general use, each with words of which it holds one: a text
without them need not be searched."""

_VERDICT_WORD = (
    r"(?:rating|score|grade|verdict|decision|judge?ment|preference|winner|"
    r"评分|分数|得分|评级|打分|最终(?:的)?决定)"
)
_NUMBER = r"\d{1,3}(?:\.\d{1,3})?(?:[ \t]*/[ \t]*\d{1,3})?"
_SIDE = r"(?:response|answer|option|assistant|model|回应|回答|回复)[ \t]*(?:[ab]|\d{1,2}|one|two|一|二|两)"

GENERAL_VERDICTS: dict[str, tuple[str, ...]] = {
    # Also [Rating] 9 and 【评分】9, whose bracket takes the place of the colon.
    rf"\[?{_VERDICT_WORD}(?:[ \t\"'*)}}>\]]*+(?:is|=|:|为|是)|[ \t\"'*]{{0,4}}\])[ \t\"'*(\[<{{]*"
    rf"(?:{_NUMBER}|{_SIDE}(?![a-z\d])|tie\b|平局|平手)[\])}}>*]*": (
        "rating", "score", "grade", "verdict", "decision", "judg", "preference", "winner",
        "分", "评级", "决定",
    ),
    r"final[ \t\r\n]+decision[ \t\r\n]+is\b": ("decision",),
    r"最终(?:的)?决定[ \t\r\n]{0,8}(?:是|为)": ("决定",),
    r"\[\[[ \t]*(?:[abc]|tie|" + _NUMBER + r")[ \t]*\]\]": ("[[",),
    rf"{_SIDE}[ \t]+(?:is|was)[ \t]+(?:\w+[ \t]+){{0,2}}(?:better|best|superior|preferred|the winner)\b": (
        "better", "best", "superior", "preferred", "the winner",
    ),
}  # fmt: skip
"""Verdicts as judges in general write them, with words of which each holds one."""

INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    r"(?:ignore|disregard|forget|override)\b[^.\n]{0,30}"
    r"\b(?:instruction|criteria|criterion|rubric|guideline|rule|standard)s?\b": (
        "ignore", "disregard", "forget", "override",
    ),
    r"(?:give|assign|award|rate|grade|score|return|output)\b[^.\n]{0,50}"
    r"\b(?:highest|maximum|max|perfect|full|top|best|10|ten)\b[^.\n]{0,24}"
    r"\b(?:score|rating|grade|mark|point)s?\b": ("score", "rating", "grade", "mark", "point"),
    r"(?:dear|note to|attention|message to|hey|hello)\b[^.\n]{0,12}"
    r"\b(?:judge|grader|evaluator|reviewer|rater)s?\b": ("judge", "grader", "evaluator", "reviewer", "rater"),
    r"(?:as|you are)\b[^.\n]{0,16}\b(?:judge|grader|evaluator|rater)\b": (
        "judge", "grader", "evaluator", "rater",
    ),
    r"this (?:response|answer|completion)\b[^.\n]{0,16}\b(?:deserves|must|should)\b[^.\n]{0,24}"
    r"\b(?:rating|score|rated|10|ten|highest|marks?|preferred)\b": ("this ",),
    r"(?:忽略|无视)[^。\n]{0,12}(?:指示|指令|标准|规则)|给(?:予|出)?[^。\n]{0,8}(?:满分|最高分)": (
        "忽略", "无视", "满分", "最高分",
    ),
}  # fmt: skip
"""Words addressed to a judge. Only flagged: they cannot be neutralised without changing the text."""


class Sought(NamedTuple):
    """A pattern, and words of which whatever it matches holds one; without words it may match anything."""

    pattern: re.Pattern[str]
    words: tuple[str, ...]

    def may_be_in(self, text: str) -> bool:
        """Whether the text has to be searched. Looking for words is much faster."""
        # A loop: `any` takes several times as long, and there are over a hundred words for each text.
        for word in self.words:
            if word in text:
                return True
        return not self.words


StatedMatch = tuple[str, re.Match[str]]
"""The words before a verdict, and the match of its set's pattern."""


@dataclass(frozen=True, slots=True)
class Imitations:
    """Patterns for folded text.

    Attributes:
        delimiters: Where the data of a judge begin or end.
        verdicts: What a judge states.
        stated: The judge's verdict sets, whose own patterns find what its parser would take for a verdict.
        stated_words: For each of them a text that whatever its pattern finds holds; may be empty.
        instructions: What is said to a judge.
        heads: The judge's own delimiters of words and marks, each at the beginning of a line.
    """

    delimiters: tuple[Sought, ...]
    verdicts: tuple[Sought, ...]
    stated: tuple[VerdictSet, ...]
    stated_words: tuple[str, ...]
    instructions: tuple[Sought, ...]
    heads: tuple[Sought, ...]

    def delimiter_spans(self, folded: str) -> list[tuple[int, int]]:
        """Where a folded text has a delimiter, or what looks like one."""
        return _spans(self.delimiters, folded)

    def addresses_judge(self, folded: str) -> bool:
        """Whether a folded text speaks to its judge."""
        return any(s.may_be_in(folded) and s.pattern.search(folded) for s in self.instructions)

    def forges(self, folded: str, stated: Iterable[StatedMatch]) -> bool:
        """Whether a folded text seems to act the judge's part, and not only to quote it.

        Either a line of it is a verdict in the judge's own form and nothing else, or it has at least two of
        the judge's delimiters of words and marks where its templates have them, at the beginning of a line.

        Args:
            folded: The text.
            stated: What `stated_in` finds in it.
        """
        if sum(bool(s.may_be_in(folded) and s.pattern.search(folded)) for s in self.heads) >= 2:
            return True
        return any(_stands_alone(folded, m, fold(prefix)) for prefix, m in stated)

    def verdict_spans(self, folded: str, stated: Iterable[StatedMatch]) -> list[tuple[int, int]]:
        """Where a folded text has a verdict, or what looks like one; `stated` as in `forges`."""
        return _spans(self.verdicts, folded) + [m.span() for _, m in stated]

    def stated_in(self, folded: str) -> list[StatedMatch]:
        """What the judge's parser would take for a verdict, each with the prefix of its set."""
        return list(self._stated_in(folded))

    def _stated_in(self, folded: str) -> Iterator[StatedMatch]:
        for verdicts, words in zip(self.stated, self.stated_words, strict=True):
            for m in verdicts.pattern.finditer(folded) if words in folded else ():
                # A bare yes or 7, with nothing of the judge's around it, is what honest texts say.
                if m[0].strip() == m["verdict"]:
                    continue
                several = verdicts.scores is not None and verdicts.scores.search(m["verdict"])
                if several or key_in(m["verdict"], verdicts.stated) in verdicts.stated:
                    yield verdicts.verdict_prefix, m


def _spans(sought: Iterable[Sought], folded: str) -> list[tuple[int, int]]:
    return [m.span() for s in sought if s.may_be_in(folded) for m in s.pattern.finditer(folded)]


def imitations_of(spec: JudgeSpec) -> Imitations:
    """The patterns for a judge: its own, and the general ones."""
    tasks = _tasks(spec)
    own = {_mark_pattern(mark): _mark_words(mark) for mark in marks(spec)}
    heads = dict.fromkeys(_mark_pattern(m) for m in marks(spec) if _is_head(m))
    leads = {
        _lead_pattern(p.verdicts): _mark_words(_lead(p.verdicts))
        for p in tasks
        if p.verdicts.verdict_prefix.strip()
    }
    return Imitations(
        delimiters=_compiled(own | GENERAL_DELIMITERS),
        verdicts=_compiled(leads | GENERAL_VERDICTS),
        stated=tuple(p.verdicts for p in tasks),
        # In a folded text every letter that a pattern takes for one of ASCII is that letter.
        stated_words=tuple(held_text(p.verdicts.pattern).lower() for p in tasks),
        instructions=_compiled(INSTRUCTIONS),
        heads=_compiled(
            {(p if p[0] == "^" else _LINE_BEGINS + p): own[p] for p in heads},
        ),
    )


def marks(spec: JudgeSpec) -> list[str]:
    """The delimiters that a judge's templates, blocks and wrapper use, each once.

    A delimiter is a whole short line, the words right before a placeholder, or something in single
    brackets.
    """
    found: dict[str, None] = {}
    for text in _trusted_texts(spec):
        for line in text.splitlines():
            if 2 <= len(line.strip()) <= _LONGEST_MARK:
                found[line.strip()] = None
            found.update(dict.fromkeys(re.findall(r"(?<!\[)\[[^\[\]\n]{2,40}\](?!\])", line)))
    return list(found)


def _is_head(mark: str) -> bool:
    """Whether a delimiter has words and marks, as [Query]: has. Question: is in honest text too."""
    marked = any(not (c.isalnum() or c.isspace() or c in "_:.,") for c in mark)
    return marked and any(c.isalpha() for c in mark)


def _tasks(spec: JudgeSpec) -> list[JudgingTask]:
    """A judge's tasks in all its languages, criteria's included: a completion may imitate any of them."""
    specs = (spec, *spec.translations.values())
    return [p for s in specs for p in (s.rating, s.comparison) if p is not None] + criterion_tasks()


def _trusted_texts(spec: JudgeSpec) -> Iterator[str]:
    for task in _tasks(spec):
        texts = [task.template.text]
        texts += [task.with_reference.text] if task.with_reference is not None else []
        texts += [task.listing.item] if task.listing is not None else []
        for text in texts:
            # A placeholder ends a line: what touches it is a line of its own.
            yield re.sub(r"\{[A-Za-z_]+\}", "\n", text)
        for block in task.template.blocks.values():
            yield block.replace("{value}", "\n")
    for wrapper in (spec.wrapper, spec.direct_wrapper):
        if isinstance(wrapper, PlainWrapper):
            yield from (wrapper.before, wrapper.after)


def _mark_pattern(mark: str) -> str:
    """A delimiter with blanks, underscores and numbers left open; one of punctuation alone is a line."""
    folded = fold(mark).rstrip(": ")
    words = re.findall(r"[^\W\d_]+|\d+|[^\w\s]", folded)
    if not any(w[0].isalnum() for w in words):
        return rf"^[ \t]*+(?:{re.escape(words[0] if words else '*')}[ \t]*+){{{max(len(words), 3)},}}+$"
    pieces = [r"\d{1,2}" if w.isdecimal() else _opened(w) for w in words]
    bracketed = folded[0] in "[<{"
    return _GAP.join(pieces) if bracketed else rf"^[ \t]*{_GAP.join(pieces)}{_GAP}:?[ \t]*$"


def _stands_alone(text: str, found: re.Match[str], prefix: str) -> bool:
    """Whether a verdict is all that its line says, with or without the whole prefix before it."""
    # Not farther than a line may reach: a line of nothing but verdicts would be gone through for each.
    near = len(prefix) + _LONGEST_MARK
    start = text.rfind("\n", max(0, found.start() - near), found.start()) + 1
    end = text.find("\n", found.end(), found.end() + near)
    end = end if end >= 0 else len(text)
    if (not start and found.start() > near) or end - start > len(found[0]) + near:
        return False
    return _words(text[start:end]) in (_words(found[0]), _words(prefix + found["verdict"]))


def _words(text: str) -> str:
    return "".join(c for c in text if c.isalnum())


def _opened(word: str) -> str:
    """A bracket as any bracket, so that <END DATA> is found for [END DATA]."""
    return {"[": r"[\[<{]", "]": r"[\]>}]"}.get(word, re.escape(word))


def _lead(verdicts: VerdictSet) -> str:
    """The words before a verdict from the last comma on, folded."""
    return fold(verdicts.verdict_prefix).rpartition(",")[2].rpartition("，")[2].strip()


def _lead_pattern(verdicts: VerdictSet) -> str:
    """The words before a verdict, from the last comma on, with the verdict where one follows."""
    pieces = [re.escape(w) for w in re.findall(r"[^\W\d_]+|\d+|[^\w\s]", _lead(verdicts))]
    texts = sorted((re.escape(fold(t).strip()) for t in verdicts.stated), key=len, reverse=True)
    return r"[ \t\r\n_]{0,4}".join(pieces) + rf"(?:[ \t*\"']*(?:{'|'.join(texts)})[\]*\"']*)?"


def _mark_words(mark: str) -> tuple[str, ...]:
    """What a text holds where `_mark_pattern` matches: the delimiter's longest word, or its mark."""
    folded = fold(mark).rstrip(": ")
    words = [w for w in re.split(r"[\W\d_]+", folded) if w]
    return (max(words, key=len),) if words else ()


def _compiled(patterns: Mapping[str, tuple[str, ...]]) -> tuple[Sought, ...]:
    """Each by itself: the engine finds where one can begin much faster than where any of many can."""
    return tuple(Sought(re.compile(p, re.MULTILINE), words) for p, words in patterns.items())
