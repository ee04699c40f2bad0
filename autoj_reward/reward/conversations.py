# SPDX-License-Identifier: Apache-2.0
"""Comparing whole conversations, every turn of the assistant counted."""

from __future__ import annotations

from collections.abc import Sequence

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.layout import prompt_text
from autoj_reward.judgments import PairJudgment
from autoj_reward.types import Message


def compare_conversations(
    judge: Judge, firsts: Sequence[Sequence[Message]], seconds: Sequence[Sequence[Message]]
) -> list[PairJudgment]:
    """Compare pairs of conversations in which the same was asked.

    The judge is shown the first user turn as the prompt, and all that follows, laid out as turns, as the
    completion.

    Args:
        judge: Compares.
        firsts: B conversations: messages of `user` and `assistant`, perhaps after a `system` message.
        seconds: B conversations with the same turns but for the assistant's.

    Returns:
        B judgments in the same order. Win probabilities are of the first conversation.

    Raises:
        ConfigError: Numbers differ, or two conversations differ in more than the assistant's turns.
        EngineError: The engine failed as a whole.
    """
    if len(firsts) != len(seconds):
        raise ConfigError(f"there are {len(firsts)} first conversations and {len(seconds)} second ones")
    prompts, texts = [], []
    for n, pair in enumerate(zip(firsts, seconds, strict=True)):
        asked = [[(m.get("role"), _said(m)) for m in c] for c in pair]
        if asked[0] != asked[1]:
            raise ConfigError(f"conversations {n} differ in more than what the assistant says")
        opening = next((i for i, m in enumerate(pair[0]) if m.get("role") == "user"), None)
        if opening is None or pair[0][-1].get("role") != "assistant":
            raise ConfigError(f"conversations {n} have no user turn, or do not end with the assistant's")
        prompts.append(pair[0][: opening + 1])
        texts.append([prompt_text(c[opening + 1 :]) for c in pair])
    return judge.compare(prompts, [t[0] for t in texts], [t[1] for t in texts])


def _said(message: Message) -> object:
    """What both conversations must share of a message."""
    return None if message.get("role") == "assistant" else message.get("content")
