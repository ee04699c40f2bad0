# SPDX-License-Identifier: Apache-2.0
"""Read a run's rows as compact entries, one for each judgment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.reporting.breakdown.judged import (
    CriterionScore,
    MemberValue,
    criteria_of,
    members_of,
    reason,
)
from autoj_reward.rows.fields import RowFormat
from autoj_reward.rows.output import read_record
from autoj_reward.rows.source import Row, read_rows

PREFERENCE_NAMES: dict[Any, str] = {0: "first", 1: "second", 2: "tie"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One judgment.

    Attributes:
        line: The row's line.
        index: Which completion of a group; 0 elsewhere.
        reward: The reward.
        number: Expected rating, or win probability of the first.
        verdict: Rating or preference.
        entropy: Of the distribution, in nats.
        critique_chars: Length of the critique.
        failure: Reason, or None.
        flags: The guard's flags; None without a guard.
        flipped: Whether the order of a pair changed the decision.
        slot_bias: Of a pair.
        gold: The gold label; None if unknown.
        group: The group it is counted under.
        score: By a rubric of criteria, in [0, 1].
        criteria: The verdicts on its criteria; empty without a rubric of criteria.
        members: The verdicts of a panel's members; empty for one judge.
        agreement: Of the members, in [0, 1]; None of fewer than two verdicts.
        sides: Of a labelled row, the judgments by criteria of its completions; of one that is in several
            pairs only with the first.
    """

    line: int
    index: int = 0
    reward: float | None = None
    number: float | None = None
    verdict: Any = None
    entropy: float | None = None
    critique_chars: int = 0
    failure: str | None = None
    flags: tuple[str, ...] | None = None
    flipped: bool | None = None
    slot_bias: float | None = None
    gold: Any = None
    group: str | None = None
    score: float | None = None
    criteria: tuple[CriterionScore, ...] = ()
    members: tuple[MemberValue, ...] = ()
    agreement: float | None = None
    sides: tuple[Sampled, ...] = ()

    @property
    def is_incomplete(self) -> bool:
        """Whether a criterion failed, or a member of a panel has no verdict."""
        failed = [m.failure for m in self.members]
        failed += [c.failure for own in self.by_criteria() for c in own.entry.criteria]
        return any(failure is not None for failure in failed)

    def by_criteria(self, label: str = "") -> list[Sampled]:
        """The judgments by criteria in it, named after a label.

        Its own, those of a panel's members, or those of a labelled row's completions.
        """
        if self.criteria:
            return [Sampled(label, self)]
        named = [
            (m.name, replace(self, criteria=m.criteria, score=m.score, failure=m.failure, members=()))
            for m in self.members
            if m.criteria
        ]
        named += [(side.label, side.entry) for side in self.sides]
        return [Sampled(f"{label}, {name}" if label else name, entry) for name, entry in named]


class Sampled(NamedTuple):
    """A judgment that is shown as an example: what it is called, and the beginning of its completion."""

    label: str
    entry: Entry
    text: str = ""


@dataclass(slots=True, kw_only=True)
class Run:
    """An output file.

    Attributes:
        kind: Which command wrote it.
        path: The file, to read its rows again.
        entries: One for each judgment, in the file's order; for `label` one for each labelled row.
        record: The run's record, with its settings and cost; empty without one.
        n_rows: Rows of the file.
        recognised: The format of the file's rows, found when record and own fields do not tell it.
        ends: Lowest and highest rating, once `scale_of` has found them.
    """

    kind: str
    path: str
    entries: list[Entry] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    n_rows: int = 0
    recognised: RowFormat | None = None
    ends: tuple[float, float] | None = None

    @property
    def scale(self) -> list[float]:
        """The judge's ratings, rising; empty if the record does not name them."""
        judge = (self.record.get("about") or {}).get("judge") or {}
        scale = judge.get("scale")
        return [float(v) for v in scale] if isinstance(scale, list) else []


def scale_of(run: Run) -> tuple[float, float]:
    """Lowest and highest rating: of the judge if the record says so, else of the judgments, rounded."""
    if run.ends is None:
        values = [v for e in run.entries for v in (e.number, e.verdict) if isinstance(v, int | float)]
        low, high = math.floor(min(values, default=0.0)), math.ceil(max(values, default=1.0))
        run.ends = (run.scale[0], run.scale[-1]) if run.scale else (low, max(high, low + 1))
    return run.ends


def kind_of_row(row: Row, name: str) -> str:
    """Which command wrote a row: rerank, compare, rate or label; training for a trainer's log.

    Raises:
        DataError: None did.
    """
    # A labelled pair has a win probability too, and the input of `rate` may have had a field `label`.
    marks: tuple[tuple[str, set[str]], ...] = (
        ("label", {"chosen", "rejected", "margin"}),
        ("rerank", {"ranking"}),
        ("compare", {"win_prob"}),
        ("rate", {"rating"}),
        ("label", {"completion", "label"}),
        ("training", {"step"}),
    )
    for kind, fields in marks:
        if fields <= row.keys():
            return kind
    hint = f"its fields are {', '.join(row)}"
    raise DataError("is not an output of rate, compare, rerank or label, nor a log", path=name, hint=hint)


def read_run(path: str, *, gold: str | None, group: str | None) -> Run:
    """Read an output file.

    Args:
        path: The file.
        gold: Field with the gold label: a number (rate), a preference or 0, 1, 2 (compare), a list of
            numbers, one for each completion (rerank).
        group: Field by which rows are grouped.

    Raises:
        ConfigError: The file does not exist.
        DataError: A row is wrong; names file, line and field.
    """
    run: Run | None = None
    shown: set[tuple[Any, Any]] = set()
    for line, row in read_rows(path):
        if run is None:
            run = Run(kind=kind_of_row(row, path), path=path, record=_record_beside(path))
        run.n_rows += 1
        run.entries += _entries(run.kind, row, line, path, gold, group, shown)
    if run is None:
        raise DataError("has no rows", path=path)
    return run


def _entries(
    kind: str,
    row: Row,
    line: int,
    path: str,
    gold: str | None,
    group: str | None,
    shown: set[tuple[Any, Any]],
) -> Iterator[Entry]:
    for name in (gold, group):
        if name is not None and name not in row:
            raise DataError("is missing", path=path, line=line, field=name)
    known = row.get(gold) if gold is not None else None
    named = str(row[group]) if group is not None else None
    if kind == "rerank":
        ranking = row["ranking"]
        if gold is not None and (not isinstance(known, list) or len(known) != len(ranking)):
            raise DataError(
                f"must be a list of {len(ranking)} numbers, one for each completion",
                path=path,
                line=line,
                field=gold,
            )
        for entry in ranking:
            index = entry["index"]
            value = _number(known[index], path, line, gold) if isinstance(known, list) else None
            yield Entry(line=line, index=index, gold=value, group=named, **_judged(entry, "expected_rating"))
    elif kind == "compare":
        yield Entry(
            line=line,
            gold=_preference(known, path, line, gold),
            group=named,
            flipped=row.get("flipped"),
            slot_bias=row.get("slot_bias"),
            **{**_judged(row, "win_prob"), "verdict": row.get("preference")},
        )
    elif kind == "rate":
        value = _number(known, path, line, gold)
        yield Entry(line=line, gold=value, group=named, **_judged(row, "expected_rating"))
    else:
        sides = tuple(_sides(row, line, shown))
        yield Entry(line=line, group=named, sides=sides, **_judged(row, "margin"))


def _sides(row: Row, line: int, shown: set[tuple[Any, Any]]) -> Iterator[Sampled]:
    """The judgments by criteria of a labelled row's completions.

    `shown` holds the line and index in the input of those that former rows had, and gets these.
    """
    labels = {"chosen": "chosen", "rejected": "rejected"}
    labels["completion"] = "desirable" if row.get("label") else "undesirable"
    source = row.get("source") or {}
    for side, label in labels.items():
        criteria = criteria_of({"criteria": row.get(f"{side}_criteria")})
        place = source.get("line"), source.get(f"{side}_index")
        if not criteria or place in shown:
            continue
        if None not in place:
            shown.add(place)
        yield Sampled(label, Entry(line=line, score=row.get(f"{side}_score"), criteria=criteria))


def _judged(row: Row, number: str) -> dict[str, Any]:
    flags, criteria, members = row.get("flags"), criteria_of(row), members_of(row)
    flat = [f for item in flags for f in (item if isinstance(item, list) else [item])] if flags else []
    return {
        "reward": row.get("reward"),
        "number": row.get(number),
        "verdict": row.get("rating"),
        "entropy": row.get("entropy"),
        "critique_chars": len(row.get("critique") or ""),
        "failure": reason(row.get("failure")),
        "flags": None if flags is None else tuple(dict.fromkeys(flat)),
        "score": row.get("score") if criteria else None,
        "criteria": criteria,
        "members": members,
        "agreement": row.get("agreement") if members else None,
    }


def _number(value: Any, path: str, line: int, field_name: str | None) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float):
        raise DataError(f"must be a number, is {value!r}", path=path, line=line, field=field_name)
    return float(value)


def _preference(value: Any, path: str, line: int, field_name: str | None) -> str | None:
    named = PREFERENCE_NAMES.get(value, value) if not isinstance(value, bool | list | dict) else None
    if named is not None and named not in PREFERENCE_NAMES.values():
        raise DataError(
            f"must be first, second, tie or 0, 1, 2, is {value!r}", path=path, line=line, field=field_name
        )
    return named


def _record_beside(path: str) -> dict[str, Any]:
    try:
        return read_record(Path(f"{path}.run.json"))
    except (ConfigError, OSError):
        return {}


def rows_at(run: Run, lines: Sequence[int]) -> dict[int, Row]:
    """Some of the rows, by their line."""
    wanted = set(lines)
    return {line: row for line, row in read_rows(run.path) if line in wanted}
