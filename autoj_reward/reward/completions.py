# SPDX-License-Identifier: Apache-2.0
"""Choose what a judge sees of a policy's completion: last turn or transcript, with or without reasoning."""

from __future__ import annotations

from typing import Literal

from autoj_reward.judge.messages.text import Reasoning, ShownText, check_reasoning, completion_text
from autoj_reward.types import Text

Thinking = Literal["strip", "strip_opened", "judge", "keep"]
"""As `Reasoning`; judge is the former name of keep."""

Shown = Literal["last", "transcript"]
"""transcript: all turns of the completion, tool calls and results included. last: the last assistant turn."""


def shown_completion(
    completion: Text, *, shown: Shown = "transcript", thinking: Thinking = "strip"
) -> ShownText:
    """A completion as the judge sees it; see `completion_text`.

    Args:
        completion: What the policy wrote: text, or messages (tool calls and tool results among them).
        shown: Which turns of a completion that is messages.
        thinking: What is done with the policy's reasoning, in each of its turns.

    Raises:
        ConfigError: Messages hold no assistant turn, or something that cannot be shown.
    """
    turns: Literal["all", "last"] = "last" if shown == "last" else "all"
    return ShownText(completion_text(completion, reasoning_of(thinking), turns))


def reasoning_of(thinking: str) -> Reasoning:
    """The option by its present name.

    Raises:
        ConfigError: It is none of the choices.
    """
    return check_reasoning("keep" if thinking == "judge" else thinking)
