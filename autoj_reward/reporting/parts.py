# SPDX-License-Identifier: Apache-2.0
"""The parts of a report: numbers and texts that page, images and tests share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from autoj_reward.reporting.breakdown.heat_map import HeatMap
from autoj_reward.statistics import Share, share

Number = float | int | None
Columns = Mapping[str, Sequence[Number]]
"""Values by series name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Single figures: names and formatted values."""

    id: str
    title: str
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A horizontal bar for each label; a dot if the axis does not begin at zero.

    Attributes:
        id: Unique on the page.
        title: Title of the chart.
        says: One sentence with the main finding, which is also the picture's text alternative.
        x_label: Name of the labels.
        y_label: Name of the values.
        labels: n labels.
        series: Values by name, n each; None leaves a gap.
        low: Lower ends of 95% intervals, n, for the series that have some.
        high: Upper ends, likewise.
        n: Number of judgments for each label; empty if a value is a count itself.
        axis: Ends of the axis; None fits the values and zero.
        limits: Values that are drawn as lines across all bars, by name.
        unit: Written after each value.
    """

    id: str
    title: str
    says: str
    x_label: str
    y_label: str
    labels: Sequence[str]
    series: Columns
    low: Columns = field(default_factory=dict)
    high: Columns = field(default_factory=dict)
    n: Sequence[int] = ()
    axis: tuple[float, float] | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    unit: str = ""

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
        cls,
        id_: str,
        title: str,
        says: str,
        *,
        y_label: str,
        shares: Mapping[str, Mapping[str, Share]],
        axis: tuple[float, float] | None = None,
    ) -> Bars:
        """Means by series and group, with their intervals; every series has the same groups."""
        first = next(iter(shares.values()))
        return cls(
            id=id_,
            title=title,
            says=says,
            x_label="group",
            y_label=y_label,
            labels=list(first),
            series={name: [s.value for s in groups.values()] for name, groups in shares.items()},
            low={name: [interval(s)[0] for s in groups.values()] for name, groups in shares.items()},
            high={name: [interval(s)[1] for s in groups.values()] for name, groups in shares.items()},
            n=[s.n for s in first.values()],
            axis=axis,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts in bins of a number.

    Attributes:
        id: Unique on the page.
        title: Title of the chart.
        says: One sentence with the main finding.
        x_label: Name of the number.
        y_label: What is counted.
        edges: n + 1 rising edges of the bins.
        series: Counts by name, n each.
        names: A name for each bin, if a bin is one value; else empty, and the edges are the axis.
        marks: Values that are drawn as lines, by name.
    """

    id: str
    title: str
    says: str
    x_label: str
    y_label: str
    edges: Sequence[float]
    series: Columns
    names: Sequence[str] = ()
    marks: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_values(
        cls,
        id_: str,
        title: str,
        values: Mapping[str, Sequence[float | None]],
        *,
        what: str,
        ends: tuple[float, float],
        says: str | None = None,
        marks: Mapping[str, float] | None = None,
    ) -> Histogram:
        """Values by series in about ten or twenty bins with round edges; None is left out.

        Args:
            id_: The part's id.
            title: Its title.
            values: The values, by series.
            what: Name of the number.
            ends: What the axis covers at least.
            says: The finding; None says count, mean and spread of each series.
            marks: Values that are drawn as lines, besides the mean of a single series.
        """
        known = {name: [v for v in column if v is not None] for name, column in values.items()}
        low, high = ends if ends[1] > ends[0] else (ends[0], ends[0] + 1.0)
        step = round_step((high - low) / (20 if max(map(len, known.values())) >= 200 else 10))
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        edges = [round(k * step, 12) for k in range(first, last + 1)]
        means = {name: share(column) for name, column in known.items()}
        if says is None:
            says = " ".join(
                (f"{name}: " if len(known) > 1 else "") + _spread(mean, known[name])
                for name, mean in means.items()
            )
        marks = dict(marks or {})
        if len(known) == 1 and (mean := next(iter(means.values()))).n:
            marks[f"mean {mean.value:.3g}"] = mean.value
        return cls(
            id=id_,
            title=title,
            says=says,
            x_label=what,
            y_label=next(iter(values)) if len(values) == 1 else "judgments",
            edges=edges,
            series={name: [int(c) for c in np.histogram(v, bins=edges)[0]] for name, v in known.items()},
            marks=marks,
        )


def interval(mean: Share) -> tuple[Number, Number]:
    """The ends of a mean's interval; none if all values are equal, of which resampling cannot tell."""
    return (mean.low, mean.high) if mean.low < mean.high else (None, None)


def _spread(mean: Share, values: Sequence[float]) -> str:
    if not values:
        return "no values."
    return (
        f"{mean.n:,} values, mean {mean.value:.3f} ({mean.low:.3f} to {mean.high:.3f}), "
        f"sd {float(np.std(values)):.3f}."
    )


def round_step(rough: float) -> float:
    """The next 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return float(next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Series over a common x; None leaves a gap.

    Attributes:
        id: Unique on the page.
        title: Title of the chart.
        says: One sentence with the main finding.
        x_label: Name of x.
        y_label: Name of the values.
        x: m rising values.
        series: Values by name, m each.
        low: Lower ends of bands, m, for the series that have some.
        high: Upper ends, likewise.
        n: Number of judgments for each x; empty if it is not shown.
        axis: How x is laid out: evenly, by whole numbers, or by powers of two.
        x_axis: Ends of the x axis; None fits the values.
        y_axis: Ends of the y axis; None fits the values.
        diagonal: Draw y = x, and make the chart a square.
        marks: Values of x that are drawn as lines, by name.
    """

    id: str
    title: str
    says: str
    x_label: str
    y_label: str
    x: Sequence[float]
    series: Columns
    low: Columns = field(default_factory=dict)
    high: Columns = field(default_factory=dict)
    n: Sequence[int] = ()
    axis: Literal["linear", "integer", "log2"] = "linear"
    x_axis: tuple[float, float] | None = None
    y_axis: tuple[float, float] | None = None
    diagonal: bool = False
    marks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Counts by two things: `cells[row][column]`, rows from the top."""

    id: str
    title: str
    says: str
    x_label: str
    y_label: str
    columns: Sequence[str]
    rows: Sequence[str]
    cells: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Rows of texts and numbers; texts may be long."""

    id: str
    title: str
    says: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One completion as it is shown: a title, figures by name, the text, and critiques by title."""

    title: str
    facts: Mapping[str, str]
    text: str
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of a run with its completions, best first.

    Attributes:
        line: The row's line.
        title: A few words about its judgment.
        prompt: The prompt's whole text.
        answers: Its completions.
        notes: Critiques about all of them, by title.
        group: The group it is counted under; empty for none.
        kinds: What a reader may look for: failed, flagged, flipped, disagrees, incomplete.
        values: Numbers to sort by.
        tables: Criteria and members of its judgments, a row for each.
    """

    line: int
    title: str
    prompt: str
    answers: Sequence[Answer]
    notes: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    kinds: Sequence[str] = ()
    values: Mapping[str, Number] = field(default_factory=dict)
    tables: Sequence[HeatMap] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """Rows with their texts, as open cards, as a list to unfold, or to search, sort and filter as well."""

    id: str
    title: str
    says: str
    cases: Sequence[Case]
    style: Literal["open", "folded", "browse"] = "open"


Chart = Bars | Histogram | Lines | Grid
Part = Facts | Chart | Listing | HeatMap | Cards


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole report.

    Attributes:
        kind: rate, compare, rerank, label, evaluate, probe or training.
        source: The run's file, as it was named.
        parts: In the order of the page.
        about: Who judged, when and how: names and values for the head of the page.
    """

    kind: str
    source: str
    parts: Sequence[Part] = field(default_factory=list)
    about: Mapping[str, str] = field(default_factory=dict)

    def as_record(self) -> dict[str, Any]:
        """As plain values, for JSON; without the texts to browse, which the run's file holds."""
        parts = [
            {"type": type(part).__name__.lower(), **asdict(part)}
            for part in self.parts
            if not (isinstance(part, Cards) and part.style == "browse")
        ]
        return {"kind": self.kind, "source": self.source, "about": dict(self.about), "parts": parts}

    def part(self, id_: str) -> Any:
        """One part.

        Raises:
            KeyError: There is none of that id.
        """
        for part in self.parts:
            if part.id == id_:
                return part
        raise KeyError(id_)
