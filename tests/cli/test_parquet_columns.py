# SPDX-License-Identifier: Apache-2.0
"""Rows with values that no Parquet column holds are written, and read back unchanged."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoj_reward.json_text import finite
from autoj_reward.rows.source import ParquetRows
from tests.cli.conftest import Run, write_rows
from tests.conftest import examples

MIXED = {
    "number and text": (1, "x"),
    "number and list": (1, [1]),
    "objects without fields": ({}, {}),
    "an integer over 64 bits": (2**70, 1),
    "a large integer and a fraction": (2**60 + 1, 0.5),
    "true and a number": (True, 2),
    "lists of both": ([1, "x"], [2]),
    "objects of both": ({"a": 1}, {"a": "x"}),
    "text and messages": ("hi", [{"role": "user", "content": "hi"}]),
}


@pytest.mark.parametrize("target", ["out.parquet", "out.jsonl"])
@pytest.mark.parametrize("name", MIXED)
def test_values_of_several_types_are_written_and_read_back(
    run: Run, tmp_path: Path, name: str, target: str
) -> None:
    """A traceback after all judging, and again at every further run."""
    rows = [{"prompt": "Q", "completion": f"Paris {n}", "m": value} for n, value in enumerate(MIXED[name])]
    write_rows(tmp_path / "in.jsonl", rows)
    result = run("rate", "in.jsonl", "-o", target, catch_exceptions=True)
    assert result.exception is None
    assert ("written as JSON text" in result.stderr) == (target == "out.parquet")
    again = run("rate", target, "-o", "again.jsonl", catch_exceptions=True)
    assert again.exception is None
    read = [row for _, row in ParquetRows(tmp_path / target).rows()] if target == "out.parquet" else []
    assert [row["m"] for row in read if isinstance(row, dict)] == (list(MIXED[name]) if read else [])


def test_prompts_of_both_kinds_come_back_as_both_kinds(run: Run, tmp_path: Path) -> None:
    prompts = ["Q", [{"role": "user", "content": "Q"}]]
    write_rows(tmp_path / "in.jsonl", [{"prompt": p, "completion": "Paris"} for p in prompts])
    result = run("rate", "in.jsonl", "-o", "out.parquet", catch_exceptions=True)
    assert result.exception is None
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 2
    assert run("rate", "out.parquet", "-o", "again.parquet", "--no-cache").exit_code == 0
    rows = [row for _, row in ParquetRows(tmp_path / "again.parquet").rows()]
    assert [row["prompt"] for row in rows if isinstance(row, dict)] == prompts


@pytest.mark.parametrize("target", ["out.parquet", "out"])
def test_labels_of_prompts_of_both_kinds(run: Run, tmp_path: Path, target: str) -> None:
    prompts = ["Q", [{"role": "user", "content": "Q"}]]
    rows = [{"prompt": p, "completions": ["Paris", "Berlin"], "m": n or "x"} for n, p in enumerate(prompts)]
    write_rows(tmp_path / "in.jsonl", rows)
    assert run("label", "in.jsonl", "-o", target, catch_exceptions=True).exception is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=3), s, max_size=3),
    max_leaves=6,
)


@given(values=st.lists(VALUES, min_size=1, max_size=4))
@settings(max_examples=examples(150))
def test_any_column_can_be_written_and_holds_what_was_given(values: list[Any]) -> None:
    from autoj_reward.rows.columns import Columns
    from autoj_reward.rows.parquet import write_parquet

    rows = [{"m": value} for value in values]
    columns = Columns()
    for row in rows:
        columns.add(row)
    with tempfile.TemporaryDirectory() as folder:
        write_parquet(Path(folder) / "out.parquet", iter(rows), Path(folder))
        read = [
            row["m"] for _, row in ParquetRows(Path(folder) / "out.parquet").rows() if isinstance(row, dict)
        ]
    if columns.as_json:
        # JSON has no infinity: such a number is null.
        assert read == finite(values)
    else:
        assert [_without_nulls(value) for value in read] == [_without_nulls(value) for value in values]


def _without_nulls(value: Any) -> Any:
    """Structs have every field in every row."""
    if isinstance(value, dict):
        return {k: made for k, v in value.items() if (made := _without_nulls(v)) not in (None, {})} or None
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
