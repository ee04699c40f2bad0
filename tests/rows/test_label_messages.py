# SPDX-License-Identifier: Apache-2.0
"""Training files keep messages as they were given; other shapes become role, content and tool calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoj_reward import Judge
from autoj_reward.ranking.label import label
from autoj_reward.rows.preferences import data_rows, label_dataset
from tests.quality import QualityEngine

CALL = {"id": "c", "type": "function", "function": {"name": "add", "arguments": {"q": "q=9"}}}
CALLS = [{"role": "assistant", "content": None, "tool_calls": [CALL]}]
CANNOT = [{"from": "gpt", "value": "I cannot know that. q=2"}]


def made(prompt: Any, group: list[Any], layout: Any, kind: Any = "dpo") -> list[dict[str, Any]]:
    judge = Judge.load("mini", mode="direct", engine=QualityEngine(), guard=True)
    (labelled,) = label(judge, [prompt], [group])
    return data_rows(prompt, group, labelled, layout=layout, kind=kind)


def test_a_tool_call_is_kept_and_preferred() -> None:
    (row,) = made([{"from": "human", "value": "Q"}], [CANNOT, CALLS], "conversational")
    assert row["prompt"] == [{"role": "user", "content": "Q"}]
    assert row["chosen"] == CALLS
    assert row["rejected"] == [{"role": "assistant", "content": "I cannot know that. q=2"}]


def test_texts_name_the_call() -> None:
    (row,) = made([{"from": "human", "value": "Q"}], [CANNOT, CALLS], "standard")
    assert (row["prompt"], row["chosen"]) == ("Q", '[calls add({"q": "q=9"})]')


def test_kto_rows_keep_the_call() -> None:
    rows = made("Q", [CANNOT, CALLS], "conversational", "kto")
    assert {r["label"]: r["completion"] for r in rows if r["label"]} == {True: CALLS}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (
            [{"from": "function_call", "value": '{"name": "add", "arguments": {"q": "q=9"}}'},
             {"from": "observation", "value": "13"}, {"from": "gpt", "value": "13"}],
            [{"role": "assistant", "content": "", "tool_calls": [
                {"type": "function", "function": {"name": "add", "arguments": {"q": "q=9"}}}]},
             {"role": "tool", "content": "13"}, {"role": "assistant", "content": "13"}],
        ),
        (
            [{"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "q=9"}]}],
            [{"role": "assistant", "content": "q=9", "reasoning_content": "hm"}],
        ),
        (
            [{"role": "assistant", "content": "<think>hm</think>q=9", "name": None}],
            [{"role": "assistant", "content": "<think>hm</think>q=9"}],
        ),
        (
            [{"role": "assistant", "content": "q=9", "reasoning_content": "hm", "weight": 1}],
            [{"role": "assistant", "content": "q=9", "reasoning_content": "hm", "weight": 1}],
        ),
    ],
    ids=["ShareGPT", "parts", "inline reasoning", "as given"],
)  # fmt: skip
def test_completions_in_training_files(given: Any, kept: Any) -> None:
    (row,) = made("Q", ["q=1", given], "conversational")
    assert (row["chosen"], row["rejected"]) == (kept, [{"role": "assistant", "content": "q=1"}])


def test_a_data_set_whose_rows_have_calls_or_none(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    texts = [[{"role": "assistant", "content": c, "tool_calls": None}] for c in ("q=2", "q=8")]
    calls = [[{"role": "assistant", "content": c, "tool_calls": [CALL]}] for c in ("q=1", "")]
    data = datasets.Dataset.from_list(
        [{"prompt": "P", "completions": texts}, {"prompt": "Q", "completions": calls}]
    )
    judge = Judge.load("mini", mode="direct", engine=QualityEngine(), guard=True)
    rows = label_dataset(data, judge, chunk_requests=1)
    assert len(rows) == 2
    assert rows[1]["chosen"][0]["tool_calls"][0]["function"]["arguments"] == {"q": "q=9"}
