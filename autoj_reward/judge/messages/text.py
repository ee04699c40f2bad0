# SPDX-License-Identifier: Apache-2.0
"""Turn chat messages into the text that a template shows.

Every command, reward and route goes through it, so that the same messages are the same judge's input
everywhere. A prompt of one user message is its content; any other conversation becomes turns headed by who
speaks. A completion of one assistant message is its content; of several messages it is the whole trajectory,
tool calls and results included, as headed turns. A policy's reasoning is shown or left out by one option.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from autoj_reward.criteria.rubric import Rubric
from autoj_reward.errors import ConfigError
from autoj_reward.judge.messages.parts import Piece, kind_of
from autoj_reward.judge.messages.turns import Turn, as_messages, read_turns
from autoj_reward.types import Message, Request, Text

Reasoning = Literal["strip", "strip_opened", "keep"]
"""strip: reasoning beside the answer, and a `<think>` block that a turn begins with, are not shown.
strip_opened: the policy's chat template opens the block, so all up to the first `</think>` goes as well.
keep: all reasoning is shown, in `<think>` marks."""

Turns = Literal["all", "last"]
"""all: every turn of a completion. last: its last assistant turn."""

_OPENS, _CLOSES = "<think>", "</think>"
_SPEAKERS = {
    "user": "User", "assistant": "Assistant", "system": "System", "developer": "Developer", "tool": "Tool",
}  # fmt: skip


class ShownText(str):
    """Text that was converted from messages already and is shown as it is."""

    __slots__ = ()


def prompt_text(prompt: Text | Mapping[str, Any], reasoning: Reasoning = "strip") -> str:
    """A prompt as text.

    A text is itself. One user message is its content. A conversation becomes turns headed by who speaks
    (`User:`, `Assistant:`, `Tool (add):`), an empty line between them, because judges were trained on one
    query.

    Raises:
        ConfigError: It is neither text nor messages, or a message cannot be shown.
    """
    if isinstance(prompt, str):
        return prompt
    # What a user wrote of `</think>` in a conversation does not end the policy's reasoning.
    rule: Reasoning = "strip" if reasoning == "strip_opened" else reasoning
    turns = _turns(prompt, rule)
    if len(turns) == 1 and turns[0].role == "user" and not turns[0].label:
        return _body(turns[0], rule)
    return _headed(turns, rule)


def completion_text(
    completion: Text | Mapping[str, Any], reasoning: Reasoning = "strip", turns: Turns = "all"
) -> str:
    """A completion as text, its reasoning left out or kept.

    Args:
        completion: What the policy wrote: text or messages.
        reasoning: What is done with the policy's reasoning, in each of its turns.
        turns: Which turns of a completion of several messages.

    Returns:
        The text. It is empty where the policy wrote nothing, or nothing after its reasoning: that is the
        policy's doing, and is judged like any other answer.

    Raises:
        ConfigError: It is neither text nor messages, a message cannot be shown, or not one is the
            assistant's.
    """
    if isinstance(completion, ShownText):
        return completion
    if isinstance(completion, str):
        return without_reasoning(completion, reasoning)
    read = _turns(completion, reasoning)
    spoken = [turn for turn in read if turn.role == "assistant"]
    if not spoken:
        raise ConfigError("a completion given as messages has no assistant message")
    if turns == "last":
        read = spoken[-1:]
    if len(read) == 1 and not read[0].label:
        return _body(read[0], reasoning)
    return _headed(read, reasoning)


def conversation_text(messages: Sequence[Message], reasoning: Reasoning = "strip") -> str:
    """Messages as headed turns, also a single one.

    Raises:
        ConfigError: A message cannot be shown.
    """
    return _headed(_turns(messages, reasoning), reasoning)


def without_reasoning(text: str, reasoning: Reasoning = "strip") -> str:
    """A turn without its reasoning.

    The first `</think>` ends it, because whatever the policy writes later is for its reader: a second mark
    must not hide a part of the answer from the judge. Reasoning that was never closed leaves nothing.
    """
    if reasoning == "keep":
        return text
    opened = text.lstrip().startswith(_OPENS)
    if not opened and (reasoning == "strip" or _CLOSES not in text):
        return text
    _, closes, answer = text.partition(_CLOSES)
    return answer.lstrip("\r\n") if closes else ""


def shown_request(request: Request, reasoning: Reasoning = "strip") -> Request:
    """A request whose prompt and completions are the texts that a judge is shown.

    Raises:
        ConfigError: One of them is neither text nor messages, or cannot be shown; says which.
    """
    if not isinstance(request, Request):
        raise ConfigError(f"must be a Request, is {kind_of(request)}")
    for field in ("rubric", "reference", "language"):
        value = getattr(request, field)
        if field == "rubric" and isinstance(value, Rubric):
            continue
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{field}: must be a text or None, is {kind_of(value)}")
    if isinstance(request.completions, str) or not isinstance(request.completions, Sequence):
        raise ConfigError(f"completions: must be a tuple of completions, is {kind_of(request.completions)}")
    names = ["completion"] if len(request.completions) == 1 else ["first", "second"]
    names += [f"completions[{i}]" for i in range(len(names), len(request.completions))]
    name = "prompt"
    try:
        prompt = prompt_text(request.prompt, reasoning)
        texts = []
        for name, completion in zip(names, request.completions, strict=True):  # noqa: B007
            texts.append(ShownText(completion_text(completion, reasoning)))
    except ConfigError as error:
        raise ConfigError(f"{name}: {error.args[0]}", hint=error.hint) from None
    return replace(request, prompt=prompt, completions=tuple(texts))


def check_reasoning(value: str) -> Reasoning:
    """The option, if it is one of its choices.

    Raises:
        ConfigError: It is not.
    """
    for choice in get_args(Reasoning):
        if value == choice:
            return choice  # type: ignore[no-any-return]
    raise ConfigError(f"reasoning = {value!r} is none of {', '.join(get_args(Reasoning))}")


def _turns(value: Any, reasoning: Reasoning) -> list[Turn]:
    """The turns to show; one that is reasoning alone has nothing to show where that is left out."""
    turns = read_turns(as_messages(value))
    shown = [
        t
        for t in turns
        if reasoning == "keep" or not t.pieces or any(p.kind != "reasoning" for p in t.pieces)
    ]
    return shown or turns[-1:]


def _headed(turns: Sequence[Turn], reasoning: Reasoning) -> str:
    return "\n\n".join(f"{_heading(turn)}: {_body(turn, reasoning)}" for turn in turns)


def _heading(turn: Turn) -> str:
    speaker = _SPEAKERS.get(turn.role, turn.role)
    return f"{speaker} ({turn.label})" if turn.label else speaker


def _body(turn: Turn, reasoning: Reasoning) -> str:
    said = ""
    own = turn.role == "assistant"
    before: Piece | None = None
    for piece in turn.pieces:
        if piece.kind == "reasoning":
            if reasoning != "keep":
                before = before or piece
                continue
            text = f"{_OPENS}\n{piece.text}\n{_CLOSES}\n\n" if piece.text else ""
        elif piece.kind == "text" and own and (before is None or before.kind == "reasoning") and not said:
            text = without_reasoning(piece.text, reasoning)
            if before is not None and reasoning != "keep":
                text = text.lstrip("\r\n")
        else:
            text = piece.text
        parted = before is not None and "call" in (piece.kind, before.kind)
        said += "\n" + text if parted and said and text and not said.endswith("\n") else text
        before = piece
    return said
