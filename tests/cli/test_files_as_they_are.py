# SPDX-License-Identifier: Apache-2.0
"""Published files through the command line: recognised, said, judged, measured."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from autoj_reward.errors import ConfigError, DataError
from tests.cli.conftest import Run, read_rows, write_rows
from tests.rows.shapes import SHAPES

PAIRS = [
    {"prompt": f"Capital of France, {n}?", "chosen": "It is Paris.", "rejected": "It is Berlin."}
    for n in range(4)
]


def test_the_recognised_format_is_said_and_can_be_named(run: Run, tmp_path: Path) -> None:
    with open(tmp_path / "in.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["instruction", "output"], ["Name it.", "Paris"], ["Name it, too.", "Berlin"]])
    done = run("rate", "in.csv", "-o", "out.jsonl")
    assert done.exit_code == 0
    assert "in.csv is read as Alpaca; AlpacaEval's model outputs (--format instruction-output)" in done.stderr
    assert [row["rating"] for row in read_rows(tmp_path / "out.jsonl")] == [9, 2]
    assert json.loads((tmp_path / "out.jsonl.run.json").read_text())["run"]["format"] == "instruction-output"
    named = run("rate", "in.csv", "-o", "named.jsonl", "--format", "instruction-output")
    assert "is read as" not in named.stderr
    assert (tmp_path / "named.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()
    again = run(
        "rescore", "out.jsonl", "-o", "again.jsonl", "--from-critiques", judge=False, catch_exceptions=True
    )
    assert "field" not in str(again.exception)


def test_rows_of_another_command_are_refused_with_the_command(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", PAIRS)
    with pytest.raises(ConfigError, match="compare, rerank and label read them"):
        run("rate", "in.jsonl", "-o", "out.jsonl")
    with pytest.raises(ConfigError, match="rate does not read the format 'hh'"):
        run("rate", "in.jsonl", "-o", "out.jsonl", "--format", "hh")


def test_a_wrong_column_says_the_nearest_format_and_shows_five_rows(run: Run, tmp_path: Path) -> None:
    write_rows(
        tmp_path / "in.jsonl", [{"prompt": "Q", "chosen": f"answer {n}", "rejectd": "B"} for n in range(7)]
    )
    with pytest.raises(DataError) as error:
        run("compare", "in.jsonl", "-o", "out.jsonl")
    said = str(error.value)
    assert "7 of 7 rows cannot be read" in said
    assert "nearly chosen-rejected" in said
    assert "no rejected" in said
    assert said.count('"rejectd"') == 5


def test_agreement_is_measured_on_what_people_preferred(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "pairs.jsonl", PAIRS)
    done = run("evaluate", "pairwise", "pairs.jsonl", "--by-rating", "--json")
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["overall"]["one_order"]["percent"] == 100.0
    assert figures["overall"]["kappa"] is None
    assert "next      autoj-reward report FIGURES.json" in done.stderr
    table = run("evaluate", "pairwise", "pairs.jsonl", "--by-rating")
    assert "next      the same command with --json > figures.json" in table.stderr
    shown = table.stdout
    assert "decided by: mini in direct mode, id " in shown
    assert "people prefer the same place in every pair: no kappa, which could only be 0" in shown
    assert "consistency: one choice in both orders" in shown
    with pytest.raises(ConfigError, match="prefer the first completion in every pair"):
        run("evaluate", "pairwise", "pairs.jsonl", "--one-order")
    labelled = [
        {"prompt": f"Q{n}", "first": "Berlin", "second": "Paris", "people": "second"} for n in range(3)
    ]
    write_rows(tmp_path / "own.jsonl", labelled)
    mapped = run("evaluate", "pairwise", "own.jsonl", "--by-rating", "--json", "--column", "label=people")
    assert json.loads(mapped.stdout)["overall"]["one_order"]["percent"] == 100.0
    with pytest.raises(DataError, match=r"own.jsonl:1: field 'label': is missing: what people preferred"):
        run("evaluate", "pairwise", "own.jsonl", "--by-rating")


def test_what_compare_wrote_is_measured_against_the_file_that_it_read(run: Run, tmp_path: Path) -> None:
    """The recorded judge prefers what is shown first, so its two orders disagree."""
    write_rows(tmp_path / "pairs.jsonl", [{"prompt": "Q", "chosen": "yes", "rejected": "no"}] * 3)
    assert run("compare", "pairs.jsonl", "-o", "judged.jsonl").exit_code == 0
    done = run("evaluate", "pairwise", "pairs.jsonl", "--predictions", "judged.jsonl", "--json", judge=False)
    figures = json.loads(done.stdout)
    assert figures["overall"]["consistency"]["percent"] == 0.0
    assert figures["about"]["judge"]["judge"] == "mini"
    write_rows(tmp_path / "decided.jsonl", [{"output": 0}] * 3)
    named = run(
        "evaluate", "pairwise", "pairs.jsonl", "--predictions", "decided.jsonl", "--json", judge=False
    )
    (tmp_path / "figures.json").write_text(named.stdout)
    head = json.loads(run("report", "figures.json", "--json", judge=False).stdout)["about"]
    assert head["judge"] == "decisions of decided.jsonl"
    assert {"date", "command", "versions"} <= head.keys()


def test_best_of_n_is_measured_on_pairs_and_groups(run: Run, tmp_path: Path) -> None:
    for name, rows in {
        "pairs": PAIRS,
        "groups": [{"prompt": f"Q{n}", "responses": ["Berlin", "Paris"], "scores": [0, 1]} for n in range(3)],
        "bench": [SHAPES["RewardBench 2"].row],
    }.items():
        write_rows(tmp_path / f"{name}.jsonl", rows)
        run(
            "evaluate",
            "selection",
            f"{name}.jsonl",
            "--n",
            "2",
            "--strategies",
            "pointwise",
            "-o",
            "report.json",
        )
        rows_of = json.loads((tmp_path / "report.json").read_text())["rows"]
        picked = {r["name"]: r["gold"]["value"] for r in rows_of}
        assert picked["pointwise"] >= picked["random"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "title"),
    [("rate", "ShareGPT"), ("compare", "RewardBench"), ("rerank", "UltraFeedback"), ("label", "Skywork")],
)
def test_the_embedded_judge_reads_them(run: Run, tmp_path: Path, command: str, title: str) -> None:
    write_rows(tmp_path / "in.jsonl", [SHAPES[title].row] * 2)
    done = run(command, "in.jsonl", "-o", "out.jsonl", "--mode", "direct", judge=False)
    assert done.exit_code == 0, done.output
    rows = read_rows(tmp_path / "out.jsonl")
    assert all(row.get("failure") is None for row in rows)
    assert len(rows) == 2 or command == "label"
