# SPDX-License-Identifier: Apache-2.0
"""Chat messages of every common shape read into turns, without losing a word.

Known are the messages of OpenAI (chat completions and responses), Anthropic, Gemini, Hugging Face chat
templates, and ShareGPT. What a judge cannot be shown (an image, bytes, a part of an unknown type) is an
error that names the place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.judge.messages.parts import (
    Call,
    Part,
    Piece,
    Result,
    content_parts,
    kind_of,
    read_part,
    read_thought,
    read_transcript,
    text_or_none,
    tool_calls,
    tool_parts,
    written_calls,
)

_ROLES = {
    "human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
    "bing": "assistant", "bard": "assistant", "ai": "assistant", "function_call": "assistant",
    "function": "tool", "observation": "tool", "ipython": "tool", "tool_response": "tool",
    "function_response": "tool", "tool_call": "assistant",
}  # fmt: skip
"""Other names of the roles that chat templates know."""

_ITEM_ROLES = {
    "function_call": "assistant", "reasoning": "assistant", "function_call_output": "tool",
}  # fmt: skip
"""Roles of items that have a type instead of a role (OpenAI's responses)."""

_WRAPPERS = ("messages", "conversations", "conversation", "contents")
_CONTENT = ("content", "value", "parts")
_REASONING = ("reasoning_content", "reasoning", "thinking")
_CALLS = ("function_call", "tool_call")
_LONGEST_ROLE = 64


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker said at once.

    Attributes:
        role: `system`, `developer`, `user`, `assistant`, `tool`, or another one as it was given.
        label: Who it was, or which tool call it answers; empty where the role says it all.
        pieces: Its parts in order.
    """

    role: str
    label: str
    pieces: tuple[Piece, ...]


def as_messages(value: Any) -> list[Mapping[str, Any]]:
    """The messages of a prompt or completion: a list, one message, or an object that holds the list.

    Raises:
        ConfigError: It is none of these, or holds something beside its messages.
    """
    if isinstance(value, Mapping):
        value = _unwrapped(value)
    if isinstance(value, str | bytes | bytearray | memoryview) or not isinstance(value, Sequence):
        raise ConfigError(f"must be a text or a list of chat messages, is {kind_of(value)}")
    if not value:
        raise ConfigError("must be a text or a list of chat messages, is an empty list")
    for i, message in enumerate(value):
        if not isinstance(message, Mapping):
            raise ConfigError(f"messages[{i}] must be an object with role and content, is {kind_of(message)}")
    return list(value)


def read_turns(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """The turns of a conversation: one for each message, or more where a message holds tool results.

    Raises:
        ConfigError: A message cannot be shown; the message says which, and where in it.
    """
    turns: list[Turn] = []
    calls: dict[str, str] = {}
    for i, message in enumerate(messages):
        where = f"messages[{i}]"
        role, parts = role_of(message, where), message_parts(message, where)
        made = [p for p in parts if isinstance(p, Call)]
        numbers = {id(c): f" #{n}" if len(made) > 1 else "" for n, c in enumerate(made, start=1)}
        calls |= {c.id: f"{c.name}{numbers[id(c)]}" for c in made if c.id}
        name = name_of(message, where)
        turns += _turns_of(parts, role, name, calls, numbers)
    return turns


def role_of(message: Mapping[str, Any], where: str = "messages[0]") -> str:
    """Who speaks, by the common name; a role that is not known as it is.

    Raises:
        ConfigError: The role is missing, or given twice.
    """
    given = [v for k in ("role", "from") if (v := message.get(k)) is not None]
    if not given and _is_item(message):
        return _ITEM_ROLES[message["type"]]
    if not given:
        keys = ", ".join(map(repr, message)) or "nothing"
        raise ConfigError(
            f"{where} has no role; it has {keys:.200}",
            hint="a message has role and content, or from and value (ShareGPT)",
        )
    roles = []
    for role in given:
        if not isinstance(role, str) or not role.strip() or len(role) > _LONGEST_ROLE or "\n" in role:
            raise ConfigError(f"{where}.role must be a short text such as 'user', is {role!r:.80}")
        roles.append(_ROLES.get(role.strip().lower(), role.strip()))
    if len(set(roles)) > 1:
        raise ConfigError(f"{where} has two speakers, role {given[0]!r:.80} and from {given[1]!r:.80}")
    known = roles[0].lower()
    return known if known in ("system", "developer", "user", "assistant", "tool") else roles[0]


def name_of(message: Mapping[str, Any], where: str = "messages[0]") -> str:
    """The speaker's own name; empty where the message has none.

    Raises:
        ConfigError: It is not a text.
    """
    # An item's name is that of the tool.
    return "" if _is_item(message) else text_or_none(message, "name", where) or ""


def content_of(message: Mapping[str, Any], where: str = "messages[0]") -> Any:
    """What a message keeps under content, value (ShareGPT) or parts (Gemini); None where that is null.

    Raises:
        ConfigError: More than one of them is there.
    """
    given = [k for k in _CONTENT if message.get(k) is not None]
    if len(given) > 1:
        raise ConfigError(f"{where} has both {given[0]} and {given[1]}", hint="keep one of them")
    return message[given[0]] if given else None


def _unwrapped(value: Mapping[str, Any]) -> Any:
    given = [k for k in _WRAPPERS if value.get(k) is not None]
    if not given:
        # One message by itself; `read_turns` reports what is not a message.
        return [value]
    if "role" in value or "from" in value:
        raise ConfigError(f"is a message and holds {given[0]} as well")
    more = [k for k, v in value.items() if v is not None and k != given[0]]
    system = value.get("system") if more == ["system"] else None
    if more and not isinstance(system, str):
        raise ConfigError(
            f"holds {', '.join(map(repr, more)):.200} beside its {given[0]}",
            hint="keep the list of messages alone in this field, and other things in fields of the row",
        )
    messages = value[given[0]]
    if system is not None and isinstance(messages, Sequence) and not isinstance(messages, str | bytes):
        return [{"role": "system", "content": system}, *messages]
    return messages


def _turns_of(
    parts: Sequence[Part],
    role: str,
    name: str,
    calls: Mapping[str, str],
    numbers: Mapping[int, str],
) -> Iterator[Turn]:
    """A message's turns: each tool result is one of its own."""
    pieces: list[Piece] = []
    n_results = 0
    for part in parts:
        if isinstance(part, Result):
            if pieces:
                yield Turn(role, name, tuple(pieces))
                pieces = []
            n_results += 1
            known = calls.get(part.id, "")
            own = part.name or (name if role == "tool" else "")
            tool = known if known.partition(" #")[0] in (own, "") or not own else own
            tool = tool or own or (f"id {part.id}" if part.id else "")
            yield Turn("tool", tool, (Piece("text", part.text),))
        elif isinstance(part, Call):
            pieces.append(Piece("call", f"[calls {part.name}({part.arguments}){numbers[id(part)]}]"))
        elif part.kind == "text" and pieces and pieces[-1].kind == "text":
            pieces[-1] = Piece("text", pieces[-1].text + part.text)
        else:
            pieces.append(part)
    if pieces or not n_results:
        yield Turn(role, name, tuple(pieces))


def message_parts(message: Mapping[str, Any], where: str = "messages[0]") -> list[Part]:
    """What a message says, part by part.

    Raises:
        ConfigError: It cannot be shown; says where.
    """
    try:
        return list(_parts(message, role_of(message, where), where))
    except RecursionError:
        raise ConfigError(f"{where} is nested too deeply") from None


def _parts(message: Mapping[str, Any], role: str, where: str) -> Iterator[Part]:
    if _is_item(message):
        yield from read_part(message, where)
        return
    content = content_of(message, where)
    calls = list(tool_calls(message, where))
    if content is None and not _says_something(message, calls):
        keys = ", ".join(map(repr, message))
        raise ConfigError(
            f"{where} has no content; it has {keys:.200}",
            hint="a message has role and content, or from and value (ShareGPT)",
        )
    thoughts = [read_thought(v, f"{where}.{k}") for k in _REASONING if (v := message.get(k)) is not None]
    # Servers give the same reasoning under its former and its present name.
    for thought in dict.fromkeys(thoughts):
        yield Piece("reasoning", thought)
    key = next((k for k in _CONTENT if message.get(k) is not None), "content")
    if role == "tool":
        yield from tool_parts(message, content, f"{where}.{key}")
    elif isinstance(content, str) and _speaker(message) in _CALLS:
        yield from written_calls(content)
    elif content is not None:
        yield from content_parts(content, f"{where}.{key}")
    refusal = text_or_none(message, "refusal", where)
    if refusal:
        yield Piece("text", f"\n{refusal}" if content else refusal)
    if (audio := message.get("audio")) is not None:
        yield from read_transcript(audio, f"{where}.audio")
    yield from calls


def _is_item(message: Mapping[str, Any]) -> bool:
    kind = message.get("type")
    return message.get("role") is None and isinstance(kind, str) and kind in _ITEM_ROLES


def _speaker(message: Mapping[str, Any]) -> str:
    speaker = message.get("role") or message.get("from")
    return speaker.strip().lower() if isinstance(speaker, str) else ""


def _says_something(message: Mapping[str, Any], calls: Sequence[Call]) -> bool:
    """Whether a message without content is one all the same: its content is null, or it has other parts."""
    beside = any(message.get(k) is not None for k in ("refusal", "audio", *_REASONING))
    return bool(calls) or beside or any(k in message for k in _CONTENT)
