# SPDX-License-Identifier: Apache-2.0
"""The judge `small` with its real weights, where this machine has them."""

from __future__ import annotations

import json
import os

import pytest

from autoj_reward.engines.checkpoint.embedded import SMALL_BASE
from autoj_reward.engines.checkpoint.published import NAMED_BY, PUBLISHED, weights_folder
from autoj_reward.judge.judge import Judge
from tests.conftest import REPO

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        NAMED_BY not in os.environ and not (weights_folder() / PUBLISHED[SMALL_BASE].name).is_file(),
        reason="needs the weights of the judge small: python benchmarks/weights.py",
    ),
]


def test_lists_of_three_animals_are_rated_above_a_line_about_a_reef() -> None:
    text = (REPO / "examples" / "completions.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    (row,) = (row for row in rows if row["prompt"].startswith("Name three animals"))
    lists = [text for text in row["completions"] if "\n2." in text and "\n3." in text]
    assert len(lists) > 3
    completions = [*lists, "1. The Great Barrier Reef."]
    assert completions[-1] in row["completions"]
    with Judge.load("small", engine="transformers", cache=False) as judge:
        *rated, reef = judge.rate([row["prompt"]] * len(completions), completions)
    assert reef.expected_rating is not None
    assert all(j.expected_rating is not None and j.expected_rating > reef.expected_rating for j in rated)
