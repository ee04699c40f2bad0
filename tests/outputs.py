# SPDX-License-Identifier: Apache-2.0
"""Read the rows of an output, for tests and drills."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_output(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON lines or Parquet file."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
