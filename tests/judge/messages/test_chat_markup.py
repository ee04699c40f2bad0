# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoj_reward.judge.messages.chat_markup import END_TOKENS, completion_of, messages_of, without_end_tokens
from tests.hostile import hostile_text

USER = [{"role": "user", "content": "Q"}]
TALK = [
    {"role": "system", "content": "S\nS"},
    {"role": "user", "content": "Q"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": "R"},
]
TEMPLATED: dict[str, tuple[str, Any]] = {
    "chatml": ("<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n", USER),
    "chatml with thinking": (
        "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n<think>\n",
        [*USER, {"role": "assistant", "content": "<think>\n"}],
    ),
    "chatml talk": (
        "<|im_start|>system\nS\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
        "<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n",
        TALK,
    ),
    "llama 3": (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        USER,
    ),
    "llama 3, twice begun": (
        "<|begin_of_text|><|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        USER,
    ),
    "llama 2": ("<s>[INST] Q [/INST]", USER),
    "gemma": ("<bos><start_of_turn>user\nQ<end_of_turn>\n<start_of_turn>model\n", USER),
    "phi": ("<|user|>\nQ<|end|>\n<|assistant|>\n", USER),
    "zephyr": ("<|user|>\nQ</s>\n<|assistant|>\n", USER),
}
UNTOUCHED = [
    "", "Q", "Human: Q\nAssistant:", "What does <|im_start|>user\nQ<|im_end|>\n mean?", "[INST] a [/INST] b [INST] c [/INST]",
    "<|im_start|>user\nQ<|im_end|>\ntrailing", "<|im_start|>assistant\n",
]  # fmt: skip


@pytest.mark.parametrize(("text", "messages"), TEMPLATED.values(), ids=TEMPLATED)
def test_templated_prompts_are_messages_again(text: str, messages: Any) -> None:
    assert messages_of(text) == messages


@pytest.mark.parametrize("text", UNTOUCHED)
def test_other_prompts_stay_as_they_are(text: str) -> None:
    assert messages_of(text) == text


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("A<|im_end|>", "A"),
        ("A<|im_end|>\n", "A"),
        ("A</s></s></s>", "A"),
        ("A\n\n<|eot_id|><pad><pad>", "A\n\n"),
        ("A", "A"),
        ("A \n", "A \n"),
        ("<|im_end|>", ""),
        ("A<|im_end|> B", "A<|im_end|> B"),
        ("A<my_end>", "A<my_end>"),
    ],
)
def test_end_tokens_are_taken_off_the_end_and_nothing_else(written: str, left: str) -> None:
    assert without_end_tokens(written) == left
    assert without_end_tokens(left + "<my_end>", ["<my_end>", ""]) == left.removesuffix("<my_end>")


@given(hostile_text, hostile_text, st.sampled_from(["", "<|endoftext|>" * 3, "<s>"]))
def test_a_completion_is_what_follows_its_prompt(prompt: str, completion: str, before: str) -> None:
    if prompt and before + prompt != prompt and (before + prompt).find(prompt) != len(before):
        return
    assert completion_of(before * bool(prompt) + prompt + completion, prompt) == completion


@given(hostile_text)
def test_only_end_tokens_and_blanks_between_them_are_removed(completion: str) -> None:
    left = without_end_tokens(completion)
    assert completion.startswith(left)
    rest = completion[len(left) :]
    for token in END_TOKENS:
        rest = rest.replace(token, "")
    assert not rest.strip()


def test_a_prompt_that_is_not_in_the_query_is_none() -> None:
    assert completion_of("something", "else") is None
