# SPDX-License-Identifier: Apache-2.0
"""Measure a judge's coherence: ratings against comparisons, and transitivity.

The two inconsistencies are those of TrustJudge (arXiv 2509.21117), counted as follows.

conflict       a pair whose comparison and whose ratings disagree about higher, lower or equal
opposed        a conflict in which both name a winner, and not the same one
cycle          three completions of one prompt, A before B before C before A
broken tie     three completions of which two pairs are ties and the third is not
intransitive   three completions that cannot be put in an order, ties allowed: a cycle, a broken tie, or
               A level with B, B before C, C before A
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from autoj_reward.errors import DataError
from autoj_reward.evaluate.report import ReportTable, interval
from autoj_reward.judge.messages.text import completion_text, prompt_text
from autoj_reward.judgments import PREFERENCES, Preference
from autoj_reward.rows.fields import RowProblem, message_field
from autoj_reward.rows.source import Row, read_rows
from autoj_reward.statistics import Share, as_plain, share

_Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A judge's comparison of two completions of a prompt; None if it could not be read."""

    prompt: str
    first: str
    second: str
    preference: Preference | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CoherenceReport:
    """How often a judge contradicts itself; a share is NaN if it has no pairs or triples.

    Attributes:
        conflict: Of rated pairs: ratings and comparison say different things.
        opposed: Of rated pairs: they name different winners.
        cycle: Of triples whose three pairs were compared: a circle.
        broken_tie: Of those triples: two ties and a winner.
        intransitive: Of those triples: the three have no order at all.
        n_unreadable: Comparisons without a preference; they are left out.
    """

    conflict: Share
    opposed: Share
    cycle: Share
    broken_tie: Share
    intransitive: Share
    n_unreadable: int

    def as_dict(self) -> dict[str, Any]:
        """As plain data; shares are percentages."""
        return dict(as_plain(self))

    def table(self) -> ReportTable:
        """As a table of percentages."""
        rows = [
            (text, interval(getattr(self, name)), f"{getattr(self, name).n:,}")
            for name, text in _NAMES.items()
        ]
        return ReportTable(
            title="Self-contradiction, percent",
            columns=("what", "share (95%)", "of"),
            sections=(tuple(rows[:2]), tuple(rows[2:])),
            notes=(f"{self.n_unreadable} comparisons could not be read",) if self.n_unreadable else (),
        )


_NAMES = {
    "conflict": "ratings and comparison differ",
    "opposed": "they name different winners",
    "cycle": "circles of three",
    "broken_tie": "two ties and a winner",
    "intransitive": "intransitive triples",
}


def evaluate_coherence(
    compared: Sequence[Compared], ratings: Mapping[_Pair, float] | None = None, *, margin: float = 0.0
) -> CoherenceReport:
    """Count contradictions.

    Args:
        compared: Comparisons; of several of the same two completions, in either order, the last one counts.
        ratings: The same judge's rating of a (prompt, completion); may be empty.
        margin: Ratings that differ by no more than this are equal.

    Raises:
        DataError: There are no comparisons.
    """
    if not compared:
        raise DataError("there are no comparisons")
    known = ratings or {}
    conflicts: dict[tuple[str, frozenset[str]], tuple[bool, bool]] = {}
    by_prompt: dict[str, dict[_Pair, int]] = {}
    for one in compared:
        if one.preference is None:
            continue
        says = _SIGN[one.preference]
        signs = by_prompt.setdefault(one.prompt, {})
        signs[one.first, one.second], signs[one.second, one.first] = says, -says
        a, b = known.get((one.prompt, one.first)), known.get((one.prompt, one.second))
        if a is not None and b is not None:
            rated = 0 if abs(a - b) <= margin else 1 if a > b else -1
            conflicts[one.prompt, frozenset((one.first, one.second))] = rated != says, rated * says < 0
    triples = [t for signs in by_prompt.values() for t in _triples(signs)]
    return CoherenceReport(
        conflict=share([c for c, _ in conflicts.values()]),
        opposed=share([o for _, o in conflicts.values()]),
        cycle=share([abs(sum(t)) == 3 for t in triples]),
        broken_tie=share([t.count(0) == 2 for t in triples]),
        intransitive=share([any(t) and not (1 in t and -1 in t) for t in triples]),
        n_unreadable=sum(one.preference is None for one in compared),
    )


def read_compared(path: str) -> list[Compared]:
    """Comparisons that `autoj-reward compare` wrote.

    Raises:
        ConfigError: The file does not exist.
        DataError: A row is not a comparison.
    """
    found = []
    for line, row in read_rows(path):
        texts = _texts(row, ("prompt", "first", "second"), path, line)
        if row.get("preference") not in (*PREFERENCES, None) or "preference" not in row:
            raise DataError("must be first, second, tie or null", path=path, line=line, field="preference")
        found.append(Compared(preference=row["preference"], **texts))
    return found


def read_ratings(path: str) -> dict[_Pair, float]:
    """Expected ratings by (prompt, completion), of rows that `autoj-reward rate` wrote, without failures.

    Raises:
        ConfigError: The file does not exist.
        DataError: A row is not a rating.
    """
    found = {}
    for line, row in read_rows(path):
        prompt, completion = _texts(row, ("prompt", "completion"), path, line).values()
        rating = row.get("expected_rating")
        if rating is not None and (isinstance(rating, bool) or not isinstance(rating, int | float)):
            raise DataError("must be a number or null", path=path, line=line, field="expected_rating")
        if rating is not None:
            found[prompt, completion] = float(rating)
    return found


def _texts(row: Row, names: Sequence[str], path: str, line: int) -> dict[str, str]:
    """A row's prompt and completions as text with their reasoning, which identify the row."""
    try:
        return {
            name: prompt_text(message_field(row, name, prompt=True), "keep")
            if name == "prompt"
            else completion_text(message_field(row, name), "keep")
            for name in names
        }
    except RowProblem as problem:
        raise problem.at(path, line) from problem


_SIGN: dict[Preference, int] = {"first": 1, "second": -1, "tie": 0}


def _triples(signs: Mapping[_Pair, int]) -> Iterable[tuple[int, int, int]]:
    """For every three completions with all pairs compared: A against B, B against C, C against A."""
    for a, b, c in combinations(sorted({name for pair in signs for name in pair}), 3):
        if (a, b) in signs and (b, c) in signs and (c, a) in signs:
            yield signs[a, b], signs[b, c], signs[c, a]
