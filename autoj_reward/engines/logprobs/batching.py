# SPDX-License-Identifier: Apache-2.0
"""Group inputs into batches by length or by shared prefix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Row = tuple[int, list[int]]
"""Index in the caller's list, and token ids."""

_MIN_SHARED = 64
"""Fewest shared tokens that are worth a separate pass."""


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """Rows read in one forward pass.

    Attributes:
        rows: The rows.
        n_shared: Length of the common prefix that is computed once; 0 for none. Always less than the
            shortest row.
    """

    rows: list[Row]
    n_shared: int = 0


def shared_length(a: list[int], b: list[int]) -> int:
    """Length of the common prefix of two rows."""
    start = 0
    # Whole slices are compared much faster than tokens one by one.
    while (part := a[start : start + 32]) and part == b[start : start + 32]:
        start += len(part)
    for n, (x, y) in enumerate(zip(part, b[start : start + 32], strict=False), start):
        if x != y:
            return n
    return min(len(a), len(b))


def by_length(rows: Sequence[Row], *, extra: int, batch_tokens: int) -> Iterator[list[Row]]:
    """Batches of rows of similar length, longest first.

    Args:
        rows: The rows.
        extra: Tokens added to each row.
        batch_tokens: Most tokens of a batch, padding and extra included; one row may exceed it.
    """
    batch: list[Row] = []
    for row in sorted(rows, key=lambda r: len(r[1]), reverse=True):
        width = len(batch[0][1]) if batch else len(row[1])
        if batch and (len(batch) + 1) * (width + extra) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def read_batches(rows: Sequence[Row], *, extra: int, batch_tokens: int) -> Iterator[ReadBatch]:
    """Batches for reading, in which rows with a long common prefix compute it once.

    Rows are sorted by their tokens. Runs of rows with a long enough common prefix become batches; the others
    are batched by length.
    """
    alone: list[Row] = []
    for run in _runs(sorted(rows, key=lambda r: r[1])):
        if len(run) == 1:
            alone += run
            continue
        # At least one token of each row is computed, for its logits.
        shared = min(shared_length(run[0][1], run[-1][1]), min(len(ids) for _, ids in run) - 1)
        by_rest = [(i, ids[shared:]) for i, ids in run]
        whole = dict(run)
        for batch in by_length(by_rest, extra=extra, batch_tokens=max(batch_tokens - shared, 1)):
            if len(batch) == 1:
                alone.append((batch[0][0], whole[batch[0][0]]))
            else:
                yield ReadBatch([(i, whole[i]) for i, _ in batch], shared)
    for batch in by_length(alone, extra=extra, batch_tokens=batch_tokens):
        yield ReadBatch(batch)


def _runs(ordered: Sequence[Row]) -> Iterator[list[Row]]:
    """Split sorted rows where a row shares too little with the first of its run.

    Too little is under `_MIN_SHARED` tokens, or so little more than nothing that a run of its own costs fewer
    tokens than what the run's rows would no longer share.
    """
    run: list[Row] = []
    common = 0
    for row in ordered:
        if run:
            shared = shared_length(run[0][1], row[1])
            lost = len(run) * (common - shared) if len(run) > 1 else 0
            if shared < _MIN_SHARED or lost > shared:
                yield run
                run = []
            common = shared
        run.append(row)
    if run:
        yield run
