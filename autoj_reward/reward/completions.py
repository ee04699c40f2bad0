# SPDX-License-Identifier: Apache-2.0
"""What a judge is shown of a policy's completion: its last turn or all, with its thinking or without."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from autoj_reward.errors import ConfigError
from autoj_reward.judge.layout import completion_text, prompt_text
from autoj_reward.types import Message, Text

Thinking = Literal["strip", "strip_opened", "judge"]
"""strip: a completion that begins with `<think>` is judged from its `</think>` on. strip_opened: the policy's
chat template opens the thinking, so all up to the first `</think>` goes. judge: nothing is taken away."""

Shown = Literal["last", "transcript"]
"""last: the last assistant turn. transcript: all turns of the completion, tool calls and results included."""

_OPENS, _CLOSES = "<think>", "</think>"


def shown_completion(completion: Text, *, shown: Shown = "last", thinking: Thinking = "strip") -> str:
    """A completion as the judge sees it.

    Args:
        completion: What the policy wrote: text, or messages (tool calls and tool results among them).
        shown: Which turns of a completion that is messages.
        thinking: What is done with the policy's thinking, in each of its turns.

    Returns:
        The text. It is empty where the policy wrote nothing, or nothing after its thinking: that is the
        policy's doing, and is judged like any other answer.

    Raises:
        ConfigError: Messages hold no assistant turn, or no text.
    """
    if isinstance(completion, str):
        return without_thinking(completion, thinking)
    if shown == "transcript":
        return _transcript(completion, thinking)
    text = without_thinking(completion_text(completion), thinking)
    if thinking == "judge":
        last = [m for m in completion if m.get("role") == "assistant"][-1]
        text = _reasoning(last) + text
    return text


def without_thinking(text: str, thinking: Thinking = "strip") -> str:
    """A turn without its thinking.

    The first `</think>` ends it, because whatever the policy writes later is for its reader: a second mark
    must not hide a part of the answer from the judge. Thinking that was never closed leaves nothing.
    """
    if thinking == "judge":
        return text
    opened = text.lstrip().startswith(_OPENS)
    if not opened and (thinking == "strip" or _CLOSES not in text):
        return text
    _, closes, answer = text.partition(_CLOSES)
    return answer.lstrip("\r\n") if closes else ""


def _transcript(messages: Sequence[Message], thinking: Thinking) -> str:
    if not any(m.get("role") == "assistant" for m in messages):
        raise ConfigError("a completion given as messages has no assistant message")
    turns: list[Message] = []
    for message in messages:
        if message.get("role") != "assistant":
            turns.append(message)
            continue
        text = without_thinking(completion_text([message]), thinking)
        if thinking == "judge":
            text = _reasoning(message) + text
        calls = [_call(call) for call in message.get("tool_calls") or ()]
        turns.append({"role": "assistant", "content": "\n".join(part for part in (text, *calls) if part)})
    if len(turns) == 1:
        return str(turns[0]["content"])
    return prompt_text(turns)


def _reasoning(message: Message) -> str:
    """Thinking that the trainer keeps beside the answer, put back in front of it."""
    text = message.get("reasoning_content")
    return f"{_OPENS}\n{text}\n{_CLOSES}\n\n" if isinstance(text, str) and text else ""


def _call(call: Any) -> str:
    function = call.get("function", call) if isinstance(call, dict) else {}
    arguments = function.get("arguments", "")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False, default=str)
    return f"[calls {function.get('name', 'a tool')}({arguments})]"
