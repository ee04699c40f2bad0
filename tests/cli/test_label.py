# SPDX-License-Identifier: Apache-2.0
"""`label` and `rerank --strategy` on files, with a judge that answers from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from autoj_reward.errors import ConfigError, DataError, TooManyFailures
from tests.cli.conftest import Run, read_rows, write_rows

GROUP = ["Berlin.", "Paris, of course.", "something else"]


def test_label_writes_what_dpo_reads(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completions": GROUP, "id": 7}])
    result = run("label", "in.jsonl", "-o", "out.jsonl")
    (row,) = read_rows(tmp_path / "out.jsonl")
    assert (row["prompt"], row["chosen"], row["rejected"]) == ("Q", "Paris, of course.", "Berlin.")
    assert row["margin"] == pytest.approx(6.6)
    assert row["win_prob"] == pytest.approx(1.0)
    assert row["chosen_reward"] == pytest.approx(8.6)
    assert row["source"]["line"] == 1
    assert (row["source"]["chosen_index"], row["source"]["rejected_index"]) == (1, 0)
    assert row["source"]["judge"] == "mini"
    assert sum(row["chosen_rating_probs"]) == pytest.approx(1.0)
    assert "1 rows of data from 1 prompts; pairs dropped: none" in result.stderr
    assert "margin" in result.stderr
    record = json.loads((tmp_path / "out.jsonl.run.json").read_text())
    assert record["complete"]
    assert record["data_rows"] == 1
    assert record["mean_chosen_chars"] == len("Paris, of course.")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "in.jsonl", "out.jsonl", "out.jsonl.run.json", "recorded.jsonl"
    ]  # fmt: skip


def test_conversations_stay_conversations_in_every_row(run: Run, tmp_path: Path) -> None:
    """A later row of plain texts becomes messages too: a file of two layouts cannot be loaded."""
    talk = [{"role": "user", "content": "Q"}]
    said = [[{"role": "assistant", "content": text}] for text in GROUP]
    rows: list[Any] = [{"prompt": talk, "completions": said}, {"prompt": "Q", "completions": GROUP}]
    write_rows(tmp_path / "in.jsonl", rows)
    run("label", "in.jsonl", "-o", "out.jsonl")
    for row in read_rows(tmp_path / "out.jsonl"):
        assert row["prompt"] == talk
        assert row["chosen"] == [{"role": "assistant", "content": "Paris, of course."}]
    run("label", "in.jsonl", "-o", "plain.jsonl", "--layout", "standard")
    assert all(row["chosen"] == "Paris, of course." for row in read_rows(tmp_path / "plain.jsonl"))


def test_a_pipe_is_labelled_as_the_file_is(run: Run, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completions": GROUP}])
    run("label", "in.jsonl", "-o", "file.jsonl")
    run("label", "-", "-o", "pipe.jsonl", input=path.read_bytes())
    assert (tmp_path / "pipe.jsonl").read_bytes() == (tmp_path / "file.jsonl").read_bytes()


def test_a_folder_is_not_pushed(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completions": GROUP}])
    with pytest.raises(ConfigError, match=r"the output 'out' is a folder\n.*push_to_hub"):
        run("label", "in.jsonl", "-o", "out", "--push-to-hub", "me/out")


def test_kto(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completions": GROUP}])
    run("label", "in.jsonl", "-o", "out.jsonl", "--kind", "kto", "--pairs", "all")
    rows = read_rows(tmp_path / "out.jsonl")
    # The middle one is chosen once and rejected once: it teaches nothing.
    assert [(r["completion"], r["label"]) for r in rows] == [("Paris, of course.", True), ("Berlin.", False)]


def test_pairs_in_are_compared(run: Run, tmp_path: Path) -> None:
    """The recorded judge likes the first slot whatever is there: its orders disagree, so nothing is kept."""
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "first": "A", "second": "B"}])
    result = run("label", "in.jsonl", "-o", "out.jsonl")
    assert read_rows(tmp_path / "out.jsonl") == []
    assert "pairs dropped: 1 tie" in result.stderr


def test_an_interrupted_run_goes_on_and_ends_the_same(run: Run, tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{n}", "completions": [f"Paris {n}", f"Berlin {n}", "mumble"]} for n in range(12)]
    write_rows(tmp_path / "in.jsonl", rows)
    run("label", "in.jsonl", "-o", "whole.jsonl", "--pairs", "all")
    whole = (tmp_path / "whole.jsonl").read_bytes()
    record = json.loads((tmp_path / "whole.jsonl.run.json").read_text())
    run("label", "in.jsonl", "-o", "other.jsonl", "--pairs", "all", "--chunk", "3")
    assert (tmp_path / "other.jsonl").read_bytes() == whole
    # What a killed run leaves: the beginning of the additions, the last line torn.
    done = [
        {"rows": [{"prompt": "kept", "chosen": "a", "rejected": "b", "margin": 1.0}], "dropped": {"tie": 5}}
    ]
    kept = json.dumps({"row": 1, "added": done[0]}).encode()
    (tmp_path / "part.jsonl.part.jsonl").write_bytes(kept + b'\n{"row": 2, "added": {"rows": [{"pro')
    (tmp_path / "part.jsonl.run.json").write_text(json.dumps({**record, "complete": False}))
    result = run("label", "in.jsonl", "-o", "part.jsonl", "--pairs", "all")
    lines = (tmp_path / "part.jsonl").read_bytes().splitlines()
    assert json.loads(lines[0])["prompt"] == "kept"
    assert lines[1:] == whole.splitlines()[1:]
    assert "continuing" in result.stderr
    assert json.loads((tmp_path / "part.jsonl.run.json").read_text())["dropped"] == {"tie": 5}


def test_an_output_of_other_settings_is_refused(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completions": GROUP}])
    run("label", "in.jsonl", "-o", "out.jsonl")
    with pytest.raises(ConfigError, match="another settings"):
        run("label", "in.jsonl", "-o", "out.jsonl", "--max-pairs", "1")


def test_parquet_and_lone_surrogates(run: Run, tmp_path: Path) -> None:
    rows = [{"prompt": "Q \ud800", "completions": ["Paris \udfff {x}\x00", "Berlin"]}]
    write_rows(tmp_path / "in.jsonl", rows)
    run("label", "in.jsonl", "-o", "out.parquet")
    run("label", "in.jsonl", "-o", "out.jsonl")
    (row,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert row["prompt"] == "Q \ufffd"
    assert row["chosen"] == "Paris \ufffd {x}\x00"
    assert read_rows(tmp_path / "out.jsonl")[0]["chosen"] == row["chosen"]


def test_no_kept_pairs_are_an_empty_file(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completions": ["mumble", "mumble too"]}])
    for name in ("out.jsonl", "out.parquet"):
        with pytest.raises(TooManyFailures, match="no row has a verdict"):
            run("label", "in.jsonl", "-o", name)
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("options", "choices"), [(["--kind", "ppo"], "'dpo', 'kto'"), (["--ties", "win"], "'drop', 'keep'")]
)
def test_wrong_choices_are_refused(run: Run, tmp_path: Path, options: list[str], choices: str) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completions": GROUP}])
    result = run("label", "in.jsonl", "-o", "out.jsonl", *options)
    assert (result.exit_code, f"is not one of {choices}." in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"prompt": "Q", "completions": []}, [], "1 of 1 rows"),
        ({"prompt": "Q", "text": "x"}, [], "1 of 1 rows"),
        ({"prompt": "Q", "completions": GROUP}, ["--retry-failed"], "does not judge failed rows"),
        ({"prompt": "Q", "completions": GROUP}, ["--budget", "9"], "is for the strategy budgeted"),
    ],
)
def test_wrong_input_is_said_before_work(
    run: Run, tmp_path: Path, row: dict[str, Any], options: list[str], message: str
) -> None:
    write_rows(tmp_path / "in.jsonl", [row])
    with pytest.raises((ConfigError, DataError), match=message):
        run("label", "in.jsonl", "-o", "out.jsonl", *options)
    assert not (tmp_path / "out.jsonl").exists()


def test_rerank_by_a_tournament_prints_intervals_and_what_it_cost(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completions": ["A1", "B2", "C3"]}])
    result = run("rerank", "in.jsonl", "-o", "out.jsonl", "--strategy", "all_pairs", "--critiques", "none")
    (row,) = read_rows(tmp_path / "out.jsonl")
    assert (row["strategy"], row["n_calls"], row["cycles"]) == ("all_pairs", 6, [])
    for entry in row["ranking"]:
        assert entry["low"] < entry["reward"] < entry["high"]
        assert entry["rating"] is None
        assert entry["failure"] is None
    assert "all_pairs: 6 judge calls" in result.stdout
    assert " to " in result.stdout


def test_rerank_keeps_to_a_budget_and_to_the_top(run: Run, tmp_path: Path) -> None:
    completions = [f"Paris {n}" for n in range(4)] + ["Berlin", "x"]
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completions": completions}])
    run(
        "rerank", "in.jsonl", "-o", "out.jsonl", "--strategy", "budgeted", "--budget", "10", "--top", "2",
    )  # fmt: skip
    (row,) = read_rows(tmp_path / "out.jsonl")
    assert row["n_calls"] == 10
    assert len(row["ranking"]) == 2
    assert row["ranking"][0]["index"] == row["best"]
    assert row["ranking"][0]["best_prob"] is not None


def test_failed_comparisons_are_named_on_the_candidate(run: Run, tmp_path: Path) -> None:
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text(
        json.dumps({"contains": ["mumble"], "reading": {"Response 1": 0.0001}}) + "\n" + recorded.read_text()
    )
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completions": ["A", "B", "mumble"]}])
    run("rerank", "in.jsonl", "-o", "out.jsonl", "--strategy", "all_pairs", "--critiques", "none")
    last = read_rows(tmp_path / "out.jsonl")[0]["ranking"][-1]
    assert (last["index"], last["reward"]) == (2, None)
    assert last["failure"]["reason"] == "low_mass"


def test_a_tournament_is_not_rescored_as_if_it_were_ratings(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completions": ["A", "B"]}])
    run("rerank", "in.jsonl", "-o", "out.jsonl", "--strategy", "ring", "--critiques", "none")
    with pytest.raises(DataError, match="ranked by ring"):
        run("rescore", "out.jsonl", "-o", "new.jsonl", "--mode", "direct", judge=False)
