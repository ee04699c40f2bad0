# SPDX-License-Identifier: Apache-2.0
"""Run a task over a file of rows: check, plan, judge in chunks, write, resume, retry what failed."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from autoj_reward.budget import Budget, Spending
from autoj_reward.engines import is_loaded
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.judge.description import shown, who
from autoj_reward.judge.judge import Judge
from autoj_reward.progress import RunProgress
from autoj_reward.redact import redacted
from autoj_reward.rows.check import (
    CheckedRows,
    check_rows,
    good_rows,
    item_of,
    notes_on,
    refuse_same_file,
    write_bad_rows,
)
from autoj_reward.rows.formats.detect import Nearest, first_rows, nearest
from autoj_reward.rows.identity import about_run, check_same_judge
from autoj_reward.rows.output import Output, to_json
from autoj_reward.rows.records import (
    RowTask,
    RunListener,
    RunSettings,
    Summary,
    has_failed,
    refuse_no_verdict,
    stop_past,
    without_verdict,
)
from autoj_reward.rows.source import Row, RowSource, chunked, open_source, read_rows
from autoj_reward.types import EngineStats


class RowRun:
    """One task over one input and one output.

    Call `check` first. Then `run` judges the rows that the output does not hold yet, and `retry` judges the
    failed rows of a finished output again. The caller closes the judge.

    Args:
        source: The input's name, as for `open_source`, or its rows.
        task: How its rows are judged.
        target: The output, as for `Output`.
        judge: The task's judge; None if it needs none.
        identity: Options that make it another run; the task, the input, the template and the guard are added.
        settings: How rows are read and written.
        listener: Receives notes and progress.
        spending: Counts answers from the cache and from the engine so far; None without a cache.
        budget: The most that this run may spend.

    Attributes:
        source: The input's rows.
        task: How they are judged.
        checked: Result of `check`.

    Example::

        run = RowRun("in.jsonl", rate_task(judge, row_format("rate", None, {})), "out.jsonl", judge)
        run.check()
        summary = run.run()
    """

    def __init__(
        self,
        source: str | RowSource,
        task: RowTask,
        target: str,
        judge: Judge | None = None,
        *,
        identity: Mapping[str, Any] | None = None,
        settings: RunSettings | None = None,
        listener: RunListener | None = None,
        spending: Callable[[], EngineStats] | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.settings = settings or RunSettings()
        if isinstance(source, str):
            refuse_same_file(source, target)
            source = open_source(source, split=self.settings.split)
        self.source = source
        self.task = task
        self.target = target
        self.checked = CheckedRows()
        self._judge = judge
        self._identity = dict(identity or {})
        self._listener = listener or RunListener()
        self._spending = spending
        self._spent = None if judge is None or budget is None else Spending(judge, budget)

    def check(self) -> CheckedRows:
        """Validate every row before anything heavy is loaded.

        Raises:
            DataError: The input cannot be read, or has bad rows that are not to be skipped.
        """
        as_parquet = self.task.expansion is None and self.target.endswith(".parquet")
        self.checked = check_rows(self.source, self.task, for_parquet=as_parquet)
        if n_bad := len(self.checked.problems):
            self._listener.bad_rows(self.checked.problems)
            if not self.settings.skip_bad:
                count = f"{n_bad:,} of {n_bad + self.checked.n_rows:,} rows"
                near, shown_rows = self._what_they_are()
                ours = self.task.row_format.prompt
                mapped = near.option(f"--column {ours}=FIELD")
                raise DataError(
                    f"{count} cannot be read{': ' * bool(near.says)}{near.says}{shown_rows}",
                    path=self.source.name,
                    hint=f"correct them, skip them with --skip-bad, map fields with {mapped}, or name "
                    "another layout with --format",
                )
        judge = None if self._judge is None else self._judge.spec.name
        for text in notes_on(self.checked, self.source, self.task, judge):
            self._listener.note(text)
        return self.checked

    def _what_they_are(self) -> tuple[Nearest, str]:
        """Which format the bad rows nearly have, and the first five as lines; empty if they are no rows."""
        bad = (
            row
            for line, row in self.source.rows()
            if line in self.checked.n_good and not isinstance(row, DataError)
        )
        rows = list(itertools.islice(bad, 5))
        kinds = self.task.row_format.kinds
        if not rows:
            return Nearest(), ""
        return nearest(rows[0], kinds) if kinds else Nearest(), f"\n{first_rows(rows)}"

    def plan(self) -> str:
        """One line about the work: `rate: 20 rows, 20 requests, 40 inputs to the model`."""
        n_requests, each = self.checked.n_requests, self.task.inputs_per_request
        parts = [f"{self.task.label}: {self.checked.n_rows:,} rows"]
        if each is not None:
            parts += [f"{n_requests:,} requests", f"{self.checked.n_verdicts * each:,} inputs to the model"]
        else:
            parts.append(f"{n_requests:,} completions")
            if self.task.strategy is not None:
                parts.append(f"as many comparisons as {self.task.strategy.name} asks for")
        return ", ".join([*parts, self.task.further] if self.task.further else parts)

    def identity(self) -> dict[str, Any]:
        """Identifies the run: an output with another identity is not continued.

        Raises:
            DataError: No row is left to judge.
        """
        if self.checked.problems and not self.checked.n_rows:
            raise DataError(
                f"none of its {len(self.checked.problems):,} rows can be read", path=self.source.name,
                hint="--column OURS=THEIRS names other fields, --format another layout",
            )  # fmt: skip
        known: dict[str, Any] = {"command": self.task.label, "input": self.checked.digest}
        if self._judge is not None:
            guard = self._judge.settings.guard
            known |= {
                "template": self._judge.spec.fingerprint,
                "guard": None if guard is None else guard.fingerprint,
            }
        return dict(redacted(known | self._identity))

    def run(self) -> Summary:
        """Judge the rows that the output does not hold yet.

        Returns:
            The totals; without judgments if an earlier run had completed the output.

        Raises:
            ConfigError: The output belongs to another run or judge, or another process writes it.
            DataError: The output does not hold the first of these rows.
            TooManyFailures: The share of failed judgments passed the limit, or no row has a verdict; finished
                rows are kept.
            EngineError: The engine failed; finished rows are kept.
            BudgetSpent: The budget is spent; finished rows are kept.
        """
        with self._output() as output:
            self.write_bad_rows()
            if output.complete:
                self._refuse_another_judge(output)
                return self.already_complete(output.record)
            if output.n_done:
                self._listener.note(
                    f"continuing {self.target} after {output.n_done:,} of {self.checked.n_rows:,} rows"
                )
            rows = self._rows()
            summary = Summary(n_rows=self.checked.n_rows, n_resumed=output.n_done)
            with self._progress(self.task.label, self.checked.n_requests) as progress:
                self._name_judge(output)
                for _, row, was in self._paired(rows, output.done_rows(), output.whole_lines):
                    summary.n_failed_rows += without_verdict(was)
                    progress.skip(self.task.row_format.n_requests(row))
                self._judge_rows(((line, row, None) for line, row in rows), output, summary, progress)
            if output.n_done != self.checked.n_rows:
                raise DataError(
                    f"was changed while it was read: it held {self.checked.n_rows:,} good rows, and "
                    f"{output.n_done:,} were judged",
                    path=self.source.name, hint="--overwrite starts again",
                )  # fmt: skip
            output.finish((row for _, row in self._rows()), summary.as_record())
        return self.finished(summary)

    def retry(self) -> Summary:
        """Judge the failed rows of a finished output again, and keep the others as they are.

        The new file replaces the old one when it is complete.

        Raises:
            ConfigError: The output is not finished, belongs to another run or judge, or is being written.
            DataError: The output does not hold the input's rows.
            EngineError: The engine failed; the old output stays as it was.
        """
        with self._output() as output:
            if not output.complete:
                raise ConfigError(
                    f"{output.name} is not finished", hint="run the same command without --retry-failed"
                )
            self.write_bad_rows()
            path = Path(os.path.realpath(self.target))
            beside = path.with_name(f"{path.stem}.retry{path.suffix}")
            count = self.task.row_format.n_requests
            total = sum(count(row) for _, row, kept in self._finished(path) if kept is None)
            summary = Summary(n_rows=self.checked.n_rows)
            renewed = Output(str(beside), {**output.run, "retry": True}, overwrite=True)
            with contextlib.closing(renewed):
                with self._progress(f"{self.task.label} again", total) as progress:
                    self._name_judge(output)
                    self._judge_rows(self._finished(path), renewed, summary, progress, retried=True)
                renewed.finish((row for _, row in self._rows()), summary.as_record())
            os.replace(beside, path)
            output.amend_record(failed_rows=summary.n_failed_rows, retried=summary.as_record())
            renewed.forget()
        return self.finished(summary)

    def write_bad_rows(self) -> None:
        """Write the bad rows to OUT.bad.jsonl; this process has to hold the output's lock."""
        if self.checked.problems:
            path = Path("rows.bad.jsonl" if self.target == "-" else f"{self.target}.bad.jsonl")
            write_bad_rows(self.source, self.checked, path)
            self._listener.note(f"{len(self.checked.problems):,} bad rows are written to {path}")

    def already_complete(self, record: Mapping[str, Any]) -> Summary:
        """Note that an earlier run judged everything.

        Raises:
            TooManyFailures: No row has a verdict.
        """
        rows = f"{self.checked.n_rows:,} rows are in it"
        self._listener.note(f"{self.target} is finished: all {rows} (--overwrite starts again)")
        summary = Summary(self.checked.n_rows, n_failed_rows=record.get("failed_rows", 0))
        refuse_no_verdict(summary)
        return summary

    def finished(self, summary: Summary) -> Summary:
        """Tell the listener that the output is complete.

        Raises:
            TooManyFailures: No row has a verdict.
        """
        self._listener.finished(summary)
        if not self.checked.n_rows:
            self._listener.note(
                f"{self.source.name} holds no rows: nothing was judged, and {self.target} is empty"
            )
        refuse_no_verdict(summary)
        return summary

    def _output(self) -> contextlib.closing[Output]:
        expansion = self.task.expansion
        further: dict[str, Any] = {}
        if expansion is not None:
            further = {"expand": expansion.add, "notes": expansion.as_record}
        return contextlib.closing(
            Output(self.target, self.identity(), overwrite=self.settings.overwrite, **further)
        )

    def _rows(self) -> Iterator[tuple[int, Row]]:
        return good_rows(self.source, self.task.row_format, self.checked)

    def _paired(
        self, rows: Iterator[tuple[int, Row]], written: Iterator[Row], whole: bool
    ) -> Iterator[tuple[int, Row, Row]]:
        """Each written row with its input row: line, input row, output row.

        It consumes one row of the input for each written one. With `whole` written rows hold the input's
        fields, which are compared.
        """
        for number, was in enumerate(written, start=1):
            line, row = next(rows, (0, None))
            if row is None or (whole and not _is_row_of(was, row, self.task.added_fields)):
                due = "no further row" if row is None else f"the row of line {line} of {self.source.name}"
                raise DataError(
                    f"is not the expected row ({due}): two runs wrote into it, or the file was changed since",
                    path=self.target, line=number, hint="--overwrite starts again",
                )  # fmt: skip
            yield line, row, was

    def _finished(self, path: Path) -> Iterator[tuple[int, Row, Row | None]]:
        """Line and row of the input, and the fields added to it; None if it failed."""
        rows = self._rows()
        # Parquet adds nulls and changes types, so only the number of its rows is compared.
        whole = path.suffix == ".jsonl"
        written = (row for _, row in read_rows(path))
        for line, row, was in self._paired(rows, written, whole):
            added = {f: value for f, value in was.items() if f in self.task.added_fields or f not in row}
            yield line, row, None if has_failed(was) else added
        if next(rows, None) is not None:
            raise DataError(
                "holds fewer rows than its input: the file was changed since it was written",
                path=str(path), hint="--overwrite starts again",
            )  # fmt: skip

    def _judge_rows(
        self,
        rows: Iterable[tuple[int, Row, Row | None]],
        output: Output,
        summary: Summary,
        progress: RunProgress,
        *,
        retried: bool = False,
    ) -> None:
        """Judge rows without a result, and write all of them, chunk by chunk."""
        count = self.task.row_format.n_requests

        def size(entry: tuple[int, Row, Row | None]) -> int:
            return 0 if entry[2] is not None else count(entry[1])

        for chunk in chunked(rows, self.settings.chunk_requests, size):
            items = [item_of(self.source, line, row, self.task) for line, row, kept in chunk if kept is None]
            if items and self._spent is not None:
                self._spent.check(f"{output.n_done:,} of {self.checked.n_rows:,} rows are in {output.name}")
            results = self.task.judge(items) if items else []
            new = iter(results)
            output.write((row, next(new).added if kept is None else kept) for _, row, kept in chunk)
            summary.add(results)
            if self._spent is not None:
                self._spent.add(j for r in results for j in (*r.judgments, *r.explanations))
            if not retried:
                self._listener.judged(items, results)
            progress.advance(sum(len(item.requests) for item in items))
            if not retried:
                stop_past(self.settings.max_failures, summary)
        summary.seconds, summary.loading_seconds = progress.seconds, progress.loading_seconds
        if self._spending is not None:
            summary.spending = self._spending()
            summary.usage = summary.spending.usage

    def _progress(self, label: str, total: int) -> RunProgress:
        def status() -> str:
            left = "" if self._spent is None else self._spent.left()
            if self._spending is None or not (spent := self._spending()).n_cached:
                return left
            cached = f"{spent.n_cached / (spent.n_cached + spent.n_asked):.0%} from the cache"
            return f"{cached}, {left}" if left else cached

        def loaded() -> bool:
            return self._judge is None or is_loaded(self._judge.built_engine)

        return self._listener.progress(label, total, status, loaded)

    def _name_judge(self, output: Output) -> None:
        """Tell the listener and the output's record who judges; refuse rows of another judge."""
        if self._judge is None:
            return
        early = self._judge.describe("files")
        self._listener.judge_known(shown(early, self._judge.settings.sampling.max_new_tokens))
        description = self._judge.describe()
        output.identify(redacted(who(description)), redacted(about_run(description)))

    def _refuse_another_judge(self, output: Output) -> None:
        """Refuse to call an output finished that another judge wrote, without loading a model."""
        kept = output.record.get("who")
        if self._judge is None or kept is None:
            return
        early = self._judge.describe("files")
        if early["judge_id"] is not None:
            check_same_judge(output.name, kept, redacted(who(early)))


def _is_row_of(written: Row, row: Row, replaced: Collection[str]) -> bool:
    """Whether an output row was made from an input row: its fields are there, except those replaced."""
    kept = {name: value for name, value in row.items() if name not in replaced}
    if all(name in written and written[name] == value for name, value in kept.items()):
        return True
    # Dates, NaN and the like are written in another form.
    kept = json.loads(to_json(kept))
    return all(name in written and written[name] == value for name, value in kept.items())
