# SPDX-License-Identifier: Apache-2.0
"""Split conversations into the prompt and the completion: messages, transcripts, pairs with one beginning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.judge.messages.turns import as_messages, role_of
from autoj_reward.rows.formats.parts import RowProblem
from autoj_reward.types import Text

_HUMAN, _ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


def is_transcript(value: Any) -> bool:
    """Whether a text is a conversation as in HH: turns of Human and Assistant, separated by empty lines."""
    return isinstance(value, str) and value.lstrip().startswith("Human:") and _ASSISTANT in value


def is_messages(value: Any) -> bool:
    """Whether a value is a list of messages."""
    if not isinstance(value, list) or not value or not all(isinstance(m, dict) for m in value):
        return False
    return all(m.get("role") or m.get("from") for m in value)


def transcript_messages(text: str) -> list[dict[str, str]]:
    """The messages of a transcript as in HH."""
    messages = []
    for part in ("\n\n" + text.lstrip()).split(_HUMAN)[1:]:
        asked, *answered = part.split(_ASSISTANT)
        messages.append({"role": "user", "content": asked.strip()})
        messages += [{"role": "assistant", "content": answer.strip()} for answer in answered]
    return messages


def without_open_turn(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The messages of a prompt without the empty assistant turn that a transcript ends with."""
    open_turn = messages and messages[-1]["role"] == "assistant" and not messages[-1]["content"]
    return messages[:-1] if open_turn else messages


def split_last_reply(value: Any, field: str) -> tuple[Text, Text]:
    """A conversation's prompt and its last assistant reply.

    Raises:
        RowProblem: It is no conversation that ends with a reply to a prompt.
    """
    messages = _messages(value, field)
    roles = _roles(messages, field)
    if "assistant" not in roles[1:]:
        raise RowProblem("has no assistant reply after a prompt: there is nothing to judge", field)
    if roles[-1] not in ("assistant", "tool"):
        raise RowProblem(
            f"ends with a message of {roles[-1]!r}: the last message must be the reply to judge", field
        )
    # A reply may be a trajectory: calls and their results, up to the last answer.
    at = max(n for n, role in enumerate(roles) if role in ("user", "system", "developer")) + 1
    if at == len(messages):
        raise RowProblem("has no assistant reply after a prompt: there is nothing to judge", field)
    return shortest(messages[:at]), messages[at:]


def split_pair(chosen: Any, rejected: Any) -> tuple[Text, Text, Text]:
    """The prompt that two conversations or texts begin with, and what follows in each.

    Raises:
        RowProblem: They do not begin with the same prompt.
    """
    if isinstance(chosen, str) and isinstance(rejected, str):
        if not (is_transcript(chosen) and is_transcript(rejected)):
            return _split_texts(chosen, rejected)
        chosen, rejected = transcript_messages(chosen), transcript_messages(rejected)
    a, b = _messages(chosen, "chosen"), _messages(rejected, "rejected")
    roles_a, roles_b = _roles(a, "chosen"), _roles(b, "rejected")
    n = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    while n and not (roles_a[n : n + 1] == ["assistant"] == roles_b[n : n + 1]):
        n -= 1
    if not n:
        raise RowProblem(
            "does not begin with the same prompt as rejected: the row needs a field prompt, or conversations "
            "that begin with the same messages",
            "chosen",
        )
    return shortest(a[:n]), a[n:], b[n:]


def _split_texts(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The shared beginning, without a torn word, and the rests with the blank that they begin with."""
    n = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), 0)
    shared = chosen[:n]
    if shared[-1:].isalnum() and (chosen[n : n + 1].isalnum() or rejected[n : n + 1].isalnum()):
        shared = shared[: max(shared.rfind(blank) for blank in " \n\t") + 1]
    shared = shared.rstrip()
    rests = chosen[len(shared) :], rejected[len(shared) :]
    if not shared or not all(rest.strip() for rest in rests):
        raise RowProblem(
            "does not begin with the same prompt as rejected: the row needs a field prompt", "chosen"
        )
    return shared, *rests


def _messages(value: Any, field: str) -> list[dict[str, Any]]:
    if is_transcript(value):
        return transcript_messages(value)
    try:
        return [dict(message) for message in as_messages(value)]
    except ConfigError as error:
        raise RowProblem(str(error), field) from error


def _roles(messages: Sequence[dict[str, Any]], field: str) -> list[str]:
    try:
        return [role_of(message, f"messages[{n}]") for n, message in enumerate(messages)]
    except ConfigError as error:
        raise RowProblem(str(error), field) from error


def shortest(messages: list[dict[str, Any]]) -> Text:
    """A prompt of one plain user message as its text; any other as it is."""
    content = messages[0].get("content", messages[0].get("value"))
    if len(messages) == 1 and role_of(messages[0]) == "user" and isinstance(content, str):
        return content
    return messages
