# SPDX-License-Identifier: Apache-2.0
"""Show a row run on the terminal: notes, bad rows, progress and the summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autoj_reward.cli import display
from autoj_reward.errors import DataError
from autoj_reward.progress import RunProgress
from autoj_reward.rows.records import RowItem, RowResult, RunListener, Summary

if TYPE_CHECKING:
    from autoj_reward.rows.preferences import LabelSummary


class RunDisplay(RunListener):
    """Prints what happens in a row run; with `quiet` notes and errors only.

    `overlong` is the judge's setting, for the advice about inputs that are too long.
    """

    def __init__(
        self,
        label: str,
        target: str,
        *,
        quiet: bool,
        overlong: str = "error",
        show: Callable[[Sequence[RowItem], Sequence[RowResult]], None] | None = None,
        labels: LabelSummary | None = None,
    ) -> None:
        self._target, self._quiet, self._overlong = target, quiet, overlong
        self._show, self._labels = show, labels
        self._label, self._n_left_out = label, 0

    def note(self, text: str) -> None:
        display.note(text)

    def bad_rows(self, problems: Sequence[DataError]) -> None:
        self._n_left_out = len(problems)
        display.print_problems(problems)

    def judge_known(self, facts: Mapping[str, str]) -> None:
        if not self._quiet:
            for name, text in facts.items():
                display.note(f"{name}: {text}")

    def judged(self, items: Sequence[RowItem], results: Sequence[RowResult]) -> None:
        if self._show is not None:
            self._show(items, results)

    def progress(
        self, label: str, total: int, status: Callable[[], str], loaded: Callable[[], bool]
    ) -> RunProgress:
        return RunProgress(label, total, quiet=self._quiet, status=status, loaded=loaded)

    def _next_step(self, summary: Summary) -> str:
        """What to do with the output."""
        if self._target == "-":
            return ""
        if summary.n_failed_rows and self._labels is None:
            return "the same command with --retry-failed judges the failed rows again"
        if Path(self._target).suffix in (".jsonl", ".parquet"):
            return f"autoj-reward report {self._target}"
        return f'datasets.load_from_disk("{self._target}") in Python'

    def finished(self, summary: Summary) -> None:
        if not self._quiet:
            display.print_summary(
                self._label,
                summary,
                self._target,
                overlong=self._overlong,
                n_left_out=self._n_left_out,
                next_step=self._next_step(summary),
            )
            if self._labels is not None:
                display.print_labels(self._labels)
