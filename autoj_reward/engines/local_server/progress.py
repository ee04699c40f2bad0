# SPDX-License-Identifier: Apache-2.0
"""Show progress while a local server starts."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator

from autoj_reward.engines.local_server.shared import Report
from autoj_reward.terminal import printable

_logger = logging.getLogger("autoj_reward")

_LINE_SECONDS = 10.0


@contextlib.contextmanager
def progress(what: str, *, shown: bool = False) -> Iterator[Report]:
    """Show what is being waited for on a terminal's standard error; otherwise log each change.

    Args:
        what: What is waited for.
        shown: Without a terminal, write a line to standard error every 10 seconds instead of logging.
    """
    began, last, last_shown = time.monotonic(), "", 0.0
    if sys.stderr.isatty():
        from rich.text import Text

        from autoj_reward.console import Console

        with Console(stderr=True).status("") as status:
            yield lambda text: status.update(
                Text(_line(what, began, text), overflow="ellipsis", no_wrap=True)
            )
        return

    def log(text: str) -> None:
        nonlocal last, last_shown
        now = time.monotonic()
        if shown and now - last_shown > _LINE_SECONDS:
            last_shown = now
            print(_line(what, began, text), file=sys.stderr, flush=True)  # noqa: T201
        elif not shown and text != last:
            last = text
            _logger.info("%s, %.0f s: %s", what, now - began, text)

    yield log


def _line(what: str, began: float, text: str) -> str:
    return printable(f"{what}, {time.monotonic() - began:.0f} s: {text}")
