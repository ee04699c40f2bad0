# SPDX-License-Identifier: Apache-2.0
"""Members of a panel on the page: what each said beside the panel, and how far they are from each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from autoj_reward.reporting.breakdown.heat_map import Cell, Column, HeatMap, HeatRow
from autoj_reward.reporting.entries import Entry, Run, Sampled, scale_of
from autoj_reward.reporting.parts import Bars, Histogram, Listing, Part
from autoj_reward.statistics import rank_correlation, share

_PANEL = ""
"""The panel among its members' names."""
_MOST_IN_PAIRS = 6
_UNIT = (0.0, 1.0)


def members_parts(run: Run, sampled: Sequence[Sampled]) -> list[Part]:
    """A table of the members, their distances and agreement, and their values of some judgments."""
    judged = [entry for entry in run.entries if entry.members]
    if not judged:
        return []
    value, names = _value(run), _names(judged)
    parts: list[Part] = [_table(judged, names, value.name), *_distances(judged, names, value)]
    agreements = [entry.agreement for entry in judged if entry.agreement is not None]
    if agreements:
        parts.append(_agreement({"judgments": agreements}, ""))
    rows = [
        _row(one.label, one.entry, names, one.entry.line, one.text) for one in sampled if one.entry.members
    ]
    says = f"The {value.name} by each member on the panel's scale, shaded from its lowest to its highest. "
    says += "Hatched cells have no verdict. Agreement is 1 less the mean distance of two members."
    columns = _columns(judged, names, value)
    parts.append(
        HeatMap(id="members-map", title="Judgments by members", says=says, columns=columns, rows=rows)
    )
    return parts


def members_table(run: Run, title: str, labelled: Sequence[tuple[str, Entry]]) -> list[HeatMap]:
    """The members of a row's judgments beside the panel; nothing without a panel."""
    entries = [entry for _, entry in labelled if entry.members]
    if not entries:
        return []
    names = _names(entries)
    rows = [_row(label, entry, names) for label, entry in labelled]
    return [HeatMap(title=title, columns=_columns(entries, names, _value(run)), rows=rows)]


def compared_members(names: tuple[str, str], pairs: Sequence[tuple[Entry, Entry]]) -> list[Part]:
    """The agreement of two runs' panels, over the judgments for which both have it."""
    known = [
        (a.agreement, b.agreement) for a, b in pairs if a.agreement is not None and b.agreement is not None
    ]
    if not known:
        return []
    columns = {name: [pair[n] for pair in known] for n, name in enumerate(names)}
    means = ", ".join(f"{name} {share(column).value:.3f}" for name, column in columns.items())
    change = share([y - x for x, y in known])
    says = (
        f"On average of {len(known):,} judgments: {means}; {names[1]} less {names[0]} {change.value:+.3f} "
        f"({change.low:+.3f} to {change.high:+.3f})."
    )
    return [_agreement(columns, says)]


def _value(run: Run) -> Column:
    """What the value of a panel and of its members is."""
    if run.kind == "compare":
        return Column(name="win probability", axis=_UNIT)
    return Column(name="expected rating", axis=scale_of(run))


def _names(entries: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(member.name for entry in entries for member in entry.members))


def _values(entry: Entry) -> dict[str, float]:
    """The values of a judgment by member, with the panel's; those without a verdict are left out."""
    named = {_PANEL: entry.number, **{m.name: m.value for m in entry.members}}
    return {name: value for name, value in named.items() if value is not None}


def _table(judged: Sequence[Entry], names: Sequence[str], what: str) -> Listing:
    rows: list[list[Any]] = []
    values = [_values(entry) for entry in judged]
    for name in names:
        own = [(e, m) for e in judged for m in e.members if m.name == name]
        missing = [e for e, m in own if m.value is None]
        both = [(v[name], v[_PANEL]) for v in values if name in v and _PANEL in v]
        known = [v[name] for v in values if name in v]
        rows.append(
            [
                name,
                _weights([m.weight for _, m in own]),
                len(own),
                len(missing),
                sum(e.number is not None for e in missing),
                share(known).value if known else None,
                share([x - y for x, y in both]).value if both else None,
                share([abs(x - y) for x, y in both]).value if both else None,
                rank_correlation([x for x, _ in both], [y for _, y in both]),
            ]
        )
    n_out = sum(row[4] for row in rows)
    says = f"{len(names):,} members judged {len(judged):,} times. "
    says += "A member without a verdict is left out where the panel has one from the others: "
    says += f"{n_out:,} of {sum(row[2] for row in rows):,} verdicts."
    columns = [
        "member", "weight", "judgments", "no verdict", "left out", f"mean {what}", "mean less the panel",
        "mean distance to the panel", "rank correlation with the panel",
    ]  # fmt: skip
    return Listing(id="members", title="Members of the panel", says=says, columns=columns, rows=rows)


def _weights(weights: Sequence[float]) -> str:
    low, high = min(weights), max(weights)
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def _distances(judged: Sequence[Entry], names: Sequence[str], value: Column) -> list[Part]:
    """Mean absolute difference of every two members and of each to the panel."""
    values = [_values(entry) for entry in judged]
    pairs = list(combinations(names, 2)) if len(names) <= _MOST_IN_PAIRS else []
    known = {
        (a, b): [abs(v[a] - v[b]) for v in values if a in v and b in v]
        for a, b in [*pairs, *((name, _PANEL) for name in names)]
    }
    shares = {pair: share(distances) for pair, distances in known.items() if distances}
    if not shares:
        return []
    furthest = max(shares, key=lambda pair: (pair[1] != _PANEL, shares[pair].value))
    mean = shares[furthest]
    says = (
        f"The largest mean difference is between {_both(furthest)}: {mean.value:.3g} "
        f"({mean.low:.3g} to {mean.high:.3g}) in the {value.name}."
    )
    made = Bars.of_shares(
        "member-distances",
        "Distance of the members",
        says,
        y_label="mean absolute difference",
        shares={"distance": {_both(pair): mean for pair, mean in shares.items()}},
    )
    return [replace(made, x_label="members")]


def _both(pair: tuple[str, str]) -> str:
    return f"{pair[0]} and {'the panel' if pair[1] == _PANEL else pair[1]}"


def _agreement(values: dict[str, list[float]], says: str) -> Histogram:
    least = min(value for own in values.values() for value in own)
    return Histogram.of_values(
        "panel-agreement",
        "Agreement of the members",
        values,
        what="agreement: 1 less the mean distance of two members, as a share of the scale",
        # Members mostly agree, so that a whole scale would be one bar.
        ends=(min(math.floor(least * 5.0) / 5.0, 0.8), 1.0),
        says=says or None,
    )


def _columns(entries: Sequence[Entry], names: Sequence[str], value: Column) -> list[Column]:
    weights: dict[str, list[float]] = {name: [] for name in names}
    for entry in entries:
        for member in entry.members:
            weights[member.name].append(member.weight)
    return [
        Column(name="panel", note=value.name),
        *(
            Column(name=name, note=f"weight {_weights(own)}", axis=value.axis)
            for name, own in weights.items()
        ),
        Column(name="agreement"),
    ]


def _row(label: str, entry: Entry, names: Sequence[str], line: int | None = None, text: str = "") -> HeatRow:
    own = {m.name: Cell(m.value, m.failure) for m in entry.members}
    panel = Cell(entry.number, entry.failure if entry.number is None else None)
    cells = [panel, *(own.get(name, Cell()) for name in names), Cell(entry.agreement)]
    return HeatRow(label=label, cells=cells, line=line, text=text)
