# SPDX-License-Identifier: Apache-2.0
"""A row run without the command line: check, plan, judge, resume, retry."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from autoj_reward import DataError, Judge, TooManyFailures
from autoj_reward.errors import ConfigError
from autoj_reward.rows.fields import Kind, row_format
from autoj_reward.rows.records import RowItem, RowResult, RowTask, RunListener, RunSettings, Summary
from autoj_reward.rows.run import RowRun
from autoj_reward.rows.tasks import compare_task, rate_task, rerank_task
from tests.quality import QualityEngine


class Heard(RunListener):
    """Keeps what a run tells."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.problems: list[str] = []
        self.lines: list[int] = []
        self.summaries: list[Summary] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def bad_rows(self, problems: Sequence[DataError]) -> None:
        self.problems += [str(problem) for problem in problems]

    def judged(self, items: Sequence[RowItem], results: Sequence[RowResult]) -> None:
        self.lines += [item.line for item in items]

    def finished(self, summary: Summary) -> None:
        self.summaries.append(summary)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def make(tmp_path: Path, heard: Heard) -> Callable[..., RowRun]:
    """A run in `tmp_path` that rates `in.jsonl` by a scripted engine."""

    def made(
        rows: Sequence[Any] | None = None,
        *,
        engine: QualityEngine | None = None,
        target: str = "out.jsonl",
        identity: dict[str, Any] | None = None,
        wrap: Callable[[RowTask], RowTask] = lambda task: task,
        **settings: Any,
    ) -> RowRun:
        source = tmp_path / "in.jsonl"
        if rows is not None:
            lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
            source.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        judge = Judge.load("mini", engine=engine or QualityEngine())
        return RowRun(
            str(source),
            wrap(rate_task(judge, row_format("rate", None, {}))),
            str(tmp_path / target),
            judge,
            identity=identity,
            settings=RunSettings(**settings),
            listener=heard,
        )

    return made


def rated(n: int) -> list[dict[str, Any]]:
    return [{"id": i, "prompt": "Q", "completion": f"{i} q={1 + i % 9}"} for i in range(n)]


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def interrupted_at(line: int) -> Callable[[RowTask], RowTask]:
    """The task, which a Ctrl-C ends in the chunk with this line."""

    def wrap(task: RowTask) -> RowTask:
        def judge(items: Sequence[RowItem]) -> list[RowResult]:
            if any(item.line == line for item in items):
                raise KeyboardInterrupt
            return task.judge(items)

        return replace(task, judge=judge)

    return wrap


def test_every_row_is_judged_once_and_in_order(
    make: Callable[..., RowRun], tmp_path: Path, heard: Heard
) -> None:
    engine = QualityEngine()
    run = make(rated(10), engine=engine, chunk_requests=4)
    checked = run.check()
    assert (checked.n_rows, checked.n_requests) == (10, 10)
    summary = run.run()
    assert (summary.n_judgments, summary.n_failed_rows) == (10, 0)
    assert [row["rating"] for row in read(tmp_path / "out.jsonl")] == [1 + i % 9 for i in range(10)]
    assert heard.lines == list(range(1, 11))
    assert heard.summaries == [summary]
    assert set(engine.asked.values()) == {1}


@pytest.mark.parametrize("target", ["out.jsonl", "out.parquet"])
def test_an_interrupted_run_is_resumed_after_its_last_chunk(
    make: Callable[..., RowRun], tmp_path: Path, heard: Heard, target: str
) -> None:
    whole = make(rated(10), target=f"whole{Path(target).suffix}")
    whole.check()
    whole.run()
    stopped = make(target=target, wrap=interrupted_at(8), chunk_requests=3)
    stopped.check()
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    heard.lines.clear()
    resumed = make(target=target, chunk_requests=3)
    resumed.check()
    assert resumed.run().n_resumed == 6
    assert heard.lines == [7, 8, 9, 10]
    assert "continuing" in " ".join(heard.notes)
    assert read(tmp_path / target) == read(tmp_path / f"whole{Path(target).suffix}")
    again = make(target=target)
    again.check()
    assert again.run().n_judgments == 0
    assert "is finished" in heard.notes[-1]


def test_a_resumed_run_counts_the_failures_that_were_there(make: Callable[..., RowRun]) -> None:
    rows = [{"prompt": "Q", "completion": f"mumble {i}"} for i in range(6)]
    stopped = make(rows, wrap=interrupted_at(5), chunk_requests=2)
    stopped.check()
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    resumed = make(chunk_requests=2)
    resumed.check()
    with pytest.raises(TooManyFailures, match="all 6 failed"):
        resumed.run()


def test_rows_are_validated_once(make: Callable[..., RowRun]) -> None:
    """They were validated at every pass: when checked, resumed, judged, and written to Parquet."""
    seen: list[int] = []

    def counting(task: RowTask) -> RowTask:
        return replace(task, check=lambda requests: seen.append(len(requests)))

    stopped = make(rated(6), target="out.parquet", wrap=interrupted_at(4), chunk_requests=2)
    stopped.check()
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    run = make(target="out.parquet", wrap=counting, chunk_requests=2)
    run.check()
    run.run()
    assert len(seen) == 6


def test_retry_judges_failed_rows_alone(make: Callable[..., RowRun], tmp_path: Path) -> None:
    rows = rated(5)
    rows[2]["completion"] = "flaky q=7"
    first = make(rows)
    first.check()
    assert first.run().n_failed_rows == 1
    before = read(tmp_path / "out.jsonl")
    assert before[2]["failure"]["reason"] == "engine"
    engine = QualityEngine()
    engine.texts.append(("Q", "flaky q=7"))
    again = make(engine=engine)
    again.check()
    assert again.retry().n_judgments == 1
    after = read(tmp_path / "out.jsonl")
    assert after[2]["rating"] == 7
    assert [row for row in after if row["id"] != 2] == [row for row in before if row["id"] != 2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "out.jsonl.run.json"]
    record = json.loads((tmp_path / "out.jsonl.run.json").read_text())
    assert (record["failed_rows"], record["failures"]) == (0, {"engine": 1})
    assert record["retried"]["verdicts"] == {"7": 1}


def test_an_interrupted_retry_leaves_the_output_as_it_was(
    make: Callable[..., RowRun], tmp_path: Path
) -> None:
    rows = rated(4)
    rows[3]["completion"] = "down"
    first = make(rows)
    first.check()
    first.run()
    before = (tmp_path / "out.jsonl").read_bytes()
    again = make(wrap=interrupted_at(4))
    again.check()
    with pytest.raises(KeyboardInterrupt):
        again.retry()
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_an_unfinished_output_is_not_retried(make: Callable[..., RowRun]) -> None:
    run = make(rated(2))
    run.check()
    with pytest.raises(ConfigError, match="is not finished"):
        run.retry()


def test_bad_rows_stop_the_run_or_are_written_beside_the_output(
    make: Callable[..., RowRun], tmp_path: Path, heard: Heard
) -> None:
    rows = [{"prompt": "Q"}, *rated(2), "{", {"prompt": 5, "completion": "A"}]
    run = make(rows)
    with pytest.raises(DataError, match="3 of 5 rows"):
        run.check()
    assert [problem.split(": ")[0].rpartition(":")[2] for problem in heard.problems] == ["1", "4", "5"]
    assert not (tmp_path / "out.jsonl").exists()
    skipping = make(skip_bad=True)
    assert skipping.check().n_rows == 2
    skipping.run()
    assert [row["id"] for row in read(tmp_path / "out.jsonl")] == [0, 1]
    aside = read(tmp_path / "out.jsonl.bad.jsonl")
    assert [(row["line"], row["field"]) for row in aside] == [(1, "completion"), (4, None), (5, "prompt")]


def test_a_file_of_bad_rows_makes_no_output(make: Callable[..., RowRun], tmp_path: Path) -> None:
    run = make([{"prompt": "Q"}], skip_bad=True)
    run.check()
    with pytest.raises(DataError, match="none of its 1 rows"):
        run.run()
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("second", ['{"prompt": "Q"}\n', ""], ids=["bad", "gone"])
def test_an_input_that_changes_after_the_check_is_said(
    make: Callable[..., RowRun], tmp_path: Path, second: str
) -> None:
    """A row that had become bad was left out, and the output was one row short."""
    run = make(rated(2))
    run.check()
    (tmp_path / "in.jsonl").write_text('{"prompt": "Q", "completion": "A"}\n' + second)
    with pytest.raises(DataError, match="was changed while it was read"):
        run.run()


def test_too_many_failures_stop_the_run_and_keep_what_is_done(
    make: Callable[..., RowRun], tmp_path: Path, heard: Heard
) -> None:
    rows = [{"prompt": "Q", "completion": f"mumble {i}"} for i in range(100)]
    run = make(rows, max_failures=0.5, chunk_requests=64)
    run.check()
    with pytest.raises(TooManyFailures, match="64 of 64 judgments failed"):
        run.run()
    assert len(read(tmp_path / "out.jsonl")) == 64
    assert heard.summaries == []


def test_a_run_without_a_verdict_is_shown_and_refused(make: Callable[..., RowRun], heard: Heard) -> None:
    run = make([{"prompt": "Q", "completion": "mumble"}])
    run.check()
    with pytest.raises(TooManyFailures, match="no row has a verdict"):
        run.run()
    assert [summary.n_failed_rows for summary in heard.summaries] == [1]


def test_other_options_do_not_continue_an_output(make: Callable[..., RowRun]) -> None:
    first = make(rated(2), identity={"top": 1})
    first.check()
    first.run()
    other = make(identity={"top": 2})
    other.check()
    with pytest.raises(ConfigError, match="another top"):
        other.run()


def test_the_input_is_never_the_output(make: Callable[..., RowRun]) -> None:
    with pytest.raises(ConfigError, match="input as well"):
        make(rated(1), target="in.jsonl")


@pytest.mark.parametrize(
    ("kind", "row", "plan"),
    [
        ("rate", {"prompt": "Q", "completion": "A"}, "rate: 1 rows, 1 requests, 1 inputs to the model"),
        ("compare", {"prompt": "Q", "first": "A", "second": "B"}, "1 requests, 2 inputs to the model"),
        ("rerank", {"prompt": "Q", "completions": ["A", "B"]}, "2 requests, 2 inputs to the model"),
    ],
    ids=["rate", "compare", "rerank"],
)
def test_the_plan_says_what_the_model_would_be_asked(
    tmp_path: Path, kind: Kind, row: dict[str, Any], plan: str
) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    judge = Judge.load("mini", engine=QualityEngine())
    fields = row_format(kind, None, {})
    task = {
        "rate": lambda: rate_task(judge, fields),
        "compare": lambda: compare_task(judge, fields),
        "rerank": lambda: rerank_task(judge, fields, critiques="none"),
    }[kind]()
    run = RowRun(str(tmp_path / "in.jsonl"), task, str(tmp_path / "out.jsonl"), judge)
    run.check()
    assert plan in run.plan()
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
