# SPDX-License-Identifier: Apache-2.0
"""Make contrast pairs: a completion and a copy degraded on purpose, so that the label is certain."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from autoj_reward.training.config import Flaw
from autoj_reward.training.data import Part, prompt_key

RATINGS: dict[Flaw, float] = {
    "other_prompt": 1.0,
    "emptied": 1.0,
    "wrong_language": 2.0,
    "repeated": 2.0,
    "cut_off": 3.0,
    "padded": 4.0,
    "identical": 6.0,
}
"""The training label of a completion with each flaw."""

SOUND_RATING = 6.0
"""The training label of a sound completion: Auto-J's most frequent rating."""

SHARES: dict[Flaw, float] = {
    "other_prompt": 0.40,
    "cut_off": 0.22,
    "repeated": 0.16,
    "emptied": 0.05,
    "wrong_language": 0.05,
    "padded": 0.12,
}
"""Share of each flaw; hard ones are drawn more often."""

_FILLERS = (
    "There is a great deal that could be said about this.",
    "As mentioned before, this is worth keeping in mind.",
    "Of course, every situation is different, and results may vary.",
    "In other words, what was said above still holds.",
    "It goes without saying that this matters to many people.",
    "All in all, there are many sides to this topic.",
    "Let me know if you would like to hear more about it.",
    "I hope this was helpful, and I wish you a wonderful day!",
    "Thank you for asking such a thoughtful question.",
    "This is a topic that has kept people busy for a long time.",
    "At the end of the day, it depends on how you look at it.",
    "To put it simply, one should always consider every aspect.",
    "Once again, please keep all of this in mind.",
    "Before going on, it helps to think about why this is being asked.",
    "Needless to say, opinions differ, and all of them deserve respect.",
    "As an assistant, I always try to be as useful as I can.",
    "It is important to note that it is important to be careful here.",
    "Many books could be written, and have been written, about this.",
)

_EMPTY = ("", "", "", " ", "\n", ".", "...", "-", "N/A", "[]")

_ENDINGS = ".!?)]}`\"'*:|>。！？”…"
"""Last characters of a finished completion."""

_SENTENCE = re.compile(r"[^.!?\n]*+(?:[.!?\n]++\s*+|\Z)")
"""A sentence with its end, or the rest of the text; possessive, so that each place is matched once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """A sound completion and a flawed one (with `identical` the same text), from the row `origin`."""

    prompt: str
    better: str
    worse: str
    flaw: Flaw
    origin: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """A prompt with its completions."""

    prompt: str
    completions: tuple[str, ...]
    translation: str
    origin: str


def make_contrast(
    part: Part,
    n: int,
    *,
    seed: int,
    max_chars: int,
    flaws: Mapping[Flaw, float] | None = None,
    together: bool = True,
) -> list[Contrast]:
    """Draw n cases from the rows of one side of the split, or fewer if there are not enough rows.

    Args:
        part: The rows.
        n: Number of cases.
        seed: The same seed draws the same cases.
        max_chars: Most characters of the prompt and the completions shown with it.
        flaws: Shares of the flaws; None takes `SHARES`.
        together: Whether both completions are shown at once, as in a comparison.
    """
    rng = random.Random(f"contrast {seed}")
    entries = _entries(part)
    shares = flaws or SHARES
    makers: dict[Flaw, Callable[[random.Random, _Entry], tuple[str, str] | None]] = {
        "other_prompt": lambda r, e: _other_prompt(r, e, entries),
        "cut_off": _cut_off,
        "repeated": _repeated,
        "emptied": lambda r, e: (_sound(r, e), r.choice(_EMPTY)),
        "wrong_language": _wrong_language,
        "padded": _padded,
        "identical": lambda r, e: (e.completions[0], e.completions[0]),
    }
    translated = [e for e in entries if e.translation]
    cases: list[Contrast] = []
    for _ in range(n * 20):
        if len(cases) == n or not entries:
            break
        flaw = rng.choices(list(shares), weights=list(shares.values()))[0]
        pool = translated if flaw == "wrong_language" else entries
        if not pool:
            continue
        entry = rng.choice(pool)
        made = makers[flaw](rng, entry)
        if made is None:
            continue
        lengths = (len(made[0]), len(made[1]))
        if len(entry.prompt) + (sum(lengths) if together else max(lengths)) > max_chars:
            continue
        cases.append(
            Contrast(prompt=entry.prompt, better=made[0], worse=made[1], flaw=flaw, origin=entry.origin)
        )
    return cases


def _entries(part: Part) -> list[_Entry]:
    """Prompts with completions that are whole and long enough to be degraded."""
    entries = []
    for pair in part.pairs:
        texts = (pair.second, pair.first) if pair.preference == "second" else (pair.first, pair.second)
        entries.append(_Entry(pair.prompt, tuple(t for t in texts if looks_whole(t)), "", pair.origin))
    for row in part.rated:
        whole = (row.completion,) if looks_whole(row.completion) else ()
        entries.append(_Entry(row.prompt, whole, row.translation, row.origin))
    return [e for e in entries if e.completions]


def sound_entries(part: Part) -> list[tuple[str, str, str]]:
    """Prompt, one whole completion and origin of every prompt that has one; each prompt once."""
    entries = {prompt_key(e.prompt): (e.prompt, e.completions[0], e.origin) for e in _entries(part)}
    return list(entries.values())


def looks_whole(text: str) -> bool:
    """Whether a completion ends like one that was finished, and is long enough to judge."""
    return len(text.strip()) >= 40 and text.rstrip()[-1] in _ENDINGS


def _sound(rng: random.Random, entry: _Entry) -> str:
    return rng.choice(entry.completions)


def _other_prompt(rng: random.Random, entry: _Entry, entries: Sequence[_Entry]) -> tuple[str, str] | None:
    """A completion to another prompt, of similar length, so that length does not predict the label."""
    better = _sound(rng, entry)
    drawn = [rng.choice(entries) for _ in range(6)]
    others = [e.completions[0] for e in drawn if e.prompt != entry.prompt]
    if not others:
        return None
    # Often any of them, so that neither the longer nor the shorter one is always right.
    closest = min(others, key=lambda t: abs(len(t) - len(better)))
    return better, closest if rng.random() < 0.6 else rng.choice(others)


def _cut_off(rng: random.Random, entry: _Entry) -> tuple[str, str] | None:
    """A completion that stops in the middle, and a whole one that is often shorter."""
    if len(entry.completions) > 1 and rng.random() < 0.7:
        better, longer = sorted(entry.completions[:2], key=len)
        least = len(better)
    else:
        better = longer = _sound(rng, entry)
        least = 40
    worse = cut(rng, longer, at_least=least)
    return None if worse is None else (better, worse)


def cut(rng: random.Random, text: str, *, at_least: int) -> str | None:
    """A whole completion cut at a random place inside a sentence; None if there is none.

    At least `at_least` characters are left.
    """
    for _ in range(8):
        low, high = max(at_least, len(text) // 4), int(len(text) * 0.95)
        if low >= high:
            return None
        place = rng.randint(low, high)
        kept = text[:place].rstrip()
        if rng.random() < 0.5 and " " in kept[-30:]:
            kept = kept[: kept.rindex(" ")].rstrip()
        if len(kept) >= at_least and kept[-1:].isalnum():
            return kept
    return None


def repeat(rng: random.Random, text: str) -> str:
    """The text with a part of it repeated several times."""
    how = rng.randrange(4)
    sentences: list[str] = [
        s for s in _SENTENCE.findall(text) if len(s.strip()) > 15 and any(end in s for end in ".!?\n")
    ]
    if how == 0 and sentences:
        place = rng.randrange(len(sentences))
        upto = text[: text.index(sentences[place])]
        return upto + (sentences[place].rstrip() + " ") * rng.randint(3, 9)
    if how == 1:
        return "\n\n".join([text.rstrip()] * rng.randint(2, 3))
    if how == 2 and len(sentences) > 1:
        return "".join(s.rstrip() + " " + s.rstrip() + rng.choice((" ", "\n")) for s in sentences)
    words = text.split()
    start = rng.randrange(max(1, len(words) - 8))
    phrase = " ".join(words[start : start + rng.randint(2, 8)])
    return " ".join(words[:start]) + (" " + phrase) * rng.randint(6, 20)


def _repeated(rng: random.Random, entry: _Entry) -> tuple[str, str] | None:
    better = _sound(rng, entry)
    if len(better) > 900:
        better = min(entry.completions, key=len)
    return better, repeat(rng, rng.choice(entry.completions))


def _wrong_language(rng: random.Random, entry: _Entry) -> tuple[str, str] | None:
    """The same completion in another language than the prompt's."""
    return _sound(rng, entry), entry.translation[: rng.randint(60, 260)].rstrip() + "。"


def _padded(rng: random.Random, entry: _Entry) -> tuple[str, str] | None:
    """The same completion between empty phrases."""
    better = _sound(rng, entry)
    fillers = rng.sample(_FILLERS, rng.randint(3, 9))
    n = rng.randint(0, len(fillers) // 2)
    joint = rng.choice((" ", "\n\n"))
    return better, joint.join((" ".join(fillers[:n]), better, " ".join(fillers[n:]))).strip()
