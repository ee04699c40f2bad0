# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from autoj_reward import Judge, LabelSettings, label_dataset
from autoj_reward.errors import ConfigError, DataError
from tests.quality import noisy_engine

datasets = pytest.importorskip("datasets", reason="needs datasets: the data extra")


def test_a_dataset_goes_in_and_comes_out() -> None:
    source = datasets.Dataset.from_list(
        [
            {"question": "Q", "answers": ["quality 3", "quality 8", "quality 6"]},
            {"question": "R", "answers": ["x"]},
        ]
    )
    with Judge.load("mini", engine=noisy_engine(), mode="direct") as judge:
        made = label_dataset(
            source,
            judge,
            columns={"prompt": "question", "completions": "answers"},
            settings=LabelSettings(pairs="adjacent"),
        )
        # The largest margin first.
        assert [(r["chosen"], r["rejected"]) for r in made] == [
            ("quality 6", "quality 3"), ("quality 8", "quality 6")
        ]  # fmt: skip
        assert [r["source"]["line"] for r in made] == [1, 1]
        pairs = datasets.Dataset.from_list([{"prompt": "Q", "first": "quality 2", "second": "quality 9"}])
        assert label_dataset(pairs, judge)["chosen"] == ["quality 9"]
        empty = label_dataset(datasets.Dataset.from_list([{"prompt": "Q", "completions": ["x"]}]), judge)
        assert len(empty) == 0


def test_a_bad_dataset_is_refused_before_judging() -> None:
    engine = noisy_engine()
    rows = [
        {"prompt": "Q", "completions": ["quality 2", "quality 9"]},
        {"prompt": None, "completions": ["x"]},
    ]
    with Judge.load("mini", engine=engine, mode="direct") as judge:
        with pytest.raises(DataError, match="data set:2: field 'prompt'"):
            label_dataset(datasets.Dataset.from_list(rows), judge)
        with pytest.raises(ConfigError, match="no column first, second"):
            label_dataset(datasets.Dataset.from_list([{"prompt": "Q", "replies": ["x"]}]), judge)
    assert engine.n_inputs == 0
