# SPDX-License-Identifier: Apache-2.0
"""Check that a write-ahead log starts with a valid SQLite header."""

from __future__ import annotations

import struct
import time
from pathlib import Path

from autoj_reward.errors import StoreError

_WAL_HEADER = struct.Struct(">8I")
_WAL_MAGICS = (0x377F0682, 0x377F0683)


def check_log(path: Path, *, around: str) -> None:
    """Refuse a write-ahead log with a damaged header, which SQLite would skip without an error.

    A log that ends in the middle of a transaction is fine: SQLite recovers all complete ones. `around` is for
    the hint: how to work without the file.

    Raises:
        StoreError: The header is damaged.
    """
    log = path.with_name(path.name + "-wal")
    for _ in range(3):
        try:
            with open(log, "rb") as file:
                head = file.read(_WAL_HEADER.size)
        except OSError:
            return
        if not head or _is_wal_header(head):
            return
        # Another process may be writing the header now.
        time.sleep(0.05)
    raise StoreError(
        f"the write-ahead log {log} is damaged",
        hint=f"restore the log, or move it away and lose the newest judgments, which are in it; {around}",
    )


def _is_wal_header(head: bytes) -> bool:
    """Whether magic number and checksum are those of a log (SQLite's file format, section 4)."""
    if len(head) < _WAL_HEADER.size:
        return False
    magic, *_, first, second = _WAL_HEADER.unpack(head)
    if magic not in _WAL_MAGICS:
        return False
    words = struct.unpack((">" if magic & 1 else "<") + "6I", head[:24])
    a = b = 0
    for x, y in zip(words[::2], words[1::2], strict=True):
        a = (a + x + b) & 0xFFFFFFFF
        b = (b + y + a) & 0xFFFFFFFF
    return (a, b) == (first, second)
