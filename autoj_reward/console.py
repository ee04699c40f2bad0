# SPDX-License-Identifier: Apache-2.0
"""The console that tables and notes are drawn on."""

from __future__ import annotations

from typing import Any

import rich.console
import rich.markup
from rich.text import Text

from autoj_reward.terminal import printable


class Console(rich.console.Console):
    """A rich console on which no text, of cells, titles or lines, reaches the terminal as a control."""

    def render_str(self, text: str, **options: Any) -> Text:
        """A text with its markup, as rich draws it."""
        return super().render_str(printable(text), **options)


def escape(text: str) -> str:
    """Untrusted text for rich markup: shown as it is, never interpreted."""
    return rich.markup.escape(printable(text))
