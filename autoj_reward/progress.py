# SPDX-License-Identifier: Apache-2.0
"""Progress on stderr: a bar on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from autoj_reward.console import Console, escape
from autoj_reward.terminal import printable

_LINE_SECONDS = 15.0
"""Interval of lines without a terminal."""


class RunProgress:
    """Shows finished judgments of a total, their rate and the remaining time, unless `quiet`.

    `status` returns a few words to show after the rate.
    """

    def __init__(
        self, label: str, total: int, *, quiet: bool = False, status: Callable[[], str] = lambda: ""
    ) -> None:
        self._label, self._total, self._done, self._skipped = label, total, 0, 0
        self._started = self._last_line = time.monotonic()
        self._quiet = quiet
        self._status = status
        self._bar: Progress | None = None
        if not quiet and sys.stderr.isatty():
            self._bar = Progress(
                SpinnerColumn(),  # turns until the first judgments are done
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(compact=True),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(escape(label), total=total, rate="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def skip(self, n: int) -> None:
        """Count n judgments of an earlier run: as done, but not for the rate."""
        self._done += n
        self._skipped += n
        if self._bar:
            self._bar.update(self._task, advance=n)

    def advance(self, n: int) -> None:
        """Count n more judgments."""
        self._done += n
        rate = (self._done - self._skipped) / max(self.seconds, 1e-9)
        if self._bar:
            self._bar.update(self._task, advance=n, rate=f"{rate:.1f}/s {self._status()}")
        elif not self._quiet and time.monotonic() - self._last_line > _LINE_SECONDS:
            self._last_line = time.monotonic()
            left = (self._total - self._done) / rate
            status = f", {words}" if (words := self._status()) else ""
            done = f"{self._label}: {self._done:,} of {self._total:,}, {rate:.1f}/s"
            line = printable(f"{done}, about {span(left)} left{status}")
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is the display


def span(seconds: float) -> str:
    """A duration for people: `42 s`, `3 min 20 s`, `5 h 12 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
