# SPDX-License-Identifier: Apache-2.0
"""Compare whole conversations, every assistant turn included."""

from __future__ import annotations

from collections.abc import Sequence

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.columns import as_column
from autoj_reward.judge.messages.text import ShownText, conversation_text, prompt_text
from autoj_reward.judge.messages.turns import as_messages, read_turns, role_of
from autoj_reward.judgments import PairJudgment
from autoj_reward.types import Message


def compare_conversations(
    judge: Judge, firsts: Sequence[Sequence[Message]], seconds: Sequence[Sequence[Message]]
) -> list[PairJudgment]:
    """Compare pairs of conversations with the same user turns.

    The prompt is the first user turn; the completion is all turns that follow, as text.

    Args:
        judge: The judge.
        firsts: B conversations: `user` and `assistant` messages, perhaps after a `system` message; the
            assistant may call tools.
        seconds: B conversations that differ from `firsts` in assistant and tool turns only.

    Returns:
        B judgments in the same order. Win probabilities are of the first conversation.

    Raises:
        ConfigError: Lengths differ, or two conversations differ in other turns, or do not have a user turn
            first and an assistant turn last.
        EngineError: The engine failed as a whole.
    """
    firsts, seconds = as_column("firsts", firsts), as_column("seconds", seconds)
    if len(firsts) != len(seconds):
        raise ConfigError(f"there are {len(firsts)} first conversations and {len(seconds)} second ones")
    rule = judge.settings.reasoning
    prompts, texts = [], []
    for n, pair in enumerate(zip(firsts, seconds, strict=True)):
        try:
            first, second = (as_messages(conversation) for conversation in pair)
            asked = [_asked(conversation) for conversation in (first, second)]
            roles = [role_of(message) for message in first]
            ends = role_of(second[-1])
            if asked[0] == asked[1] and "user" in roles and roles[-1] == ends == "assistant":
                opening = roles.index("user")
                prompts.append(prompt_text(first[: opening + 1], rule))
                texts.append([ShownText(conversation_text(c[opening + 1 :], rule)) for c in (first, second)])
                continue
        except ConfigError as error:
            raise ConfigError(f"conversations {n}: {error.args[0]}", hint=error.hint) from None
        if asked[0] != asked[1]:
            raise ConfigError(f"conversations {n} differ in more than what the assistant says")
        raise ConfigError(f"conversations {n} have no user turn, or do not end with the assistant's")
    return judge.compare(prompts, [t[0] for t in texts], [t[1] for t in texts])


def _asked(messages: Sequence[Message]) -> list[tuple[str, str, str]]:
    """The turns that both conversations must share."""
    return [
        (turn.role, turn.label, "".join(piece.text for piece in turn.pieces))
        for turn in read_turns(messages)
        if turn.role not in ("assistant", "tool")
    ]
