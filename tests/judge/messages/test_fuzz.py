# SPDX-License-Identifier: Apache-2.0
"""Messages of any shape: every word reaches the judge, or the typed error says that it cannot."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from autoj_reward import ConfigError
from autoj_reward.judge.messages.text import completion_text, prompt_text
from autoj_reward.rows.trainer_messages import trainer_messages
from tests.conftest import examples

words = st.uuids().map(lambda u: f"w{u.hex[:12]}")
values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
calls = st.fixed_dictionaries(
    {"function": st.fixed_dictionaries({"name": words, "arguments": values.map(json.dumps) | values})}
)
text_parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "input_text", "output_text"]), "text": words}
)
parts = st.one_of(
    words,
    text_parts,
    st.fixed_dictionaries({"type": st.just("refusal"), "refusal": words}),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": words}),
    st.fixed_dictionaries({"type": st.just("tool_use"), "name": words, "input": values}),
    st.fixed_dictionaries(
        {"type": st.just("tool_result"), "content": words | st.lists(text_parts, max_size=2)}
    ),
    st.fixed_dictionaries({"type": st.sampled_from(["image", "file", "video"]), "data": words}),
)
contents = st.none() | words | st.lists(parts, max_size=3)
roles = st.sampled_from(["system", "developer", "user", "assistant", "tool", "critic"])
openai = st.fixed_dictionaries(
    {"role": roles, "content": contents},
    optional={
        "tool_calls": st.none() | st.lists(calls, max_size=2),
        "function_call": st.none() | calls.map(lambda c: c["function"]),
        "reasoning_content": st.none() | words,
        "refusal": st.none() | words,
        "name": st.none() | words,
        "audio": st.none() | st.fixed_dictionaries({"transcript": words}),
    },
)  # fmt: skip
sharegpt = st.fixed_dictionaries(
    {"from": st.sampled_from(["system", "human", "gpt", "observation", "function_call"]), "value": words}
)
gemini = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "model"]),
        "parts": st.lists(
            st.one_of(
                st.fixed_dictionaries({"text": words}, optional={"thought": st.booleans()}),
                st.fixed_dictionaries(
                    {"functionCall": st.fixed_dictionaries({"name": words, "args": values})}
                ),
                st.fixed_dictionaries(
                    {"functionResponse": st.fixed_dictionaries({"name": words, "response": values})}
                ),
            ),
            max_size=3,
        ),
    }
)
messages = st.lists(openai | sharegpt | gemini, min_size=1, max_size=4)


def leaves(value: Any) -> Iterator[str]:
    """Every word of ours within a value, keys of arguments included."""
    if isinstance(value, str):
        yield from (part for part in value.replace('"', " ").replace(",", " ").split() if part[:1] == "w")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(key)
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)


def own(value: Any) -> set[str]:
    return {word.strip(":[]{}") for word in leaves(value) if len(word.strip(":[]{}")) == 13}


@settings(max_examples=examples(300))
@given(messages)
def test_no_word_is_lost(given_messages: list[dict[str, Any]]) -> None:
    for lay_out in (prompt_text, completion_text):
        try:
            text = lay_out(given_messages, "keep")
        except ConfigError as error:
            assert "messages[" in str(error) or "no assistant message" in str(error)  # noqa: PT017
            continue
        assert [word for word in own(given_messages) if word not in text] == []


@settings(max_examples=examples(200))
@given(messages)
def test_no_word_is_lost_in_training_files(given_messages: list[dict[str, Any]]) -> None:
    try:
        completion_text(given_messages, "keep")
        kept = trainer_messages(given_messages)
    except ConfigError:
        return
    # What was written can be read again, and says all that was given.
    for text in (json.dumps(kept), completion_text(kept, "keep")):
        assert [word for word in own(given_messages) if word not in text] == []


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "from",
                    "content",
                    "value",
                    "parts",
                    "type",
                    "text",
                    "name",
                    "tool_calls",
                    "function_call",
                    "function",
                    "arguments",
                    "input",
                    "args",
                    "thinking",
                    "reasoning",
                    "reasoning_content",
                    "summary",
                    "refusal",
                    "audio",
                    "transcript",
                    "messages",
                    "system",
                    "tool_use_id",
                    "functionResponse",
                    "functionCall",
                    "response",
                    "output",
                    "thought",
                ]
            ),
            inner
            | st.sampled_from(
                [
                    "user",
                    "assistant",
                    "tool",
                    "model",
                    "gpt",
                    "function_call",
                    "text",
                    "tool_use",
                    "tool_result",
                    "thinking",
                    "reasoning",
                    "function_call_output",
                    "message",
                    "refusal",
                    "input_audio",
                ]
            ),
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=examples(600))
@given(anything)
@example([{"role": "assistant", "content": [{"type": ["text"], "text": "a"}]}])
@example([{"role": "assistant", "content": "a", "type": ["message"]}])
@example([{"type": {}, "name": "a"}])
def test_anything_is_read_or_refused_with_the_typed_error(value: Any) -> None:
    for lay_out in (prompt_text, completion_text, trainer_messages):
        for made in (
            value,
            [value],
            [{"role": "assistant", "content": value}],
            [{"role": "tool", "content": value}],
        ):
            with contextlib.suppress(ConfigError):
                lay_out(made)  # type: ignore[operator]


def test_a_deep_nest_is_refused_or_read() -> None:
    deep: Any = "a"
    for _ in range(100_000):
        deep = [deep]
    for message in (
        {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": deep}]},
        {"role": "assistant", "content": None, "reasoning": deep},
        {"role": "tool", "content": deep},
    ):
        with contextlib.suppress(ConfigError):
            completion_text([message, {"role": "assistant", "content": "a"}])
    # So deep a list cannot be freed by the interpreter in one go.
    while isinstance(deep, list) and deep:
        deep = deep[0]
