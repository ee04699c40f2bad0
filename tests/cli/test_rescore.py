# SPDX-License-Identifier: Apache-2.0
"""Reading judgments again without the engine that made them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from autoj_reward.cache.store import JudgmentStore
from autoj_reward.cli.rescore import rescore
from autoj_reward.engines.cached import CachedEngine
from autoj_reward.engines.recorded import RecordedEngine
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.judge.judge import Judge
from autoj_reward.rescore.cache import Outcome, Report, Rescored
from autoj_reward.rows.fields import row_format
from autoj_reward.rows.records import RowItem
from autoj_reward.rows.tasks import compare_task, rate_task, rerank_task
from autoj_reward.testing import ScriptedEngine, rendered_text
from tests.cli.conftest import read_rows, write_rows

Rescore = Callable[..., Result]

ANSWERS = [
    {"contains": ["paris", "critique please"], "text": "It is right.\n\nRating: [[9]]"},
    {"contains": ["berlin"], "text": "It is wrong.\n\nMy mark: <2>"},
    {"contains": ["rome"], "text": "Rating: [[8]] and then it was", "finish_reason": "length"},
    {"contains": ["Response 1"], "reading": {"Response 1": 0.5, "Response 2": 0.3, "Tie": 0.2}},
    {"contains": ["paris"], "reading": {"9": 0.6, "8": 0.4}},
    {"contains": ["mumble"], "reading": {"5": 0.0005, "6": 0.0001}},
    {"contains": [], "reading": {"5": 0.75, "6": 0.25}},
    {"contains": [], "text": "It says little.\n\nRating: [[3]]"},
]
ROWS = ["paris", "berlin", "rome", "mumble"]


@pytest.fixture
def engine(tmp_path: Path) -> CachedEngine:
    path = tmp_path / "recorded.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in ANSWERS))
    return CachedEngine(RecordedEngine(path), JudgmentStore(tmp_path / "a.sqlite"))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rescore:
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(rescore)

    def call(*arguments: str, cache: bool = True) -> Result:
        further = ["--cache", "a.sqlite"] if cache else []
        return CliRunner().invoke(app, [*arguments, *further], catch_exceptions=False)

    return call


def judged_rows(
    path: Path, engine: CachedEngine, kind: Any = "rate", top: int | None = None, **options: Any
) -> list[dict[str, Any]]:
    """An output file as the command of that name writes it."""
    judge = Judge.load("mini", engine=engine, **options)
    prompts = [{"prompt": f"{name}: critique please", "id": n} for n, name in enumerate(ROWS)]
    texts: dict[str, dict[str, Any]] = {
        "rate": {"completion": "It is."},
        "compare": {"first": "It is.", "second": "Is it?"},
        "rerank": {"completions": ["It is.", "Is it?"]},
    }
    layout = row_format(kind, None, {})
    rows = [{**p, **texts[kind]} for p in prompts]
    items = [RowItem(n, row, layout.requests(row)) for n, row in enumerate(rows, start=1)]
    work = {
        "rate": rate_task,
        "compare": compare_task,
        "rerank": lambda j, f: rerank_task(j, f, critiques="all", top=top),
    }[kind](judge, layout)
    made = [{**i.row, **done.added} for i, done in zip(items, work.judge(items), strict=True)]
    write_rows(path, made)
    return made


def own_judge(tmp_path: Path, text: str) -> str:
    (tmp_path / "own.toml").write_text('extends = "mini"\nname = "own"\n' + text)
    return "own.toml"


def report(result: Result) -> dict[str, Any]:
    known: dict[str, Any] = json.loads(result.stdout)
    return known


@pytest.mark.parametrize("kind", ["rate", "compare", "rerank"])
@pytest.mark.parametrize("mode", ["direct", "critique"])
def test_the_same_reading_changes_nothing(
    run: Rescore, engine: CachedEngine, tmp_path: Path, kind: str, mode: str
) -> None:
    rows = judged_rows(tmp_path / "out.jsonl", engine, kind, mode=mode)
    n_asked = engine.stats.n_asked
    said = report(run("out.jsonl", "-o", "new.jsonl", "--mode", mode, "--json"))
    assert (said["n"], said["n_verdicts_changed"], said["n_numbers_changed"], said["n_kept"]) == (4, 0, 0, 0)
    assert read_rows(tmp_path / "new.jsonl") == rows
    assert engine.stats.n_asked == n_asked


def test_a_ranking_keeps_its_ties_and_its_length(run: Rescore, tmp_path: Path) -> None:
    """Ties were those of bfloat16, whatever the run's dtype, and another completion came first."""

    def read(item: Any) -> dict[str, float]:
        return {"9": 0.85, "8": 0.15} if "It is." in rendered_text(item) else {"9": 0.8, "8": 0.2}

    class Exact(ScriptedEngine):
        def describe(self) -> dict[str, Any]:
            return {"engine": "exact", "dtype": "float32"}

    engine = CachedEngine(Exact(read=read), JudgmentStore(tmp_path / "a.sqlite"))
    for top in (None, 1):
        rows = judged_rows(tmp_path / "out.jsonl", engine, "rerank", top=top, mode="direct")
        assert {row["best"] for row in rows} == {0}
        said = report(run("out.jsonl", "-o", "new.jsonl", "--mode", "direct", "--json"))
        assert said["n_verdicts_changed"] == 0
        assert read_rows(tmp_path / "new.jsonl") == rows


def test_a_ranking_without_a_verdict_counts_as_failed(
    run: Rescore, engine: CachedEngine, tmp_path: Path
) -> None:
    judged_rows(tmp_path / "out.jsonl", engine, "rerank", mode="direct")
    said = report(run("out.jsonl", "-o", "new.jsonl", "--mode", "direct", "--min-mass", "0.0001", "--json"))
    assert said["failures_before"] == {"low_mass": 1}
    assert (said["failures_after"], said["n_gained"]) == ({}, 1)


def test_the_mean_change_is_over_judgments_with_a_number_before_and_after() -> None:
    """Those that failed both times were counted, so three failures made a change of 2 one of 0.5."""
    counted = Report()
    five, seven = Outcome(verdict=5.0, number=5.0), Outcome(verdict=7.0, number=7.0)
    counted.add(Rescored(name="1", mode="direct", before=five, after=seven))
    for _ in range(3):
        failed = Outcome(failure="low_mass")
        counted.add(Rescored(name="2", mode="direct", before=failed, after=failed))
    assert counted.mean_shift == 2.0


IN_LISTS = """
comparison = false
[rating]
template = "list"
blocks = {}
text = "{prompt}\\n{completions}Scores?"
verdict_prefix = "Scores: "
pattern = '''scores:\\s*(?P<verdict>\\d{1,2}(?:[ ,]{1,3}\\d{1,2}){0,31})'''
terminators = [" ", "\\n"]
end_of_turn = true
list = { size = 3, overlap = 1, item = "[{index}] {completion}\\n", between = " " }
"""


@pytest.mark.parametrize("mode", ["direct", "critique"])
def test_judgments_of_lists_are_read_again_from_the_cache(run: Rescore, tmp_path: Path, mode: Any) -> None:
    """Groups are cut into the same lists, so that their answers are found."""
    judge_file = own_judge(tmp_path, IN_LISTS)
    scripted = ScriptedEngine(
        write=lambda item: "Scores: " + " ".join("468"[: rendered_text(item).count("]")]),
        read={"4": 0.001, "6": 0.002},
    )
    engine = CachedEngine(scripted, JudgmentStore(tmp_path / "a.sqlite"))
    judge = Judge.load(str(tmp_path / judge_file), engine=engine, mode=mode)
    layout = row_format("rate", None, {})
    rows = [{"prompt": f"Q{n % 2}", "completion": f"c{n}"} for n in range(9)]
    items = [RowItem(n, row, layout.requests(row)) for n, row in enumerate(rows, start=1)]
    done = rate_task(judge, layout).judge(items)
    made = [{**item.row, **one.added} for item, one in zip(items, done, strict=True)]
    write_rows(tmp_path / "out.jsonl", made)
    assert {row["failure"]["reason"] for row in made} == {"low_mass"}
    again = ("out.jsonl", "-o", "new.jsonl", "--judge", judge_file, "--json")
    said = report(run(*again))
    assert (said["n"], said["n_verdicts_changed"], said["n_kept"]) == (9, 0, 0)
    assert read_rows(tmp_path / "new.jsonl") == made
    said = report(run(*again, "--min-mass", "0.0001"))
    assert (said["n"], said["n_kept"]) == (9, 0)
    assert {row["failure"] for row in read_rows(tmp_path / "new.jsonl")} == {None}


def test_critiques_of_lists_are_not_read_from_rows(
    run: Rescore, engine: CachedEngine, tmp_path: Path
) -> None:
    """A row of a list holds its text, but not which of its scores is the row's."""
    judged_rows(tmp_path / "out.jsonl", engine, mode="critique")
    judge_file = own_judge(tmp_path, IN_LISTS)
    with pytest.raises(ConfigError, match="in lists"):
        run("out.jsonl", "-o", "new.jsonl", "--judge", judge_file, "--critiques", cache=False)


def test_another_least_mass_gives_the_failed_row_a_verdict(
    run: Rescore, engine: CachedEngine, tmp_path: Path
) -> None:
    judged_rows(tmp_path / "out.jsonl", engine)
    said = report(run("out.jsonl", "-o", "new.jsonl", "--min-mass", "0.0001", "--json"))
    assert said["failures_before"] == {"low_mass": 1}
    assert (said["n_gained"], said["failures_after"]) == (1, {})
    assert said["verdict_changes"] == {"low_mass -> 5": 1}
    assert read_rows(tmp_path / "new.jsonl")[3]["rating"] == 5


def test_a_smaller_verdict_set_is_read_out_of_the_larger_one(
    run: Rescore, engine: CachedEngine, tmp_path: Path
) -> None:
    """Every other point only: the same readings, so no engine is needed."""
    judged_rows(tmp_path / "out.jsonl", engine)
    judge = own_judge(tmp_path, "[rating.scale]\nstep = 2\n")
    said = report(run("out.jsonl", "-o", "new.jsonl", "--judge", judge, "--json"))
    assert said["n_kept"] == 0
    berlin = read_rows(tmp_path / "new.jsonl")[1]
    assert (berlin["expected_rating"], berlin["mass"]) == (5.0, 0.75)


def test_a_better_parser_reads_what_another_could_not(
    run: Rescore, engine: CachedEngine, tmp_path: Path
) -> None:
    rows = judged_rows(tmp_path / "out.jsonl", engine, mode="critique")
    assert [row["failure"] and row["failure"]["reason"] for row in rows] == [
        None,
        "no_verdict",
        "truncated",
        "low_mass",
    ]
    judge = own_judge(tmp_path, "[rating]\npattern = '(\\[\\[|<)(?P<verdict>[0-9.]+)(\\]\\]|>)'\n")
    said = report(run("out.jsonl", "-o", "new.jsonl", "--judge", judge, "--mode", "critique", "--json"))
    new = read_rows(tmp_path / "new.jsonl")
    assert [row["rating"] for row in new] == [9, 2, None, None]
    assert said["n_gained"] == 1
    # No run read the distribution at that place: the verdict counts as certain, and the report says so.
    assert said["n_points"] == 1
    assert [row["expected_rating"] for row in new][1] == 2.0


def test_rows_that_keep_their_critiques_need_no_cache(
    run: Rescore, engine: CachedEngine, tmp_path: Path
) -> None:
    judged_rows(tmp_path / "out.jsonl", engine, mode="critique")
    judge = own_judge(tmp_path, "[rating]\npattern = '(\\[\\[|<)(?P<verdict>[0-9.]+)(\\]\\]|>)'\n")
    said = report(run("out.jsonl", "--judge", judge, "--critiques", "-o", "new.jsonl", "--json", cache=False))
    assert [row["rating"] for row in read_rows(tmp_path / "new.jsonl")] == [9, 2, None, 3]
    assert said["failures_after"] == {"truncated": 1}


def test_one_critique_is_not_a_pair_in_both_orders(
    run: Rescore, engine: CachedEngine, tmp_path: Path
) -> None:
    judged_rows(tmp_path / "out.jsonl", engine, "compare", mode="critique")
    with pytest.raises(ConfigError, match="hold all their critiques"):
        run("out.jsonl", "--critiques", cache=False)


def test_rows_that_are_not_in_the_cache_stay_as_they_were(
    run: Rescore, engine: CachedEngine, tmp_path: Path
) -> None:
    rows = judged_rows(tmp_path / "out.jsonl", engine)
    rows[0]["completion"] = "Another one."
    write_rows(tmp_path / "out.jsonl", rows)
    result = run("out.jsonl", "-o", "new.jsonl", "--min-mass", "0.0001", "--json")
    assert report(result)["n_kept"] == 1
    assert read_rows(tmp_path / "new.jsonl")[0] == rows[0]
    assert "1 rows are unchanged" in result.stderr


def test_another_runs_settings_are_named_as_the_reason(
    run: Rescore, engine: CachedEngine, tmp_path: Path
) -> None:
    judged_rows(tmp_path / "out.jsonl", engine, mode="critique")
    with pytest.raises(ConfigError, match="answers none of the first 4 rows"):
        run("out.jsonl", "--mode", "critique", "--max-new-tokens", "7")


def test_files_that_are_no_output_are_refused(run: Rescore, engine: CachedEngine, tmp_path: Path) -> None:
    engine.store.put([])
    write_rows(tmp_path / "in.jsonl", [{"prompt": "Q", "completion": "A"}])
    with pytest.raises(DataError, match="not an output of rate"):
        run("in.jsonl")
    judged_rows(tmp_path / "out.jsonl", engine)
    with pytest.raises(ConfigError, match="the input as well"):
        run("out.jsonl", "-o", "out.jsonl")


def draws() -> ScriptedEngine:
    """Writes 2, 9 and 9 for the three draws, and reads each with some doubt."""
    return ScriptedEngine(
        read={"2": 0.3, "9": 0.5, "8": 0.2}, write=lambda item: f"So: [[{(2, 9, 9)[item.sample_index]}]]"
    )


@pytest.mark.parametrize("whole", [True, False], ids=["whole cache", "rows"])
def test_draws_can_vote(run: Rescore, tmp_path: Path, whole: bool) -> None:
    cached = CachedEngine(draws(), JudgmentStore(tmp_path / "a.sqlite"))
    judged_rows(tmp_path / "out.jsonl", cached, mode="critique", n_samples=3, temperature=1.0)
    options = [] if whole else ["out.jsonl", "--mode", "critique", "--samples", "3", "--temperature", "1.0"]
    said = report(run(*options, "--aggregation", "vote", "-o", "new.jsonl", "--json"))
    assert said["n"] == 4
    # Every draw's mode is 9, which the mean of 0.3 x 2 + 0.5 x 9 + 0.2 x 8 = 6.7 hides.
    assert said["mean_shift"] == pytest.approx(9 - 6.7)


def test_a_whole_cache_is_read_again_without_its_rows(
    run: Rescore, engine: CachedEngine, tmp_path: Path
) -> None:
    """Critiques find their readings, direct readings and both orders of pairs stand for themselves."""
    judged_rows(tmp_path / "a.jsonl", engine, mode="critique")
    judged_rows(tmp_path / "b.jsonl", engine, mode="direct")
    judged_rows(tmp_path / "c.jsonl", engine, "compare", mode="direct")
    same = report(run("--json", "-o", "same.jsonl"))
    assert (same["n"], same["n_verdicts_changed"], same["n_numbers_changed"]) == (16, 0, 0)
    modes = [row["mode"] for row in read_rows(tmp_path / "same.jsonl")]
    assert (modes.count("critique"), modes.count("direct")) == (4, 12)
    verdicts = [row["after"]["verdict"] for row in read_rows(tmp_path / "same.jsonl")]
    assert verdicts.count("first") == 8
    judge = own_judge(tmp_path, "[rating]\npattern = '(\\[\\[|<)(?P<verdict>[0-9.]+)(\\]\\]|>)'\n")
    said = report(run("--judge", judge, "--was", "mini", "--min-mass", "0.0001", "--json"))
    assert said["verdict_changes"] == {"no_verdict -> 2": 1, "low_mass -> 5": 1, "low_mass -> 3": 1}
    assert said["failures_after"] == {"truncated": 1}


def test_the_table_says_what_changed(run: Rescore, engine: CachedEngine, tmp_path: Path) -> None:
    judged_rows(tmp_path / "out.jsonl", engine)
    out = run("out.jsonl", "--min-mass", "0.0001").stdout
    assert "failure before, verdict now" in out
    assert "verdicts: low_mass -> 5: 1" in out
