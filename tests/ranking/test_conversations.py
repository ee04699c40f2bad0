# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from autoj_reward import Judge, compare_conversations
from autoj_reward.errors import ConfigError


def talk(*said: str, asked: str = "And then?") -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = [{"role": "user", "content": "Begin."}]
    for n, text in enumerate(said):
        if n:
            turns.append({"role": "user", "content": asked})
        turns.append({"role": "assistant", "content": text})
    return turns


def test_every_turn_of_the_assistant_counts(judge: Judge) -> None:
    """The last turns are equal: the difference is in the first."""
    good, bad = talk("quality 9", "Done."), talk("quality 2", "Done.")
    one, other = compare_conversations(judge, [good, bad], [bad, good])
    assert one.win_prob is not None
    assert one.win_prob > 0.8
    assert other.win_prob == pytest.approx(1 - one.win_prob)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (talk("a", "b"), talk("a", "b", asked="Why?")),
        (talk("a"), talk("a", "b")),
        (talk("a")[:1], talk("a")[:1]),
    ],
    ids=["other question", "other length", "no answer"],
)
def test_groups_that_cannot_be_compared_are_refused(judge: Judge, first: Any, second: Any) -> None:
    with pytest.raises(ConfigError, match="conversations 0"):
        compare_conversations(judge, [first], [second])
