# SPDX-License-Identifier: Apache-2.0
"""Progress on stderr: a bar on a terminal, one line in a notebook, a line every 15 seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from autoj_reward.terminal import printable

if TYPE_CHECKING:
    from rich.progress import Progress

_LINE_SECONDS = 15.0
"""Interval of lines without a terminal."""
_POLL_SECONDS = 0.2
_NOTEBOOK_SECONDS = 1.0
_NOTEBOOK_CHARS = 100


class RunProgress:
    """Shows the loading of a judge, then finished judgments of a total, their rate and the remaining time.

    The rate is counted from when the judge was loaded, and without judgments of an earlier run.

    Args:
        label: What is done.
        total: Judgments.
        quiet: Show nothing.
        status: A few words to show after the rate.
        loaded: Whether the judge is loaded; asked until it is.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        quiet: bool = False,
        status: Callable[[], str] = lambda: "",
        loaded: Callable[[], bool] = lambda: True,
    ) -> None:
        self._label, self._total, self._done, self._skipped = label, total, 0, 0
        self._quiet, self._status, self._loaded = quiet, status, loaded
        self._began = self._last_line = time.monotonic()
        self._ready = self._began if loaded() else None
        self._ended = threading.Event()
        self._bar: Progress | None = None
        self._watching: threading.Thread | None = None
        self._in_notebook = in_notebook()
        if not quiet and sys.stderr.isatty():
            self._bar = self._make_bar()
            self._task = self._bar.add_task(self._label, total=total, rate="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        if not self._quiet:
            self._watching = threading.Thread(target=self._watch, name="progress", daemon=True)
            self._watching.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._watching is not None:
            self._watching.join()
        if self._bar:
            self._bar.stop()
        elif self._in_notebook and not self._quiet:
            self._print_over(self.state() if self._done < self._total else f"{self._done:,} done", end="\n")

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    @property
    def loading_seconds(self) -> float:
        """Seconds until the judge was loaded; 0 if it was loaded already or was not needed."""
        return 0.0 if self._ready is None else self._ready - self._began

    def skip(self, n: int) -> None:
        """Count n judgments of an earlier run: as done, but not for the rate."""
        self._done += n
        self._skipped += n

    def advance(self, n: int) -> None:
        """Count n more judgments."""
        self._done += n

    def _watch(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            self.poll()

    def poll(self) -> None:
        """Look whether the judge is loaded, and show the state if it is time."""
        now = time.monotonic()
        if self._ready is None and self._loaded():
            self._ready = now
        if self._bar:
            self._bar.update(self._task, completed=self._done, rate=self.state())
        elif self._in_notebook and not self._quiet and now - self._last_line > _NOTEBOOK_SECONDS:
            self._last_line = now
            self._print_over(self.state())
        elif not self._quiet and now - self._last_line > _LINE_SECONDS and self._done < self._total:
            self._last_line = now
            line = printable(f"{self._label}: {self.state()}")
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is the display

    def _print_over(self, text: str, end: str = "") -> None:
        """Write over the line of before: notebooks know the carriage return."""
        line = f"{printable(self._label)}: {printable(text)}"
        print(f"\r{line:<{_NOTEBOOK_CHARS}}", end=end, file=sys.stderr, flush=True)  # noqa: T201

    def state(self) -> str:
        """What goes on: `64 of 128, 0.7/s, about 1 min 30 s left`."""
        now = time.monotonic()
        judged = self._done - self._skipped
        if not judged:
            if self._ready is None:
                return f"loading the judge, {span(now - self._began)}"
            return f"waiting for the first of {self._total - self._done:,}, {span(now - self._ready)}"
        rate = judged / max(now - (self._ready or self._began), 1e-9)
        words = [f"{rate:.1f}/s"]
        if not self._bar:
            left = span((self._total - self._done) / rate)
            words = [f"{self._done:,} of {self._total:,}", *words, f"about {left} left"]
        return ", ".join([*words, status] if (status := self._status()) else words)

    def _make_bar(self) -> Progress:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        from autoj_reward.console import Console

        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
            # Else results would go to the terminal instead of a file or pipe behind standard output.
            redirect_stdout=sys.stdout.isatty(),
        )


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return "ipykernel" in sys.modules


def span(seconds: float) -> str:
    """A duration for people: `42 s`, `3 min 20 s`, `5 h 12 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
