# SPDX-License-Identifier: Apache-2.0
"""Write short critiques for pairs, which Auto-J's published data lacks.

A critique states only known facts: how a completion was degraded, or, for a pair that people judged, the
lengths of the two texts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from autoj_reward.judge.spec import JudgeSpec, JudgingTask
from autoj_reward.judgments import Preference, Verdict
from autoj_reward.training.config import Flaw
from autoj_reward.training.data import closed

_FLAWS: dict[Flaw, tuple[str, ...]] = {
    "other_prompt": (
        "{it} does not answer this query: what it says belongs to a different question.",
        "The text of {it} is about something else than what the user asked for.",
        "{it} misses the query altogether; it reads like the answer to another request.",
        "Nothing in {it} addresses the user's request. It is off topic.",
    ),
    "cut_off": (
        "{it} breaks off before it is finished, so the user is left without the rest.",
        "{it} stops in the middle of a sentence and stays incomplete.",
        "The end of {it} is missing; it was cut short.",
        "{it} is not complete: it ends abruptly, in the middle of a thought.",
    ),
    "repeated": (
        "{it} says the same thing over and over, which adds length and no content.",
        "{it} repeats itself again and again.",
        "There is a lot of repetition in {it}; the same words come back with nothing new.",
        "{it} gets stuck in a loop and repeats what it has already said.",
    ),
    "emptied": (
        "{it} holds no answer at all.",
        "{it} is empty and gives the user nothing to work with.",
        "There is no content in {it}.",
    ),
    "wrong_language": (
        "{it} is written in a language that the user did not ask for.",
        "The user cannot be expected to read {it}: it is in another language than the query.",
        "{it} answers in the wrong language.",
    ),
    "padded": (
        "{it} wraps its answer in phrases that say nothing, which makes it harder to use.",
        "A good part of {it} is filler without content.",
        "{it} would be better without its many empty sentences around the answer.",
    ),
}

_SOUND = (
    "{it} answers the query and is complete.",
    "{it} keeps to what was asked and comes to an end.",
    "{it} deals with the user's request.",
    "{it} is on topic and finished.",
)

_IDENTICAL = (
    "Both responses have the same text, so neither is better.",
    "The two responses do not differ in a single word.",
    "There is no difference between the responses; they are the same.",
    "Response 1 and Response 2 are identical.",
)

_PREFERRED = (
    "Both responses take up the query. Weighing how well each serves the user, {best} is the better choice.",
    "Each response makes an attempt at the request, and {best} meets the user's need better.",
    "Looking at relevance, clarity and completeness together, {best} comes out ahead.",
    "The two responses differ in how they handle the query. On balance {best} is preferable.",
)

_LENGTHS = (
    "{longer} goes into more detail, while {shorter} is brief.",
    "{shorter} keeps it short; {longer} has more to say.",
    "{longer} is the longer of the two.",
)

_NAMES = ("Response 1", "Response 2")


def rating_critique(rng: random.Random, flaw: Flaw | None, rating: float, spec: JudgeSpec) -> str:
    """A critique of one completion, sound or with a flaw, and its rating."""
    # Identical texts are two sound ones.
    text = rng.choice(_FLAWS.get(flaw, _SOUND) if flaw else _SOUND).format(it="The response")
    return f"{text}\n\n{_verdict_text(rating, spec.rating)}"


def comparison_critique(rng: random.Random, flaw: Flaw, verdict: Preference, spec: JudgeSpec) -> str:
    """A critique of a contrast pair, and the decision."""
    if verdict == "tie":
        text = rng.choice(_IDENTICAL)
    else:
        better, worse = _NAMES if verdict == "first" else _NAMES[::-1]
        parts = [rng.choice(_SOUND).format(it=better), rng.choice(_FLAWS[flaw]).format(it=worse)]
        if better == _NAMES[1]:
            parts.reverse()
        text = " ".join(parts)
    return f"{text} {_verdict_text(verdict, spec.comparison)}"


def pair_critique(rng: random.Random, texts: Sequence[str], verdict: Preference, spec: JudgeSpec) -> str:
    """A critique of a pair that people judged, and their decision."""
    parts = []
    short, long = sorted((0, 1), key=lambda i: len(texts[i]))
    if len(texts[long]) > 1.3 * len(texts[short]):
        parts.append(rng.choice(_LENGTHS).format(longer=_NAMES[long], shorter=_NAMES[short]))
    if verdict == "tie":
        parts.append("Neither response serves the user better than the other.")
    else:
        parts.append(rng.choice(_PREFERRED).format(best=_NAMES[verdict == "second"]))
    return f"{' '.join(parts)} {_verdict_text(verdict, spec.comparison)}"


def _verdict_text(verdict: Verdict, task: JudgingTask | None) -> str:
    assert task is not None  # examples are only built for tasks of the judge
    return task.verdicts.verdict_prefix.lstrip() + closed(verdict, task)
