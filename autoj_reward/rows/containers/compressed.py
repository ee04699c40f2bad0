# SPDX-License-Identifier: Apache-2.0
"""Open files that may be compressed with gzip."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from autoj_reward.errors import DataError


@contextlib.contextmanager
def open_binary(path: Path, name: str) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked if it is compressed with gzip.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with open(path, "rb") as raw:
            is_gzip = raw.read(2) == b"\x1f\x8b" or path.suffix == ".gz"
            raw.seek(0)
            if is_gzip:
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield unpacked  # type: ignore[misc]
            else:
                yield raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read: {error}", path=name) from error


def first_bytes(path: Path, name: str, n: int = 4096) -> bytes:
    """The first bytes of a file, unpacked; fewer if it is shorter or breaks off.

    Raises:
        DataError: It cannot be opened.
    """
    with open_binary(path, name) as file:
        return file.read(n)
