# SPDX-License-Identifier: Apache-2.0
"""Remove special tokens from decoded policy text, and parse chat templates back into messages.

Trainers decode token ids. OpenRLHF sends prompt and completion as one text with every special token in it;
the prompt has been through the policy's chat template. A judge's template expects neither.

The rule of every door that takes one string: turns in a known markup become messages, whose contents stay as
the policy's template wrote them (a tool call as `<tool_call>{...}</tool_call>`, say); any other text stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from autoj_reward.types import Message, Text

END_TOKENS = (
    "<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|return|>",
    "<|end_of_turn|>", "<end_of_turn>", "<eos>", "<pad>", "</s>", "<｜end▁of▁sentence｜>", "[PAD]",
)  # fmt: skip
"""Tokens that end or pad a completion, by the families of models that use them."""

_BEGINNINGS = ("<|begin_of_text|>", "<bos>", "<s>", "<｜begin▁of▁sentence｜>", "[gMASK]<sop>")


@dataclass(frozen=True, slots=True)
class _Turns:
    """How a family of chat templates writes a turn: a pattern with the groups `role` and `text`.

    `answer` is what asks for the assistant's turn.
    """

    pattern: re.Pattern[str]
    answer: str


_FAMILIES = (
    # ChatML: Qwen, SmolLM, Yi, ...
    _Turns(
        re.compile(r"<\|im_start\|>(?P<role>\w+)\n(?P<text>.*?)(?:<\|im_end\|>\n?|\Z)", re.DOTALL),
        "<|im_start|>assistant\n",
    ),
    # Llama 3.
    _Turns(
        re.compile(
            r"<\|start_header_id\|>(?P<role>\w+)<\|end_header_id\|>\n\n(?P<text>.*?)(?:<\|eot_id\|>|\Z)",
            re.DOTALL,
        ),
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    # Gemma.
    _Turns(
        re.compile(r"<start_of_turn>(?P<role>\w+)\n(?P<text>.*?)(?:<end_of_turn>\n?|\Z)", re.DOTALL),
        "<start_of_turn>model\n",
    ),
    # Zephyr, Phi.
    _Turns(
        re.compile(
            r"<\|(?P<role>system|user|assistant)\|>\n(?P<text>.*?)(?:(?:<\|end\|>|</s>)\n?|\Z)", re.DOTALL
        ),
        "<|assistant|>\n",
    ),
)
_LLAMA2 = re.compile(r"\A(?:<s>)?\s*\[INST\] ?(?P<text>.*?) ?\[/INST\]\s*\Z", re.DOTALL)


def without_end_tokens(completion: str, further: Sequence[str] = ()) -> str:
    """A completion without the special tokens at its end, and the blanks between those.

    Args:
        completion: Decoded tokens.
        further: The policy's own end and padding tokens, besides `END_TOKENS`.
    """
    tokens = (*END_TOKENS, *(t for t in further if t))
    # By places and not by copies: a text can be nothing but end tokens.
    end = len(completion)
    while True:
        seen = end
        while seen and completion[seen - 1].isspace():
            seen -= 1
        token = next((t for t in tokens if completion.endswith(t, 0, seen)), None)
        if token is None:
            return completion[:end]
        end = seen - len(token)


def completion_of(query: str, prompt: str) -> str | None:
    """What follows the prompt in a query; None where the query does not hold the prompt.

    Before it only what a tokenizer adds (a beginning of sequence) or padding may stand, so the first place
    where the prompt is found is the prompt, whatever the completion quotes.
    """
    start = query.find(prompt)
    return None if start < 0 else query[start + len(prompt) :]


def exchange_of(prompt: str, completion: str, further: Sequence[str] = ()) -> tuple[Text, Text]:
    """What was asked and what was answered, from a prompt's and a completion's decoded tokens.

    A `<think>` that the chat template opens at the prompt's end belongs to the completion.

    Args:
        prompt: As it went to the policy.
        completion: What the policy wrote after it.
        further: The policy's own end and padding tokens, besides `END_TOKENS`.
    """
    asked = messages_of(prompt)
    if not isinstance(asked, str) and len(asked) > 1 and asked[-1]["role"] == "assistant":
        opening = asked[-1]["content"]
        if opening.lstrip().startswith("<think>"):
            asked, completion = asked[:-1], opening + completion
    return asked, answer_of(completion, further)


def answer_of(completion: str, further: Sequence[str] = ()) -> Text:
    """A completion without its end tokens; as messages where it holds several turns of a known markup."""
    text = without_end_tokens(completion, further)
    for family in _FAMILIES:
        messages = _turns(family.answer + text, family.pattern)
        if messages is not None and len(messages) > 1:
            return messages
    return text


def messages_of(prompt: str) -> Text:
    """A prompt that went through a chat template, as messages again; any other prompt unchanged.

    ChatML, Llama 2 and 3, Gemma, Zephyr and Phi are known. The empty turn that asks for an answer is left
    out. A text that is not turns from its beginning to its end is no templated prompt.
    """
    start = 0
    while begun := next((b for b in _BEGINNINGS if prompt.startswith(b, start)), None):
        start += len(begun)
    text = prompt[start:]
    if single := _LLAMA2.match(text):
        # Several turns of Llama 2 hold further markers, and stay as they are.
        return prompt if "[INST]" in single["text"] else [{"role": "user", "content": single["text"]}]
    for family in _FAMILIES:
        if (messages := _turns(text, family.pattern)) is not None:
            return messages
    return prompt


def _turns(text: str, pattern: re.Pattern[str]) -> list[Message] | None:
    messages: list[Message] = []
    end = 0
    for match in pattern.finditer(text):
        if match.start() != end:
            return None
        end = match.end()
        role = {"model": "assistant"}.get(match["role"], match["role"])
        messages.append({"role": role, "content": match["text"]})
    if not messages or end != len(text):
        return None
    if messages[-1]["role"] == "assistant" and not messages[-1]["content"].strip():
        messages.pop()
    return messages or None
