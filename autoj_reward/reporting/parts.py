# SPDX-License-Identifier: Apache-2.0
"""The parts of a report: numbers that page, images and tests share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from autoj_reward.statistics import Share

Number = float | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Single figures: names and formatted values."""

    id: str
    title: str
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A bar for each label.

    Attributes:
        id: Unique on the page.
        title: Title of the chart.
        says: One sentence with the main finding, which is also the picture's text alternative.
        x_label: Name of the labels.
        y_label: Name of the values.
        labels: n labels.
        series: Values by name, n each; None leaves a gap.
        low: Lower ends of intervals, n, of a single series; empty for none.
        high: Upper ends, likewise.
        n: Number of judgments for each label; empty if a value is a count itself.
    """

    id: str
    title: str
    says: str
    x_label: str
    y_label: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[Number]]
    low: Sequence[Number] = ()
    high: Sequence[Number] = ()
    n: Sequence[int] = ()

    @classmethod
    def of_counts(
        cls,
        id_: str,
        title: str,
        says: str,
        *,
        x_label: str,
        counts: Mapping[str, int],
        unit: str = "judgments",
    ) -> Bars:
        """Counts by label, of judgments or another unit."""
        return cls(
            id=id_,
            title=title,
            says=says,
            x_label=x_label,
            y_label=unit,
            labels=list(counts),
            series={unit: list(counts.values())},
        )

    @classmethod
    def of_shares(
        cls, id_: str, title: str, says: str, *, y_label: str, series: str, shares: Mapping[str, Share]
    ) -> Bars:
        """Means by group, with their intervals."""
        return cls(
            id=id_,
            title=title,
            says=says,
            x_label="group",
            y_label=y_label,
            labels=list(shares),
            series={series: [s.value for s in shares.values()]},
            low=[s.low for s in shares.values()],
            high=[s.high for s in shares.values()],
            n=[s.n for s in shares.values()],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Series over a common x; None leaves a gap. `diagonal` draws y = x for comparison."""

    id: str
    title: str
    says: str
    x_label: str
    y_label: str
    x: Sequence[float]
    series: Mapping[str, Sequence[Number]]
    diagonal: bool = False
    n: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Rows of texts and numbers; the last column may be long."""

    id: str
    title: str
    says: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


Part = Facts | Bars | Lines | Listing


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole report.

    Attributes:
        kind: rate, compare, rerank, label, evaluate or probe.
        source: The run's file, as it was named.
        parts: In the order of the page.
    """

    kind: str
    source: str
    parts: Sequence[Part] = field(default_factory=list)

    def as_record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        parts = [{"type": type(part).__name__.lower(), **asdict(part)} for part in self.parts]
        return {"kind": self.kind, "source": self.source, "parts": parts}

    def part(self, id_: str) -> Any:
        """One part.

        Raises:
            KeyError: There is none of that id.
        """
        for part in self.parts:
            if part.id == id_:
                return part
        raise KeyError(id_)
