# SPDX-License-Identifier: Apache-2.0
"""Escape control characters in untrusted text before it reaches a terminal.

Text of policies, judges, servers and files can hold escape sequences that move the cursor or change the title
or clipboard, and characters that reverse the writing direction.
"""

from __future__ import annotations

import logging

_SHOWN = {
    **{point: f"\\x{point:02x}" for point in (*range(0x20), *range(0x7F, 0xA0)) if point not in (9, 10)},
    # Line separators; embeddings, overrides and isolates of direction. Marks of right-to-left text stay.
    **{point: f"\\u{point:04x}" for point in (*range(0x2028, 0x202F), *range(0x2066, 0x206A))},
    # Surrogates cannot be encoded.
    **{point: f"\\u{point:04x}" for point in range(0xD800, 0xE000)},
}


def printable(text: str) -> str:
    r"""Escape control characters and characters that reverse the writing direction.

    Line feeds, tabs, and letters, joiners and combining marks of all scripts stay.

    Example:
        >>> printable("ok\x1b[2J")
        'ok\\x1b[2J'
    """
    return text.replace("\r\n", "\n").translate(_SHOWN)


class PrintableFilter(logging.Filter):
    """Makes log messages printable."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record, with a printable message."""
        message = record.getMessage()
        if (safe := printable(message)) != message:
            record.msg, record.args = safe, None
        return True
