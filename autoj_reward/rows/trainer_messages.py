# SPDX-License-Identifier: Apache-2.0
"""Convert chat messages of any shape to what trainers read: role, content and tool calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from autoj_reward.judge.messages.parts import Call, Piece, Result
from autoj_reward.judge.messages.turns import as_messages, message_parts, name_of, role_of
from autoj_reward.rows.source import Row


def trainer_messages(value: Any) -> list[Row]:
    """Messages for a training file.

    A message with a role and a text (or null with tool calls) stays as it was given, without its null fields.
    Other shapes (ShareGPT, Gemini, content parts) become role, content, `reasoning_content` and `tool_calls`;
    a tool's result becomes a message of the role tool.

    Raises:
        ConfigError: It is not a list of messages, or holds something that cannot be written as text.
    """
    messages: list[Row] = []
    for i, message in enumerate(as_messages(value)):
        messages += _as_given(message) or _converted(message, f"messages[{i}]")
    return messages


def _as_given(message: Mapping[str, Any]) -> list[Row]:
    """The message, if trainers can read it as it is; an empty list if it has to be converted."""
    others = {k: v for k, v in message.items() if v is not None and k != "content"}
    content = message.get("content")
    plain = isinstance(others.get("role"), str) and not {"from", "value", "parts"} & others.keys()
    if not plain or not (content is None or isinstance(content, str)):
        return []
    if content is None and not {"tool_calls", "function_call"} & others.keys():
        content = ""
    return [{"role": others.pop("role"), "content": content, **others}]


def _converted(message: Mapping[str, Any], where: str) -> Iterator[Row]:
    role = role_of(message, where)
    name = name_of(message, where)
    row: Row = {}
    for part in message_parts(message, where):
        if isinstance(part, Result):
            if row:
                yield row
                row = {}
            own = {"tool_call_id": part.id, "name": part.name or (name if role == "tool" else None)}
            yield {"role": "tool", "content": part.text, **{k: v for k, v in own.items() if v}}
            role = "user" if role == "tool" else role
            continue
        row = row or {"role": role, "content": "", **({"name": name} if name else {})}
        if isinstance(part, Call):
            row.setdefault("tool_calls", []).append(_call(part))
        else:
            _add(row, part)
    if row:
        yield row
    elif not any(isinstance(p, Result) for p in message_parts(message, where)):
        yield {"role": role, "content": "", **({"name": name} if name else {})}


def _add(row: Row, piece: Piece) -> None:
    if piece.kind == "reasoning":
        before = row.get("reasoning_content")
        row["reasoning_content"] = piece.text if before is None else f"{before}\n{piece.text}"
    else:
        row["content"] += piece.text


def _call(call: Call) -> Row:
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        arguments = None
    function = {"name": call.name, "arguments": arguments if isinstance(arguments, dict) else call.arguments}
    return {"type": "function", **({"id": call.id} if call.id else {}), "function": function}
