# SPDX-License-Identifier: Apache-2.0
"""From what trainers hold (text or chat messages) to the text that a template shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.types import Message, Text

_SPEAKERS = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}


def prompt_text(prompt: Text) -> str:
    """A prompt as text.

    One user message is its content. A conversation becomes turns headed by who speaks (`User:`,
    `Assistant:`, `System:`), an empty line between them, because judges were trained on one query.

    Raises:
        ConfigError: A message has no text.
    """
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1 and prompt[0].get("role") == "user":
        return _content(prompt[0])
    return "\n\n".join(
        f"{_SPEAKERS.get(str(m.get('role')), str(m.get('role')))}: {_content(m)}" for m in prompt
    )


def completion_text(completion: Text) -> str:
    """A completion as text: itself, or the content of its last assistant message.

    Raises:
        ConfigError: There is no assistant message, or it has no text.
    """
    if isinstance(completion, str):
        return completion
    spoken = [m for m in completion if m.get("role") == "assistant"]
    if not spoken:
        raise ConfigError("a completion given as messages has no assistant message")
    return _content(spoken[-1])


def _content(message: Message) -> str:
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(_part_text(part) for part in _as_parts(content))


def _as_parts(content: Any) -> Sequence[Any]:
    if isinstance(content, Sequence):
        return content
    raise ConfigError(f"a message's content is a {type(content).__name__}, not text or a list of parts")


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise ConfigError(f"a message holds a part of type {kind!r}; judges here read text only")
