# SPDX-License-Identifier: Apache-2.0
"""Rows as a Parquet file, or as a folder of `datasets`."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError
from autoj_reward.json_text import without_surrogates
from autoj_reward.rows.columns import Columns
from autoj_reward.rows.source import Row, chunked

_GROUP_ROWS = 512
"""Rows of a Parquet row group, and in memory at a time."""


def write_folder(path: Path, rows: Iterator[Row], scratch: Path) -> None:
    """Write a folder for `datasets.load_from_disk`."""
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            "writing a folder for load_from_disk needs the package datasets, which is not installed",
            hint=f"{how_to_install('data')}, or write .jsonl or .parquet",
        ) from error
    parquet = scratch / "rows.parquet"
    write_parquet(parquet, rows, scratch)
    made = datasets.Dataset.from_parquet(str(parquet), cache_dir=str(scratch / "cache"))
    made.save_to_disk(path)


def write_parquet(path: Path, rows: Iterator[Row], scratch: Path) -> None:
    """Write rows as Parquet. The schema has to fit all of them: they wait in `scratch` until it is known."""
    import pyarrow.parquet as pq

    columns = Columns()
    n_pieces = 0
    for chunk in chunked((storable(row) for row in rows), _GROUP_ROWS):
        for row in chunk:
            columns.add(row)
        (scratch / f"{n_pieces}.pickle").write_bytes(pickle.dumps(chunk))
        n_pieces += 1
    schema = columns.schema()
    with pq.ParquetWriter(path, schema) as writer:
        for n in range(n_pieces):
            # Written above by this process, into its own folder.
            chunk = pickle.loads((scratch / f"{n}.pickle").read_bytes())  # noqa: S301
            writer.write_table(columns.table(chunk, schema))


def storable(value: Any) -> Any:
    """The value with lone surrogates as U+FFFD: Parquet's texts are UTF-8."""
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    return [storable(item) for item in value] if isinstance(value, list) else value
