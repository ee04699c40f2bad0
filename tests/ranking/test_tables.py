# SPDX-License-Identifier: Apache-2.0
"""Judgments and rankings as plain values, pandas tables and HTML; columns of pandas, Arrow and datasets in."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from autoj_reward import Judge, rank, to_pandas
from autoj_reward.ranking.tables import another_rating
from autoj_reward.rows.tasks import ADDED_FIELDS
from autoj_reward.testing import ScriptedEngine, untrusted_texts
from autoj_reward.types import Failure, FailureReason
from tests.conftest import REPO, needs

PROMPTS = ["Capital of France?", "2 + 2?", "A fruit?"]
COMPLETIONS = ["Paris", "5", "Apple"]


def read(item: Any) -> Any:
    text = untrusted_texts(item)[-1]
    if text == "broken":
        return Failure(reason=FailureReason.ENGINE, detail="<b>no answer</b>")
    return {"2" if text == "5" else "9": 0.75, "8": 0.25}


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load("mini", engine=ScriptedEngine(read=read), mode="direct")


def columns(kind: str, values: list[Any]) -> Any:
    if kind == "pandas":
        return pytest.importorskip("pandas").Series(values, index=range(7, 7 + len(values)))
    if kind == "arrow":
        return pytest.importorskip("pyarrow").chunked_array([values[:1], values[1:]])
    if kind == "arrow-backed pandas":
        return pytest.importorskip("pandas").Series(values, dtype="string[pyarrow]")
    if kind == "numpy":
        return pytest.importorskip("numpy").array(values)
    return pytest.importorskip("datasets").Dataset.from_dict({"x": values})["x"]


@pytest.mark.parametrize("kind", ["pandas", "arrow", "arrow-backed pandas", "numpy", "datasets"])
def test_columns_are_judged_as_lists_are(judge: Judge, kind: str) -> None:
    given = judge.rate(columns(kind, PROMPTS), columns(kind, COMPLETIONS))
    assert [j.reward for j in given] == [j.reward for j in judge.rate(PROMPTS, COMPLETIONS)]


@needs("pandas", extra="data")
def test_messages_and_missing_values_of_tables_are_read(judge: Judge) -> None:
    import numpy as np
    import pandas as pd

    from autoj_reward.judge.messages.columns import as_column

    messages = [{"role": "user", "content": "Q"}]
    frame = pd.DataFrame({"prompt": [messages, messages], "reference": ["A", None]})
    frame["prompt"] = [np.array(messages, dtype=object)] * 2  # as pandas reads lists from Parquet
    assert as_column("prompts", frame["prompt"]) == [messages, messages]
    assert as_column("references", frame["reference"]) == ["A", None]
    assert as_column("references", pd.Series(["A", pd.NA], dtype="string")) == ["A", None]
    assert len(judge.rate(frame["prompt"], pd.Series(["x", "y"]))) == 2


def test_a_judgment_is_written_as_the_commands_write_it(judge: Judge) -> None:
    good, broken = judge.rate(["Q", "Q"], ["Paris", "broken"])
    assert tuple(good.to_dict()) == ADDED_FIELDS["rate"]
    assert good.to_dict()["exactness"] == "exact"
    assert broken.to_dict()["failure"] == {"reason": "engine", "detail": "<b>no answer</b>"}
    assert broken.to_dict()["reward"] is None
    [pair] = judge.compare(["Q"], ["Paris"], ["Paris"])
    assert tuple(pair.to_dict()) == ADDED_FIELDS["compare"]
    for judgment in (good, broken, pair):
        assert json.loads(json.dumps(judgment.to_dict())) == judgment.to_dict()


@needs("pandas", extra="data")
def test_results_become_tables(judge: Judge) -> None:
    table = to_pandas(judge.rate(PROMPTS, COMPLETIONS))
    assert list(table.columns) == list(ADDED_FIELDS["rate"])
    assert table["reward"].tolist() == [8.75, 3.5, 8.75]
    groups = to_pandas(rank(judge, ["Q", "Q"], [["5", "Paris"], ["broken", "5", "Apple"]]))
    assert groups["group"].tolist() == [0, 0, 1, 1, 1]
    assert groups["index"].tolist() == [1, 0, 2, 1, 0]
    assert groups["rank"].isna().tolist() == [False, False, False, False, True]


def test_a_ranking_is_a_short_table_in_a_notebook(judge: Judge) -> None:
    [ranking] = rank(judge, ["Q"], [["5", "Paris", "broken", *(f"Apple {n}" for n in range(9))]])
    html = ranking._repr_html_()
    assert html.count("<tr>") == 11
    assert "12 completions" in html
    assert "2 more" in html
    [broken] = rank(judge, ["Q"], [["broken"]])
    assert "&lt;b&gt;no answer&lt;/b&gt;" in broken._repr_html_()
    assert "<b>" not in broken._repr_html_()
    assert "<th>index from 0</th>" in html
    assert another_rating({"rating": 4.0, "critique_rating": 4.0}) == ""
    assert another_rating({"rating": 4.0, "critique_rating": 7.0}).startswith(
        " (it states 7; the ranking is by the direct reading: rating 4"
    )
    assert ranking.to_dict()["best"] == ranking.best


@needs("datasets", extra="data")
def test_the_documented_recipe_for_a_data_set_runs(judge: Judge) -> None:
    import datasets

    text = (REPO / "docs" / "files.md").read_text(encoding="utf-8")
    [code] = [c for c in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "dataset.map(" in c]
    dataset = datasets.Dataset.from_dict({"prompt": PROMPTS, "completion": COMPLETIONS})
    names: dict[str, Any] = {"judge": judge, "dataset": dataset}
    exec(code, names)
    assert names["dataset"]["reward"] == [8.75, 3.5, 8.75]
    assert names["dataset"]["exactness"] == ["exact"] * 3
