# SPDX-License-Identifier: Apache-2.0
"""Criteria on the page: their means, and a heat map of judgments by criteria."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from autoj_reward.reporting.breakdown.heat_map import Cell, Column, HeatMap, HeatRow
from autoj_reward.reporting.breakdown.judged import CriterionScore
from autoj_reward.reporting.entries import Entry, Sampled
from autoj_reward.reporting.parts import Bars, Part
from autoj_reward.statistics import Share, share

_MOST_COLUMNS, _MOST_BARS = 12, 30
_UNIT = (0.0, 1.0)


class _Key(NamedTuple):
    """What criteria of several judgments are one: a name, a sign, and which of a rubric's with both."""

    name: str
    pitfall: bool
    place: int

    @property
    def title(self) -> str:
        return self.name if self.place == 1 else f"{self.name} ({self.place})"


def criteria_parts(entries: Sequence[Entry], sampled: Sequence[Sampled]) -> list[Part]:
    """Mean score of each criterion, and the criteria of some judgments; nothing without criteria."""
    judged = [one.entry for entry in entries for one in entry.by_criteria()]
    found = _by_key(judged)
    if not found:
        return []
    most = sorted(found, key=lambda key: -len(found[key]))
    bars, columns = most[:_MOST_BARS], most[:_MOST_COLUMNS]
    means = {key: _mean(found[key]) for key in bars}
    verdicts = [v for own in found.values() for v in own]
    failed = Counter(v.failure for v in verdicts if v.failure is not None)
    says = (
        f"{len(judged):,} judgments by {len(found):,} criteria: {len(verdicts):,} verdicts, "
        f"{failed.total():,} without a score, which count in no mean."
    )
    known = {key: mean for key, mean in means.items() if mean.n}
    for what, pitfall in (("Lowest", False), ("The pitfall that is there most", True)):
        own = [key for key in known if key.pitfall is pitfall]
        if own:
            key = (max if pitfall else min)(own, key=lambda k: known[k].value)
            says += f" {what}: {key.title}, {known[key].value:.2f}."
    return [
        _bars(
            says + _left(len(found), len(bars)),
            {"score": {_label(key): mean for key, mean in means.items()}},
        ),
        HeatMap(
            id="criteria-map",
            title="Judgments by criteria",
            says="Expected scores from 0 to 1, shaded from low to high; pitfalls, which count against an "
            "answer, have another colour. Hatched cells failed, and - was not asked. Mean and failures are "
            f"of all judgments.{_left(len(found), len(columns))}",
            columns=_columns(columns, found),
            rows=[
                _row(own.label, own.entry, columns, one.entry.line, "" if n else one.text)
                for one in sampled
                for n, own in enumerate(one.entry.by_criteria(one.label))
            ],
            foot={
                "mean": ["", *(_text(means[key]) for key in columns)],
                "failed": ["", *(_failed(found[key]) for key in columns)],
            },
        ),
    ]


def criteria_table(title: str, labelled: Sequence[tuple[str, Entry]]) -> list[HeatMap]:
    """The criteria of a row's judgments; nothing without criteria."""
    own = [one for label, entry in labelled for one in entry.by_criteria(label)]
    found = _by_key([one.entry for one in own])
    if not found:
        return []
    keys = list(found)
    rows = [_row(one.label, one.entry, keys) for one in own]
    return [HeatMap(title=title, columns=_columns(keys, found), rows=rows)]


def compared_criteria(names: tuple[str, str], pairs: Sequence[tuple[Entry, Entry]]) -> list[Part]:
    """Mean scores of the criteria that two runs have of the same texts, over those that both read."""
    both: dict[_Key, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for a, b in _matched(pairs):
        first, second = _keyed(a), _keyed(b)
        for key in first:
            x, y = first[key].score, second[key].score if key in second else None
            if x is not None and y is not None:
                both[key][0].append(x)
                both[key][1].append(y)
    if not both:
        return []
    most = sorted(both, key=lambda key: -len(both[key][0]))[:_MOST_BARS]
    changes = {key: share([y - x for x, y in zip(*both[key], strict=True)]) for key in most}
    furthest = max(most, key=lambda key: abs(changes[key].value))
    change = changes[furthest]
    says = (
        f"Over the verdicts that both have. {names[1]} less {names[0]} is largest of {_label(furthest)}: "
        f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f}).{_left(len(both), len(most))}"
    )
    shares = {name: {_label(key): share(both[key][n]) for key in most} for n, name in enumerate(names)}
    return [_bars(says, shares)]


def _bars(says: str, shares: dict[str, dict[str, Share]]) -> Bars:
    title = "Mean score of each criterion"
    made = Bars.of_shares("criteria", title, says, y_label="expected score", shares=shares, axis=_UNIT)
    return replace(made, x_label="criterion")


def _matched(pairs: Sequence[tuple[Entry, Entry]]) -> Iterator[tuple[Entry, Entry]]:
    """Both runs' judgments by criteria of the same texts; of panels those of members with one name."""
    for a, b in pairs:
        there = {one.label: one.entry for one in b.by_criteria()}
        yield from ((one.entry, there[one.label]) for one in a.by_criteria() if one.label in there)


def _keyed(entry: Entry) -> dict[_Key, CriterionScore]:
    """A judgment's criteria by what they are."""
    found: dict[_Key, CriterionScore] = {}
    for one in entry.criteria:
        place = 1
        while (key := _Key(one.name, one.weight < 0.0, place)) in found:
            place += 1
        found[key] = one
    return found


def _by_key(entries: Sequence[Entry]) -> dict[_Key, list[CriterionScore]]:
    found: dict[_Key, list[CriterionScore]] = defaultdict(list)
    for entry in entries:
        for key, one in _keyed(entry).items():
            found[key].append(one)
    return dict(found)


def _columns(keys: Sequence[_Key], found: dict[_Key, list[CriterionScore]]) -> list[Column]:
    return [Column(name="score"), *(_column(key, found[key]) for key in keys)]


def _column(key: _Key, verdicts: Sequence[CriterionScore]) -> Column:
    weights = sorted({v.weight for v in verdicts})
    said = f"weight {weights[0]:g}" if len(weights) == 1 else f"weights {weights[0]:g} to {weights[-1]:g}"
    notes = [*(["pitfall"] if key.pitfall else []), said]
    if any(v.essential for v in verdicts):
        notes.append("essential" if all(v.essential for v in verdicts) else "essential in some")
    return Column(name=key.title, note=", ".join(notes), axis=_UNIT, against=key.pitfall)


def _row(label: str, entry: Entry, keys: Sequence[_Key], line: int | None = None, text: str = "") -> HeatRow:
    own = _keyed(entry)
    cells = [Cell(entry.score, entry.failure if entry.criteria and entry.score is None else None)]
    cells += [Cell(own[key].score, own[key].failure) if key in own else Cell() for key in keys]
    return HeatRow(label=label, cells=cells, line=line, text=text)


def _mean(verdicts: Sequence[CriterionScore]) -> Share:
    return share([v.score for v in verdicts if v.score is not None])


def _label(key: _Key) -> str:
    return f"{key.title} (pitfall)" if key.pitfall else key.title


def _text(mean: Share) -> str:
    return f"{mean.value:.2f}" if mean.n else "-"


def _failed(verdicts: Sequence[CriterionScore]) -> str:
    return f"{sum(v.failure is not None for v in verdicts):,} of {len(verdicts):,}"


def _left(n: int, n_shown: int) -> str:
    return f" The {n_shown} that most judgments have, of {n:,}." if n > n_shown else ""
