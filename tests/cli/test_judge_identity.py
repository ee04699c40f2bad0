# SPDX-License-Identifier: Apache-2.0
"""One output has one judge, named in the record, on every row, and before judging begins."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.errors import ConfigError, DataError
from tests.cli.conftest import RATINGS, Run, read_rows, write_rows

ROWS = [{"prompt": "Name a capital.", "completion": f"Paris {n}"} for n in range(8)]
JUDGE = """
extends = "mini"
[sampling]
max_new_tokens = {tokens}
"""


def record_of(path: Path) -> dict[str, Any]:
    return json.loads(Path(f"{path}.run.json").read_text(encoding="utf-8"))


def begin(run: Run, folder: Path, *options: str) -> Path:
    """An output that was killed after four rows."""
    write_rows(folder / "in.jsonl", list(ROWS))
    out = folder / "out.jsonl"
    run("rate", "in.jsonl", "-o", "out.jsonl", "--no-cache", *options)
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:4]))
    record = record_of(out)
    Path(f"{out}.run.json").write_text(json.dumps({**record, "complete": False}))
    return out


def other_answers(folder: Path) -> None:
    lines = [{**line, "reading": {"3": 1.0}} if line["contains"] == ["Paris"] else line for line in RATINGS]
    write_rows(folder / "recorded.jsonl", lines)


def test_a_run_does_not_continue_with_another_model(run: Run, tmp_path: Path) -> None:
    """One file held the rows of two judges."""
    out = begin(run, tmp_path)
    before = out.read_bytes()
    other_answers(tmp_path)
    with pytest.raises(ConfigError, match=r"fingerprint: recorded:\w+ there, recorded:\w+ now"):
        run("rate", "in.jsonl", "-o", "out.jsonl", "--no-cache")
    assert out.read_bytes() == before
    assert run("rate", "in.jsonl", "-o", "out.jsonl", "--no-cache", "--overwrite").exit_code == 0
    assert {row["rating"] for row in read_rows(out)} == {3.0}


def test_a_run_does_not_continue_with_other_sampling(run: Run, tmp_path: Path) -> None:
    """Sampling in a judge file is no option of the command, and no part of its template."""
    judge = tmp_path / "judge.toml"
    judge.write_text(JUDGE.format(tokens=64))
    begin(run, tmp_path, "--judge", "judge.toml", "--mode", "critique")
    judge.write_text(JUDGE.format(tokens=32))
    with pytest.raises(ConfigError, match="sampling max_new_tokens: 64 there, 32 now"):
        run(
            "rate", "in.jsonl", "-o", "out.jsonl", "--no-cache", "--judge", "judge.toml", "--mode", "critique"
        )


def test_a_finished_output_of_another_judge_is_not_called_finished(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where who judges is known without loading a model."""
    from autoj_reward.engines.lazy import LazyEngine

    write_rows(tmp_path / "in.jsonl", list(ROWS))
    run("rate", "in.jsonl", "-o", "out.jsonl")
    other_answers(tmp_path)
    assert "is finished" in run("rate", "in.jsonl", "-o", "out.jsonl").stderr

    def built(engine: LazyEngine) -> dict[str, Any]:
        return {"engine": "recorded", "fingerprint": engine.fingerprint}

    monkeypatch.setattr(LazyEngine, "describe", built)
    with pytest.raises(ConfigError, match="another judge"):
        run("rate", "in.jsonl", "-o", "out.jsonl")


def test_failed_rows_are_not_retried_by_another_judge(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [*ROWS, {"prompt": "Q", "completion": "mumble"}])
    run("rate", "in.jsonl", "-o", "out.jsonl")
    before = (tmp_path / "out.jsonl").read_bytes()
    other_answers(tmp_path)
    with pytest.raises(ConfigError, match="another judge"):
        run("rate", "in.jsonl", "-o", "out.jsonl", "--retry-failed")
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_an_old_record_that_does_not_say_who_judged_is_refused_with_a_hint(run: Run, tmp_path: Path) -> None:
    out = begin(run, tmp_path)
    record = record_of(out)
    Path(f"{out}.run.json").write_text(json.dumps({"run": record["run"], "complete": False}))
    with pytest.raises(ConfigError, match="does not say who judged") as caught:
        run("rate", "in.jsonl", "-o", "out.jsonl", "--no-cache")
    assert "--overwrite" in caught.value.hint
    assert "rescore" in caught.value.hint


def test_dates_and_versions_do_not_stop_a_run_from_continuing(run: Run, tmp_path: Path) -> None:
    out = begin(run, tmp_path)
    record = record_of(out)
    record["about"] |= {"date": "2020-01-01T00:00:00+00:00", "versions": {"torch": "1"}, "machine": {}}
    Path(f"{out}.run.json").write_text(json.dumps(record))
    assert "continuing" in run("rate", "in.jsonl", "-o", "out.jsonl", "--no-cache").stderr
    assert len(read_rows(out)) == 8
    kept = record_of(out)
    assert kept["complete"]
    assert [former["date"] for former in kept["former"]] == ["2020-01-01T00:00:00+00:00"]
    assert kept["about"]["date"] > "2026"


def test_a_record_says_what_it_takes_to_judge_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "in.jsonl", list(ROWS))
    monkeypatch.setattr("sys.argv", ["autoj-reward", "rate", "--engine-option", "api_key=sesame-open-wide"])
    run("rate", "in.jsonl", "-o", "out.jsonl", "--no-cache")
    about = record_of(tmp_path / "out.jsonl")["about"]
    judge = about["judge"]
    assert judge["model"] == "embedded:mini"
    assert (judge["mode"], judge["engine"]["engine"]) == ("direct", "recorded")
    assert judge["engine"]["fingerprint"].startswith("recorded:")
    assert {"revision", "template", "sampling", "min_mass"} <= judge.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", about["date"])
    assert about["versions"]["autoj-reward"]
    assert about["machine"]["cores"]
    assert about["command_line"][:2] == ["autoj-reward", "rate"]
    assert "sesame" not in (tmp_path / "out.jsonl.run.json").read_text()


def test_every_row_names_its_judge(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [ROWS[0]])
    write_rows(tmp_path / "pair.jsonl", [{"prompt": "Q", "first": "A", "second": "B"}])
    group = {"prompt": "Q", "completions": ["Paris", "Berlin", "Rome"]}
    write_rows(tmp_path / "group.jsonl", [group])
    run("rate", "in.jsonl", "-o", "rate.jsonl")
    run("compare", "pair.jsonl", "-o", "compare.jsonl")
    run("rerank", "group.jsonl", "-o", "rerank.jsonl")
    run("label", "group.jsonl", "-o", "label.jsonl")
    rows = [read_rows(tmp_path / f"{name}.jsonl")[0] for name in ("rate", "compare", "rerank")]
    ids = {row["judge_id"] for row in rows} | {read_rows(tmp_path / "label.jsonl")[0]["source"]["judge_id"]}
    assert ids == {record_of(tmp_path / "rate.jsonl")["who"]["judge_id"]}
    assert re.fullmatch("[0-9a-f]{12}", ids.pop())


SAID = ("judge", "mode", "template", "chat template", "weights", "longest input")


def test_the_first_lines_of_a_run_say_who_judges(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", list(ROWS))
    said = run("rate", "in.jsonl", "-o", "out.jsonl").stderr
    assert all(f"{word}" in said for word in SAID)
    assert "recorded.jsonl" in said
    assert "judge:" not in run("rate", "in.jsonl", "-o", "quiet.jsonl", "--quiet").stderr


def test_a_dry_run_says_who_would_judge_on_which_input(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", list(ROWS))
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"text_config": {"max_position_embeddings": 256}}')
    (model / "chat_template.jinja").write_text("{{ messages }}")
    said = run(
        "rate", "in.jsonl", "-o", "out.jsonl", "--dry-run", "--judge", "model", "--engine", "transformers",
        "--mode", "critique", judge=False,
    ).output  # fmt: skip
    assert f"weights     {model.resolve()}" in said
    assert re.search(r"template    [0-9a-f]{16}, chat template [0-9a-f]{12}", said)
    assert "at most 256 tokens" in said
    assert "critique" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "model", "recorded.jsonl"]


# Rescoring


def test_rescored_critiques_stay_critiques_where_the_cache_also_holds_direct_readings(
    run: Run, tmp_path: Path
) -> None:
    """Rows turned into direct ones: critiques null, verdicts changed, status 0."""
    write_rows(tmp_path / "in.jsonl", list(ROWS))
    cache = ["--cache", "a.sqlite"]
    run("rate", "in.jsonl", "-o", "critique.jsonl", "--mode", "critique", *cache)
    run("rate", "in.jsonl", "-o", "direct.jsonl", "--mode", "direct", *cache)
    for name in ("critique", "direct"):
        result = run("rescore", f"{name}.jsonl", "-o", "new.jsonl", *cache, judge=False)
        assert result.exit_code == 0
        assert [(r["mode"], r["critique"], r["rating"]) for r in read_rows(tmp_path / "new.jsonl")] == [
            (r["mode"], r["critique"], r["rating"]) for r in read_rows(tmp_path / f"{name}.jsonl")
        ]
        assert read_rows(tmp_path / "new.jsonl")[0]["mode"] == name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda run: run("label", "group.jsonl", "-o", "bad.jsonl"), "is an output of label"),
        (lambda run: write_rows(Path("bad.jsonl"), [{"prompt": "Q"}]), "is not an output of rate"),
        (lambda run: write_rows(Path("bad.jsonl"), []), "has no rows"),
        (lambda run: _mixed(run), "was judged in direct mode, and the first row in critique"),
    ],
    ids=["label", "another file", "empty", "two modes"],
)
def test_a_refused_rescore_leaves_no_output_file(
    run: Run, tmp_path: Path, make: Callable[[Run], object], message: str
) -> None:
    write_rows(tmp_path / "group.jsonl", [{"prompt": "Q", "completions": ["Paris", "Berlin"]}])
    make(run)
    with pytest.raises(DataError) as caught:
        run("rescore", "bad.jsonl", "-o", "new.jsonl", "--cache", "a.sqlite", judge=False)
    assert not (tmp_path / "new.jsonl").exists()
    assert message in str(caught.value)


def _mixed(run: Run) -> None:
    write_rows(Path("in.jsonl"), list(ROWS))
    rows = []
    for mode in ("critique", "direct"):
        run("rate", "in.jsonl", "-o", f"{mode}.jsonl", "--mode", mode, "--cache", "a.sqlite")
        rows += read_rows(Path(f"{mode}.jsonl"))
    write_rows(Path("bad.jsonl"), rows)


def test_another_mode_than_the_rows_is_refused(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", list(ROWS))
    run("rate", "in.jsonl", "-o", "out.jsonl", "--cache", "a.sqlite")
    with pytest.raises(ConfigError, match="judged in direct mode"):
        run("rescore", "out.jsonl", "--mode", "critique", "--cache", "a.sqlite", judge=False)


def test_answers_under_a_former_identity_are_read_and_never_served(run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", list(ROWS))
    cache = ["--cache", "a.sqlite"]
    run("rate", "in.jsonl", "-o", "old.jsonl", *cache)
    other_answers(tmp_path)
    run("rate", "in.jsonl", "-o", "new.jsonl", *cache)
    assert {r["rating"] for r in read_rows(tmp_path / "new.jsonl")} == {3.0}
    assert record_of(tmp_path / "new.jsonl")["from_cache"] == 0
    run("rescore", "old.jsonl", "-o", "again.jsonl", *cache, judge=False)
    assert read_rows(tmp_path / "again.jsonl") == read_rows(tmp_path / "old.jsonl")
    assert run("cache", "export", "all.parquet", *cache, judge=False).exit_code == 0
