# SPDX-License-Identifier: Apache-2.0
"""A panel as the judge of the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoj_reward.errors import ConfigError
from tests.cli.conftest import RATINGS, Run, read_rows, write_rows
from tests.quality import as_read

PANEL = """kind = "panel"
[[members]]
judge = "mini"
weight = 3
[[members]]
judge = "mini"
name = "by ratings"
compare_by = "ratings"
"""
PAIR = {"prompt": "Capital of France?", "first": "Paris", "second": "Berlin", "preference": "first"}


@pytest.fixture
def panel(tmp_path: Path, recorded: list[str]) -> str:
    # What is asked comes first: a comparison shows the words of the answers too.
    comparison = {"contains": ["Response 1"], "reading": as_read({"Response 1": 0.5, "Response 2": 0.5})}
    write_rows(tmp_path / "recorded.jsonl", [comparison, *RATINGS])
    (tmp_path / "panel.toml").write_text(PANEL)
    return "--judge=panel.toml"


def test_rate_compare_and_rerank_take_a_panel(run: Run, tmp_path: Path, panel: str) -> None:
    write_rows(tmp_path / "one.jsonl", [{"prompt": "Capital of France?", "completion": "Paris"}])
    assert run("rate", "one.jsonl", "-o", "rated.jsonl", panel).exit_code == 0
    (row,) = read_rows(tmp_path / "rated.jsonl")
    assert row["rating"] == 9.0
    assert [m["name"] for m in row["members"]] == ["mini", "by ratings"]
    write_rows(tmp_path / "pairs.jsonl", [PAIR])
    run("compare", "pairs.jsonl", "-o", "compared.jsonl", panel)
    (row,) = read_rows(tmp_path / "compared.jsonl")
    # Compared they are even; its ratings prefer Paris.
    assert [m["value"] for m in row["members"]] == pytest.approx([0.5, 1.0])
    assert row["win_prob"] == pytest.approx((3 * 0.5 + 1.0) / 4)
    assert row["agreement"] == pytest.approx(0.5)
    again = run("compare", "pairs.jsonl", "-o", "compared.jsonl", panel)
    assert "is finished" in again.stderr
    write_rows(tmp_path / "groups.jsonl", [{"prompt": "Capital?", "completions": ["Berlin", "Paris"]}])
    run("rerank", "groups.jsonl", "-o", "ranked.jsonl", panel)
    assert read_rows(tmp_path / "ranked.jsonl")[0]["best_completion"] == "Paris"


def test_a_row_in_parquet_and_a_dry_run(run: Run, tmp_path: Path, panel: str) -> None:
    write_rows(tmp_path / "one.jsonl", [{"prompt": "Capital of France?", "completion": "Paris"}])
    shown = run("rate", "one.jsonl", "-o", "rated.parquet", panel, "--dry-run").stdout
    assert "member 2    by ratings: judge mini" in shown
    assert "1 requests, 2 inputs to the model" in shown
    assert run("rate", "one.jsonl", "-o", "rated.parquet", panel).exit_code == 0


def test_calibrate_fits_the_weights_of_a_panel(run: Run, tmp_path: Path, panel: str) -> None:
    swapped = {**PAIR, "first": PAIR["second"], "second": PAIR["first"], "preference": "second"}
    write_rows(tmp_path / "pairs.jsonl", [PAIR, swapped] * 12)
    (fit,) = json.loads(run("calibrate", "pairs.jsonl", panel, "--json").stdout)
    assert fit["weights"]["by ratings"] > 0.9
    assert fit["n"] == 24
    text = run("calibrate", "pairs.jsonl", panel).stdout
    assert f'name = "by ratings"\nweight = {fit["weights"]["by ratings"]:.3f}' in text
    (tmp_path / "panel.toml").write_text('rule = "minimum"\n' + PANEL)
    with pytest.raises(ConfigError, match="the rule minimum"):
        run("calibrate", "pairs.jsonl", panel)
