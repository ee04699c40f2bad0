# SPDX-License-Identifier: Apache-2.0
"""The benchmarks by name, and the report about a judge's answers to one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.evaluate.benchmarks import readers
from autoj_reward.evaluate.benchmarks.figures import FIGURES, Figure, Results, unreadable_pairs
from autoj_reward.evaluate.benchmarks.items import ADDED_FIELDS, By, JudgedItem
from autoj_reward.evaluate.benchmarks.source import Reader
from autoj_reward.evaluate.report import MISSING, ReportTable, figure, interval
from autoj_reward.rows.source import Row, read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A benchmark.

    Attributes:
        name: Its name on the command line.
        read: From a published row to an item's row.
        by: How its items are judged unless told otherwise.
        splits: Data sets of the hub that hold it, and the split of each that does.
    """

    name: str
    read: Reader
    by: By
    splits: dict[str, str]


_PPE_HUB = {
    "lmarena-ai/PPE-Human-Preference-V1": "test",
    **{
        f"lmarena-ai/PPE-{name}-Best-of-K": "train"
        for name in ("MMLU-Pro", "MATH", "GPQA", "IFEval", "MBPP-Plus")
    },
}
BENCHMARKS = {
    one.name: one
    for one in (
        Benchmark(
            name="rewardbench-2",
            read=readers.read_rewardbench_2,
            by="rating",
            splits={"allenai/reward-bench-2": "test"},
        ),
        Benchmark(
            name="judgebench",
            read=readers.read_judgebench,
            by="comparison",
            splits={"ScalerLab/JudgeBench": "gpt"},
        ),
        Benchmark(
            name="rm-bench", read=readers.read_rm_bench, by="rating", splits={"THU-KEG/RM-Bench": "train"}
        ),
        Benchmark(name="rmb", read=readers.read_rmb, by="comparison", splits={}),
        Benchmark(name="ppe", read=readers.read_ppe, by="comparison", splits=_PPE_HUB),
    )
}
"""The benchmarks by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkReport:
    """What a judge gets in a benchmark.

    Attributes:
        name: The benchmark.
        results: Its figures.
        n_items: Items.
        n_unreadable: Pairs without a verdict; they count as wrong.
    """

    name: str
    results: Results
    n_items: int
    n_unreadable: int

    def as_dict(self) -> dict[str, Any]:
        """As plain data; shares are percentages."""
        return {
            "benchmark": self.name,
            "headline": {f.name: f.as_dict() for f in self.results.headline},
            "subsets": {f.name: f.as_dict() for f in self.results.subsets},
            "missing": list(self.results.missing),
            "n_items": self.n_items,
            "n_unreadable": self.n_unreadable,
        }

    def table(self) -> ReportTable:
        """As a table: what is quoted, then the subsets."""
        notes = []
        if self.results.missing:
            notes.append(f"not in the data: {', '.join(self.results.missing)}")
        if self.n_unreadable:
            notes.append(f"{self.n_unreadable:,} pairs have no verdict; they count as wrong")
        return ReportTable(
            title=f"{self.name}, percent",
            columns=("subset", "n", "accuracy (95%)", "agreement", "kappa"),
            sections=(tuple(map(_row, self.results.headline)), tuple(map(_row, self.results.subsets))),
            notes=tuple(notes),
        )


def evaluate_benchmark(name: str, rows: Sequence[Row]) -> BenchmarkReport:
    """Score the judged items of a benchmark.

    Args:
        name: One of `BENCHMARKS`.
        rows: Items' rows with the fields that judging added.

    Raises:
        ConfigError: There is no such benchmark.
        DataError: There are no rows.
    """
    if name not in BENCHMARKS:
        raise ConfigError(f"there is no benchmark {name!r}", hint=f"there are {', '.join(BENCHMARKS)}")
    if not rows:
        raise DataError("there are no items to score")
    items = [JudgedItem(row) for row in rows]
    return BenchmarkReport(
        name=name, results=FIGURES[name](items), n_items=len(items), n_unreadable=unreadable_pairs(items)
    )


def read_judged(path: str) -> list[Row]:
    """Rows that `autoj-reward evaluate benchmark` wrote.

    Raises:
        ConfigError: The file does not exist.
        DataError: A row is no judged item; names file, line and field.
    """
    needed = {"id", "subsets", "gold", "pairs", *ADDED_FIELDS}
    rows = []
    for line, row in read_rows(path):
        if lost := sorted(needed - row.keys()):
            raise DataError("is missing", path=path, line=line, field=lost[0])
        rows.append(row)
    return rows


def _row(one: Figure) -> tuple[str, ...]:
    accuracy = one.accuracy
    return (
        one.name,
        f"{accuracy.n:,}",
        figure(accuracy.value) if math.isnan(accuracy.low) else interval(accuracy),
        figure(None if one.agreement is None else one.agreement.value),
        MISSING if one.kappa is None or math.isnan(one.kappa) else f"{one.kappa:.3f}",
    )
