# SPDX-License-Identifier: Apache-2.0
"""Completions that are cut several times: the mark says how much is missing in all."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from autoj_reward.judge.messages.truncate import truncate_evenly, truncate_middle
from autoj_reward.types import Request
from tests.conftest import examples


def left(text: str) -> int:
    return len(re.sub(r"\n\[\.\.\. \d+ characters left out \.\.\.\]\n", "", text))


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=5), st.integers(4000, 12_000))
def test_a_completion_that_is_cut_again_says_all_that_is_missing(overflows: list[int], n: int) -> None:
    """A later cut took the mark out and counted what that cut alone had removed."""
    request, cut = Request(prompt="p", completions=("x" * n,)), (0,)
    for overflow in overflows:
        request, cut = truncate_middle(request, overflow, cut)
    text = str(request.completions[0])
    assert text.count("characters left out") == 1
    assert n - left(text) == cut[0]
    assert f"[... {cut[0]} characters left out ...]" in text


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=4),
    st.lists(st.integers(0, 6000), min_size=1, max_size=5),
)
def test_a_list_that_is_cut_again_says_all_that_is_missing(overflows: list[int], sizes: list[int]) -> None:
    texts, cut = ["x" * n for n in sizes], [0] * len(sizes)
    for overflow in overflows:
        texts, cut = truncate_evenly(texts, overflow, cut)
    for text, n, missing in zip(texts, sizes, cut, strict=True):
        assert text.count("characters left out") == (missing > 0)
        assert n - left(text) == missing


def test_nothing_is_left_to_cut() -> None:
    request = Request(prompt="p", completions=("",))
    assert truncate_middle(request, 1, (7,)) == (request, (7,))
