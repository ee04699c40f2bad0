# SPDX-License-Identifier: Apache-2.0
"""Read a row's prompt and completions from the fields that a format names.

A field's name may be several (`prompt|question`): the first that the row has counts. All readers are
functions of a module, so that a format can be sent to another process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from autoj_reward.judgments import PREFERENCES, Preference
from autoj_reward.rows.containers.objects import Row
from autoj_reward.rows.formats.conversations import (
    is_messages,
    is_transcript,
    shortest,
    split_last_reply,
    split_pair,
    transcript_messages,
    without_open_turn,
)
from autoj_reward.rows.formats.parts import (
    RowParts,
    RowProblem,
    kind_of,
    list_of,
    name_in,
    numbers,
    preference_in,
    unpacked,
    value_of,
)
from autoj_reward.types import Text

Words = Mapping[Any, Preference]

PEOPLE = "label|gold|human|human_preference|human_label"
"""Our own fields of what people said; `preference` too in rows that no judge has compared."""
OWN_WORDS: Words = {**dict(enumerate(PREFERENCES)), **{name: name for name in PREFERENCES}}
NUMBERED: Words = {1: "first", 2: "second", 1.5: "tie", 0: "tie"}
LETTERS: Words = {
    "model_a": "first", "model_b": "second", "tie": "tie", "tie (bothbad)": "tie", "both_bad": "tie",
    "a": "first", "b": "second", "a>b": "first", "b>a": "second", "a=b": "tie",
}  # fmt: skip
SYSTEM = "system|system_prompt"
GRADES = "ratings|scores|gold|labels|label|rewards|correct"
"""Fields of a group with one number for each completion."""


def prompt_of(row: Row, names: str = "prompt", beside: str = "", system: str = "") -> Text:
    """A row's prompt, with its further input below it and a system message before it.

    An `instruction` has its `input` below it in every format, as Alpaca's rows.
    """
    name = name_in(row, names)
    prompt = unpacked(value_of(row, names))
    if is_transcript(prompt):
        return shortest(without_open_turn(transcript_messages(prompt)))
    further = name_in(row, beside or ("input" if name == "instruction" else ""))
    more = None if further in (None, name) else row[further]
    if isinstance(prompt, str) and isinstance(more, str) and more.strip():
        prompt = f"{prompt}\n\n{more}"
    return with_system(row, cast(Text, prompt), system)


def with_system(row: Row, prompt: Text, names: str) -> Text:
    """A prompt with the row's system message before it, if the row has one and the prompt has none."""
    said = row.get(name_in(row, names) or "") if names else None
    if not isinstance(said, str) or not said.strip():
        return prompt
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    begins = asked[0].get("role") if asked else None
    return prompt if begins == "system" else [{"role": "system", "content": said}, *asked]


def one(row: Row, prompt: str, completion: str, beside: str = "", system: str = "") -> RowParts:
    """A prompt and one completion in two fields."""
    return RowParts(
        prompt=prompt_of(row, prompt, beside, system),
        completions=(cast(Text, _messages_or_text(value_of(row, completion))),),
    )


def conversation(row: Row, names: str) -> RowParts:
    """A conversation: its last reply is the completion."""
    value = unpacked(value_of(row, names))
    prompt, reply = split_last_reply(value, str(name_in(row, names)))
    return RowParts(prompt=with_system(row, prompt, SYSTEM), completions=(reply,))


def two(
    row: Row,
    prompt: str,
    first: str,
    second: str,
    label: str = "",
    words: Words = OWN_WORDS,
    beside: str = "",
    system: str = "",
) -> RowParts:
    """A prompt and two completions in three fields, with people's preference in a fourth."""
    return RowParts(
        prompt=prompt_of(row, prompt, beside, system),
        completions=tuple(cast(Text, _messages_or_text(value_of(row, name))) for name in (first, second)),
        preference=preference_in(row, label, words) if label else None,
    )


def own_two(row: Row, prompt: str, first: str, second: str, label: str = "") -> RowParts:
    """Our own pairs: `preference` is people's unless the row also has what `compare` adds."""
    compared = "win_prob" in row or "order_preferences" in row
    people = label or (PEOPLE if compared else f"{PEOPLE}|preference")
    return two(row, prompt, first, second, people)


def preferred(row: Row, prompt: str = "", system: str = "", beside: str = "") -> RowParts:
    """`chosen` and `rejected`; the prompt in its own field, or what both begin with."""
    chosen, rejected = (unpacked(value_of(row, name)) for name in ("chosen", "rejected"))
    whole = (is_messages(chosen) and is_messages(rejected) and _begins_with_user(chosen)) or (
        is_transcript(chosen) and is_transcript(rejected)
    )
    if whole or not prompt:
        asked, chosen, rejected = split_pair(chosen, rejected)
        asked = with_system(row, asked, SYSTEM)
    else:
        asked = prompt_of(row, prompt, beside, system)
    return RowParts(prompt=asked, completions=(chosen, rejected), preference="first")


def preferred_fields(row: Row, prompt: str, chosen: str, rejected: str) -> RowParts:
    """The preferred and the other completion under other names."""
    return RowParts(
        prompt=prompt_of(row, prompt),
        completions=(value_of(row, chosen), value_of(row, rejected)),
        preference="first",
    )


def many(
    row: Row, prompt: str, completions: str, grades: str = GRADES, beside: str = "", system: str = ""
) -> RowParts:
    """A prompt and a list of completions, with a number for each in another field."""
    made = list_of(row, completions)
    graded = name_in(row, grades)
    has_list = graded is not None and isinstance(unpacked(row[graded]), list)
    return RowParts(
        prompt=prompt_of(row, prompt, beside, system),
        completions=tuple(made),
        gold=numbers(row, grades, len(made)) if has_list else None,
    )


def objects(
    row: Row, prompt: str, completions: str, text: str, grade: str = "", sign: float = 1.0
) -> RowParts:
    """A prompt and a list of objects with a text and perhaps a number; `sign` is -1 if less is better."""
    field = name_in(row, completions)
    texts, gold = [], []
    for n, item in enumerate(list_of(row, completions)):
        if not isinstance(item, dict):
            raise RowProblem(f"must be an object with {text}, is {kind_of(item)}", f"{field}[{n}]")
        texts.append(value_of(item, text))
        if grade and (name := name_in(item, grade)) is not None:
            try:
                gold.append(sign * float(item[name]))
            except (TypeError, ValueError):
                raise RowProblem("must be a number", f"{field}[{n}].{name}") from None
    return RowParts(
        prompt=prompt_of(row, prompt),
        completions=tuple(texts),
        gold=tuple(gold) if len(gold) == len(texts) else None,
    )


def right_and_wrong(row: Row, prompt: str, right: str, wrong: str) -> RowParts:
    """Lists of right and of wrong completions: gold is 1 and 0."""
    good, bad = list_of(row, right), list_of(row, wrong)
    return RowParts(
        prompt=prompt_of(row, prompt),
        completions=(*good, *bad),
        gold=(1.0,) * len(good) + (0.0,) * len(bad),
    )


def _messages_or_text(value: Any) -> Any:
    """A list of messages that a table's cell holds as JSON; any other value as it is."""
    read = unpacked(value)
    return read if is_messages(read) else value


def _begins_with_user(messages: list[Any]) -> bool:
    first = str(messages[0].get("role") or messages[0].get("from")).lower()
    return first in ("user", "human", "system", "developer")
