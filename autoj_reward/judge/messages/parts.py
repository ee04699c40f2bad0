# SPDX-License-Identifier: Apache-2.0
"""The parts of a chat message: words, reasoning, tool calls and their results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from autoj_reward.errors import ConfigError

_TEXT_TYPES = ("text", "input_text", "output_text", "summary_text", "reasoning_text")
_MEDIA_HINT = "judges here read text only: put a description in words in its place"

PieceKind = Literal["text", "reasoning", "call"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a turn: words, reasoning, or a tool call as it is shown."""

    kind: PieceKind
    text: str


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool gave back, by the id of its call or by the tool's name."""

    id: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call: the tool, its arguments as text, and its id where it has one."""

    name: str
    arguments: str
    id: str = ""


Part = Piece | Call | Result


def kind_of(value: Any) -> str:
    """What a value is, for error messages."""
    if isinstance(value, bytes | bytearray | memoryview):
        return "bytes (decode them to text)"
    kinds = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "a text"}
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list) else kinds.get(type(value), f"a {type(value).__name__}")


def arguments_text(arguments: Any, where: str) -> str:
    """A call's arguments as JSON text: a JSON object in one way of writing, any other text as it is.

    Raises:
        ConfigError: They hold something that JSON does not.
    """
    if arguments is None:
        return ""
    if isinstance(arguments, str):
        try:
            parsed = json.loads(arguments, object_pairs_hook=_unique)
            if isinstance(parsed, dict):
                return json.dumps(parsed, ensure_ascii=False, allow_nan=False)
        except (ValueError, RecursionError):
            pass
        return arguments
    return _json(arguments, where)


def content_parts(content: Any, where: str) -> Iterator[Part]:
    """A content's parts: a text, a list of parts, or one part.

    Raises:
        ConfigError: It is none of these, or a part cannot be shown.
    """
    if isinstance(content, str):
        yield Piece("text", content)
        return
    if isinstance(content, Mapping):
        yield from read_part(content, where)
        return
    if isinstance(content, bytes | bytearray | memoryview) or not isinstance(content, Sequence):
        raise ConfigError(f"{where} must be a text or a list of parts, is {kind_of(content)}")
    for i, part in enumerate(content):
        if isinstance(part, str):
            yield Piece("text", part)
        elif isinstance(part, Mapping):
            yield from read_part(part, f"{where}[{i}]")
        else:
            raise ConfigError(f"{where}[{i}] must be a text or an object with a type, is {kind_of(part)}")


def read_part(given: Mapping[str, Any], where: str) -> Iterator[Part]:
    """One part of a content, by its type; Gemini's parts have none, and are told by their field."""
    # Tables fill the fields that a part does not have with null.
    part = {k: v for k, v in given.items() if v is not None}
    kind = part.get("type")
    if kind is None:
        yield from _untyped(part, where)
    elif kind in _TEXT_TYPES:
        yield Piece("text", _required_text(part, "text", where))
    elif kind == "refusal":
        yield Piece("text", _required_text(part, "refusal", where))
    elif kind in ("thinking", "reasoning", "redacted_thinking"):
        yield Piece("reasoning", _reasoning_part(part, where))
    elif kind in ("tool_use", "function_call", "tool_call"):
        yield _call(part, where)
    elif kind in ("tool_result", "function_call_output"):
        field = "content" if kind == "tool_result" else "output"
        key = str(part.get("tool_use_id") or part.get("call_id") or "")
        error = "[error] " if part.get("is_error") is True else ""
        text = error + _result_text(part.get(field), f"{where}.{field}")
        yield Result(key, text_or_none(part, "name", where) or "", text)
    elif kind in ("input_audio", "audio") and "transcript" in part:
        yield from read_transcript(part, where)
    else:
        raise ConfigError(f"{where} is a part of type {kind!r:.80}", hint=_MEDIA_HINT)


def _untyped(part: Mapping[str, Any], where: str) -> Iterator[Part]:
    said = {k: v for k, v in part.items() if k not in ("thought", "thoughtSignature", "thought_signature")}
    if set(said) == {"text"}:
        text = _required_text(said, "text", where)
        yield Piece("reasoning" if part.get("thought") is True else "text", text)
        return
    for name in ("functionCall", "function_call"):
        if set(said) == {name} and isinstance(said[name], Mapping):
            yield _call(said[name], f"{where}.{name}")
            return
    for name in ("functionResponse", "function_response"):
        if set(said) == {name} and isinstance(answer := said[name], Mapping):
            text = _result_text(answer.get("response"), f"{where}.{name}.response")
            own = text_or_none(answer, "name", f"{where}.{name}") or ""
            yield Result(str(answer.get("id") or ""), own, text)
            return
    keys = ", ".join(map(repr, part)) or "nothing"
    raise ConfigError(f"{where} is a part without a type, of {keys:.200}", hint=_MEDIA_HINT)


def tool_calls(message: Mapping[str, Any], where: str) -> Iterator[Call]:
    """Tool calls that a message keeps beside its content."""
    calls = message.get("tool_calls")
    if isinstance(calls, str):
        try:
            calls = json.loads(calls)
        except (ValueError, RecursionError):
            raise ConfigError(f"{where}.tool_calls is a text, and not JSON") from None
    if calls is not None:
        if not isinstance(calls, Sequence) or isinstance(calls, str | bytes | bytearray):
            raise ConfigError(f"{where}.tool_calls must be a list, is {kind_of(calls)}")
        for i, call in enumerate(calls):
            yield _call(call, f"{where}.tool_calls[{i}]")
    if message.get("function_call") is not None:
        yield _call(message["function_call"], f"{where}.function_call")


def _call(call: Any, where: str) -> Call:
    if not isinstance(call, Mapping):
        raise ConfigError(f"{where} must be an object with name and arguments, is {kind_of(call)}")
    inner = next((call[k] for k in ("function", "custom") if isinstance(call.get(k), Mapping)), call)
    name = inner.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where} has no name of a tool")
    given = [k for k in ("arguments", "input", "args", "parameters") if inner.get(k) is not None]
    if len(given) > 1:
        raise ConfigError(f"{where} has both {given[0]} and {given[1]}", hint="keep one of them")
    arguments = arguments_text(inner[given[0]], f"{where}.{given[0]}") if given else ""
    return Call(name, arguments, str(call.get("call_id") or call.get("id") or ""))


def written_calls(text: str) -> Iterator[Piece | Call]:
    """ShareGPT's calls, which are written as JSON; as they are where that cannot be read."""
    try:
        parsed = json.loads(text, object_pairs_hook=_unique)
        calls = parsed if isinstance(parsed, list) else [parsed]
        if not calls or any(set(c) - {"name", "arguments", "id"} for c in calls):
            raise ValueError
        made = [_call(call, "") for call in calls]
    except (ValueError, TypeError, RecursionError):
        yield Piece("call", f"[calls {text}]")
        return
    yield from made


def tool_parts(message: Mapping[str, Any], content: Any, where: str) -> Iterator[Part]:
    """A tool's message: one result, or what its parts hold."""
    key = str(message.get("tool_call_id") or message.get("call_id") or "")
    typed = isinstance(content, Sequence) and any(
        isinstance(p, Mapping)
        and (p.get("type") == "tool_result" or p.get("functionResponse") or p.get("function_response"))
        for p in ([] if isinstance(content, str | bytes) else content)
    )
    if typed:
        yield from content_parts(content, where)
    else:
        yield Result(key, "", _result_text(content, where))


def _result_text(content: Any, where: str) -> str:
    """A tool's result: text, parts of text, or any other JSON value in JSON."""
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, Sequence) and not isinstance(content, bytes | bytearray | memoryview):
        parts = [p for p in content if isinstance(p, str) or (isinstance(p, Mapping) and "type" in p)]
        if content and len(parts) == len(content):
            read = list(content_parts(content, where))
            if any(not isinstance(p, Piece) for p in read):
                raise ConfigError(f"{where} holds a call or a result inside of a result")
            return "".join(p.text for p in read if isinstance(p, Piece))
    return _json(content, where)


def read_thought(value: Any, where: str) -> str:
    """Reasoning as text, whatever it is kept in.

    Raises:
        ConfigError: It is not a text and does not hold one.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return _reasoning_part(value, where)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return "\n".join(read_thought(v, f"{where}[{i}]") for i, v in enumerate(value))
    raise ConfigError(f"{where} must be a text, is {kind_of(value)}")


def _reasoning_part(part: Mapping[str, Any], where: str) -> str:
    if part.get("type") == "redacted_thinking" or part.get("redacted") is True:
        return "[redacted]"
    texts = [
        read_thought(part[k], f"{where}.{k}")
        for k in ("thinking", "reasoning", "text", "summary", "content")
        if part.get(k) is not None
    ]
    if not texts and not {"encrypted_content", "signature", "data"} & part.keys():
        raise ConfigError(f"{where} is reasoning without a text; it has {', '.join(map(repr, part)):.200}")
    return "\n".join(t for t in texts if t)


def read_transcript(audio: Any, where: str) -> Iterator[Piece]:
    """Speech that comes with its words."""
    if not isinstance(audio, Mapping) or not isinstance(audio.get("transcript"), str):
        raise ConfigError(f"{where} is audio without a transcript", hint=_MEDIA_HINT)
    yield Piece("text", audio["transcript"])


def _required_text(part: Mapping[str, Any], name: str, where: str) -> str:
    value = part.get(name)
    if not isinstance(value, str):
        raise ConfigError(f"{where}.{name} must be a text, is {kind_of(value)}")
    return value


def text_or_none(message: Mapping[str, Any], name: str, where: str) -> str | None:
    """A field that is a text, null or missing.

    Raises:
        ConfigError: It is something else.
    """
    value = message.get(name)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{where}.{name} must be a text, is {kind_of(value)}")
    return value


def _json(value: Any, where: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where} cannot be written as JSON: {error}") from None


def _plain(value: Any) -> Any:
    """Arrays of a table as lists, other mappings as objects."""
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"it holds {kind_of(value)}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; one that has a key twice is refused, because a dict would lose a value."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError
    return made
