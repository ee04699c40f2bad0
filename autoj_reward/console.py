# SPDX-License-Identifier: Apache-2.0
"""A rich console that escapes control characters in untrusted text."""

from __future__ import annotations

from typing import Any

import rich.console
import rich.markup
from rich.text import Text

from autoj_reward.terminal import printable


class Console(rich.console.Console):
    """A rich console that escapes control characters in all text: cells, titles and lines."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Render text with its markup."""
        return super().render_str(printable(text), **options)


def escape(text: str) -> str:
    """Escape untrusted text for rich markup."""
    return rich.markup.escape(printable(text))
