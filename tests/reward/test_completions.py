# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given

from autoj_reward import ConfigError
from autoj_reward.judge.messages.text import Reasoning, without_reasoning
from autoj_reward.reward.items import Shown, read_items
from tests.hostile import hostile_text


@pytest.mark.parametrize(
    ("text", "strip", "opened"),
    [
        ("13", "13", "13"),
        ("", "", ""),
        ("<think>\nhm\n</think>\n\n13", "13", "13"),
        ("\n<think>hm</think>13", "13", "13"),
        ("<think>never closed, 13", "", "<think>never closed, 13"),
        ("hm\n</think>\n\n13", "hm\n</think>\n\n13", "13"),
        # A second mark hides nothing that the reader sees.
        ("<think>a</think>bad</think>good", "bad</think>good", "bad</think>good"),
        ("13 is <think>late</think> prime", "13 is <think>late</think> prime", " prime"),
    ],
)
def test_reasoning(text: str, strip: str, opened: str) -> None:
    assert without_reasoning(text, "strip") == strip
    assert without_reasoning(text, "keep") == text
    if text.lstrip().startswith("<think>") and "</think>" not in text:
        # Opened and never closed: no answer, whether the template or the model opened it.
        opened = ""
    assert without_reasoning(text, "strip_opened") == opened


@given(hostile_text)
def test_text_without_marks_is_unchanged(text: str) -> None:
    if "<think>" not in text and "</think>" not in text:
        for reasoning in ("strip", "strip_opened", "keep"):
            assert shown_completion(text, reasoning=reasoning) == text


def shown_completion(
    completion: object, *, shown: Shown = "transcript", reasoning: Reasoning = "strip"
) -> str:
    [item] = read_items(["?"], [completion], {}, names={}, shown=shown, reasoning=reasoning)
    return item.completion


TOOLS = [
    {"role": "assistant", "content": None, "tool_calls": [
        {"type": "function", "function": {"name": "add", "arguments": {"a": 6, "b": 7}}}]},
    {"role": "tool", "name": "add", "content": "13"},
    {"role": "assistant", "content": "<think>easy</think>It is 13.", "reasoning_content": ""},
]  # fmt: skip


def test_several_turns() -> None:
    whole = 'Assistant: [calls add({"a": 6, "b": 7})]\n\nTool (add): 13\n\nAssistant: It is 13.'
    assert shown_completion(TOOLS) == shown_completion(TOOLS, shown="transcript") == whole
    assert shown_completion(TOOLS, shown="last") == "It is 13."
    assert shown_completion(TOOLS[-1:]) == "It is 13."
    assert shown_completion(TOOLS, reasoning="keep", shown="last") == "<think>easy</think>It is 13."


def test_reasoning_that_a_trainer_keeps_in_its_own_field() -> None:
    message = [{"role": "assistant", "content": "13", "reasoning_content": "6 + 7"}]
    assert shown_completion(message) == "13"
    assert shown_completion(message, reasoning="keep") == "<think>\n6 + 7\n</think>\n\n13"
    assert shown_completion(message, reasoning="keep", shown="transcript").endswith("</think>\n\n13")


def test_messages_without_an_answer() -> None:
    for shown in ("last", "transcript"):
        with pytest.raises(ConfigError, match="no assistant message"):
            shown_completion([{"role": "tool", "content": "13"}], shown=shown)
