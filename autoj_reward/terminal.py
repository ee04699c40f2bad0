# SPDX-License-Identifier: Apache-2.0
"""Escape control characters in untrusted text before it reaches a terminal.

What policies, judges, servers and files say can hold escape sequences that move the cursor, change the title
or the clipboard, and marks that turn the direction of writing around.
"""

from __future__ import annotations

import logging

_SHOWN = {
    **{point: f"\\x{point:02x}" for point in (*range(0x20), *range(0x7F, 0xA0)) if point not in (9, 10)},
    # Line separators; embeddings, overrides and isolates of direction. The marks of right-to-left text stay.
    **{point: f"\\u{point:04x}" for point in (*range(0x2028, 0x202F), *range(0x2066, 0x206A))},
    # No terminal can be sent these: printing them is an error.
    **{point: f"\\u{point:04x}" for point in range(0xD800, 0xE000)},
}


def printable(text: str) -> str:
    r"""Text that a terminal shows as it is: control characters and marks that turn text around are escaped.

    Line feeds and tabs stay, and so do letters, joiners and combining marks of every script.

    Example:
        >>> printable("ok\x1b[2J")
        'ok\\x1b[2J'
    """
    return text.replace("\r\n", "\n").translate(_SHOWN)


class PrintableFilter(logging.Filter):
    """Makes a log record's words printable, whatever they quote."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, with safe words."""
        said = record.getMessage()
        if (safe := printable(said)) != said:
            record.msg, record.args = safe, None
        return True
