# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoj_reward import ConfigError, DataError
from autoj_reward.integrations.trl_ppo_tokens import PromptBook

PAD = 2


def rows(prompts: list[list[int]], completions: list[list[int]], width: int = 6) -> tuple[Any, Any]:
    """As PPOTrainer makes them: left-padded prompts, completions, all padding masked and put to 0."""
    left = max(len(p) for p in prompts)
    ids = [
        [PAD] * (left - len(p)) + p + c + [PAD] * (width - len(c))
        for p, c in zip(prompts, completions, strict=True)
    ]
    mask = [[i != PAD for i in row] for row in ids]
    return [[i if i != PAD else 0 for i in row] for row in ids], mask


def book(*prompts: list[int]) -> PromptBook:
    return PromptBook([{"input_ids": p, "prompt": str(p)} for p in prompts], PAD)


def test_end_of_turn_that_is_padding_comes_back() -> None:
    """SmolLM2's chat prompts hold its padding token after every turn, and it arrived as token 0."""
    chat, brief = [7, 5, PAD, 9, 7, 6], [7, 8]
    found = book(chat, brief).split(*rows([chat, brief], [[4, PAD, 4], [0, 5]]))
    assert [row.known["prompt"] for row in found] == [str(chat), str(brief)]
    assert [row.completion_ids for row in found] == [[4, PAD, 4], [0, 5]]


def test_other_rows_tell_where_a_prompt_ends() -> None:
    short, long = [7, 8], [7, 8, 9]
    both = book(short, long)
    found = both.split(*rows([short, long], [[9, 5], [5]]))
    assert [row.completion_ids for row in found] == [[9, 5], [5]]
    with pytest.raises(DataError, match=r"row 0 .* ambiguous: .*columns 2, 3"):
        both.split(*rows([short], [[9, 5]]))


def test_an_unknown_prompt_is_named() -> None:
    with pytest.raises(DataError, match="row 1 of PPO's batch begins with no prompt"):
        book([7, 8]).split(*rows([[7, 8], [7, 7]], [[4], [4]]))


def test_empty_completions() -> None:
    found = book([7, 8]).split(*rows([[7, 8]], [[]]))
    assert found[0].completion_ids == []


def test_rows_that_contradict_each_other() -> None:
    same = {"input_ids": [7, 8], "prompt": "a", "reference": "1"}
    PromptBook([same, same], PAD)
    with pytest.raises(ConfigError, match="same tokens and different columns"):
        PromptBook([same, {**same, "reference": "2"}], PAD)
    with pytest.raises(ConfigError, match="no dataset rows"):
        PromptBook([], PAD)


tokens = st.lists(st.integers(0, 5), min_size=1, max_size=5)


@given(st.lists(tokens, min_size=1, max_size=5), st.data())
def test_splitting_undoes_joining(prompts: list[list[int]], data: st.DataObject) -> None:
    # Leading padding of a prompt cannot be told from the batch's own: it belongs to no prompt's text.
    prompts = [p for p in prompts if p[0] != PAD] or [[7]]
    known = book(*{tuple(p): p for p in prompts}.values())
    completions = [data.draw(st.lists(st.integers(0, 5), max_size=6)) for _ in prompts]
    try:
        found = known.split(*rows(prompts, completions))
    except DataError as error:
        assert "ambiguous" in str(error)  # noqa: PT017
        return
    for prompt, completion, row in zip(prompts, completions, found, strict=True):
        while completion and completion[-1] == PAD:
            completion = completion[:-1]
        assert row.known["prompt"] == str(prompt)
        assert row.completion_ids == completion
