# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoj_reward.errors import ConfigError
from tests.cli.conftest import Run, write_rows


def test_evaluate_selection_prints_and_keeps_what_picks_are_worth(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: the extra `report`")
    outputs = {"m": {"outputs": ["Paris.", "Berlin.", "something"], "gold": [1, 0, 0.5]}}
    write_rows(
        tmp_path / "selection.jsonl",
        [{"scenario": "s", "prompt": f"Q{n}", "outputs": outputs} for n in range(3)],
    )
    result = run(
        "evaluate", "selection", "--data", "selection.jsonl", "--n", "2,3", "--strategies", "pointwise,greedy",
        "-o", "report.json", "--plots", "plots",
    )  # fmt: skip
    report = json.loads((tmp_path / "report.json").read_text())
    rows = {(r["n"], r["name"]): r for r in report["rows"]}
    assert rows[3, "pointwise"]["gold"]["value"] == 1.0
    assert rows[3, "pointwise"]["calls"] == 3
    assert rows[3, "random"]["gold"]["value"] == 0.5
    assert {p["below"] for p in report["paired"]} == {"greedy"}
    assert "pointwise" in result.stdout
    page = json.loads(run("report", "report.json", "--json", judge=False).stdout)
    assert {"judge", "versions", "command"} <= page["about"].keys()
    gold = next(part for part in page["parts"] if part["id"] == "gold")
    assert gold["x"] == [2.0, 3.0]
    assert gold["series"]["random"] == [rows[n, "random"]["gold"]["value"] for n in (2, 3)]
    assert sorted(p.suffix for p in (tmp_path / "plots").iterdir()) == [".png", ".png"]


def test_failed_judgments_are_counted_and_in_the_exit_status(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completions": ["Paris", "mumble"], "gold": [1, 0]}])
    arguments = ["evaluate", "selection", "in.jsonl", "--n", "2", "--strategies", "pointwise,greedy"]
    done = run(*arguments, "--mode", "direct", "-o", "report.json")
    assert done.exit_code == 3
    assert "failed    1 low_mass" in done.stderr
    assert json.loads((tmp_path / "report.json").read_text())["failures"] == {"low_mass": 1}
    assert run(*arguments, "--mode", "direct", "--allow-failures").exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give IN, or --set NAME"),
        (["--set", "nowhere"], "the set 'nowhere' is unknown"),
        (["x.jsonl", "--n", "two"], "not numbers"),
        (["--data", "x.jsonl"], "there is no file"),
    ],
)
def test_wrong_options_are_said(run: Run, options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run("evaluate", "selection", *options)
