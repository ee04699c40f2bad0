# SPDX-License-Identifier: Apache-2.0
"""Compare two runs: the same rows judged twice, or the same measurement of two judges."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from autoj_reward.errors import DataError
from autoj_reward.reporting.against_gold import gold_against_n
from autoj_reward.reporting.breakdown.criteria import compared_criteria
from autoj_reward.reporting.breakdown.heat_map import HeatMap
from autoj_reward.reporting.breakdown.members import compared_members
from autoj_reward.reporting.entries import Entry, Run, rows_at
from autoj_reward.reporting.figures import measured
from autoj_reward.reporting.listings import (
    browsing,
    critique_notes,
    judged_part,
    pair_answers,
    tables_of,
    texts_of,
)
from autoj_reward.reporting.parts import (
    Answer,
    Bars,
    Cards,
    Case,
    Facts,
    Grid,
    Histogram,
    Lines,
    Part,
    round_step,
)  # fmt: skip
from autoj_reward.rows.source import Row, read_rows
from autoj_reward.statistics import cohen_kappa, paired_test, share, spearman

_LISTED = 10
_MOST_CELLS = 12


class _Pair(NamedTuple):
    """One judgment of both runs: of the same texts."""

    a: Entry
    b: Entry


@dataclass(slots=True)
class _Matched:
    """Two runs and the rows that both hold: their lines in each, and their entries."""

    names: tuple[str, str]
    runs: tuple[Run, Run]
    lines: list[tuple[int, int]]
    pairs: list[_Pair]


def compared_runs(names: tuple[str, str], runs: tuple[Run, Run], most_rows: int) -> list[Part]:
    """The parts of a report about two outputs of rate, compare or rerank.

    Raises:
        DataError: They are of different commands, of `label`, or have no row in common.
    """
    a, b = runs
    if a.kind != b.kind or a.kind == "label":
        raise DataError(
            f"is an output of {b.kind} and cannot be compared with one of {a.kind}", path=b.path,
            hint="compare two outputs of rate, of compare or of rerank",
        )  # fmt: skip
    both = _matched(names, runs)
    parts: list[Part] = [_overview(both)]
    parts += _decisions(both) if a.kind == "compare" else _ratings(both)
    if a.kind == "rerank" and all(e.gold is not None for run in runs for e in run.entries):
        parts.append(_gold(both))
    parts += [*compared_criteria(names, both.pairs), *compared_members(names, both.pairs)]
    return [*parts, *_by_group(both), *_cases(both, most_rows)]


def _matched(names: tuple[str, str], runs: tuple[Run, Run]) -> _Matched:
    where: dict[int, list[int]] = defaultdict(list)
    for line, row in read_rows(runs[1].path):
        where[hash(_key(runs[1], row))].append(line)
    lines = []
    for line, row in read_rows(runs[0].path):
        if there := where.get(hash(_key(runs[0], row))):
            lines.append((line, there.pop(0)))
    if not lines:
        raise DataError(
            f"has no row with the same prompt and completions as {runs[0].path}", path=runs[1].path,
            hint="compare two runs over the same input",
        )  # fmt: skip
    of = [{(e.line, e.index): e for e in run.entries} for run in runs]
    found = dict(lines)
    pairs = [
        _Pair(entry, of[1][found[line], index])
        for (line, index), entry in of[0].items()
        if line in found and (found[line], index) in of[1]
    ]
    return _Matched(names, runs, lines, pairs)


def _key(run: Run, row: Row) -> tuple[str, ...]:
    prompt, completions = texts_of(run, row)
    return (prompt, *completions)


def _value(entry: Entry, what: str) -> float | None:
    return entry.reward if what.startswith("win probability against") else entry.number


def _known(both: _Matched, what: str) -> list[tuple[float, float]]:
    """The values of both, of the judgments for which both have one."""
    values = [(_value(p.a, what), _value(p.b, what)) for p in both.pairs]
    return [(x, y) for x, y in values if x is not None and y is not None]


def _overview(both: _Matched) -> Facts:
    a, b = both.runs
    what = _what(both)
    known = _known(both, what)
    facts = {
        "rows in both": f"{len(both.lines):,}",
        f"only in {both.names[0]}": f"{a.n_rows - len(both.lines):,}",
        f"only in {both.names[1]}": f"{b.n_rows - len(both.lines):,}",
        "judgments in both": f"{len(both.pairs):,}",
    }
    for name, run in zip(both.names, both.runs, strict=True):
        facts[f"without a verdict, {name}"] = f"{sum(e.failure is not None for e in run.entries):,}"
    if known:
        change = share([y - x for x, y in known])
        rho = spearman([x for x, _ in known], [y for _, y in known])
        facts[f"mean change of the {what}"] = f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
        facts["rank correlation"] = f"{rho:.3f}"
    if a.kind == "rerank":
        best = [_best(run) for run in both.runs]
        picked = [(x, y) for x, y in both.lines if x in best[0] and y in best[1]]
        same = share([best[0][x] == best[1][y] for x, y in picked])
        if picked:
            facts["same pick"] = f"{same.value:.1%} ({same.low:.1%} to {same.high:.1%}) of {same.n:,} prompts"
    return Facts(id="overview", title="Overview", facts=facts)


def _best(run: Run) -> dict[int, int]:
    """The first completion of each line's ranking; of a line without any verdict there is none."""
    best: dict[int, int] = {}
    for entry in run.entries:
        if entry.reward is not None:
            best.setdefault(entry.line, entry.index)
    return best


def _what(both: _Matched) -> str:
    """The measure that both runs have."""
    if both.runs[0].kind == "compare":
        return "win probability of the first"
    whats = [measured(run) for run in both.runs]
    if whats[0][0] != whats[1][0]:
        raise DataError(
            f"holds {whats[1][0]}s, and {both.runs[0].path} {whats[0][0]}s: these have no common scale",
            path=both.runs[1].path, hint="compare two runs of one strategy",
        )  # fmt: skip
    return whats[0][0]


def _ratings(both: _Matched) -> list[Part]:
    what = _what(both)
    ends = [measured(run)[1] for run in both.runs]
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    values = {name: [_value(p[n], what) for p in both.pairs] for n, name in enumerate(both.names)}
    histogram = Histogram.of_values(
        "rewards", f"Distribution of the {what}", values, what=what, ends=(low, high)
    )
    return [histogram, _crossed(both, what, low, high)]


def _crossed(both: _Matched, what: str, low: float, high: float) -> Grid:
    """How often each bin of one run meets each bin of the other."""
    step = round_step((high - low) / _MOST_CELLS)
    edges = np.arange(np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9) + 1) * step
    known = _known(both, what)
    cells = np.histogram2d([x for x, _ in known], [y for _, y in known], bins=[edges, edges])[0]
    near = share([abs(x - y) < step for x, y in known])
    labels = [f"{x:g}" for x in edges[:-1]]
    return Grid(
        id="crossed",
        title="The two runs, judgment by judgment",
        says=f"{near.value:.1%} of {near.n:,} judgments differ by less than {step:g}. "
        "A bin is named by its lower edge.",
        x_label=f"{what}, {both.names[1]}",
        y_label=f"{what}, {both.names[0]}",
        columns=labels,
        rows=labels[::-1],
        cells=[[int(n) for n in row] for row in cells[::-1]],
    )


def _decisions(both: _Matched) -> list[Part]:
    kinds = ["first", "second", "tie", "no verdict"]
    met = Counter((p.a.verdict or "no verdict", p.b.verdict or "no verdict") for p in both.pairs)
    decided = [p for p in both.pairs if p.a.verdict is not None and p.b.verdict is not None]
    same = share([p.a.verdict == p.b.verdict for p in decided])
    kappa = cohen_kappa([p.a.verdict for p in decided], [p.b.verdict for p in decided])
    parts: list[Part] = [
        Grid(
            id="crossed",
            title="The two runs, decision by decision",
            says=f"Both decide alike in {same.value:.1%} of {same.n:,} pairs ({same.low:.1%} to "
            f"{same.high:.1%}); Cohen's kappa is {kappa:.3f}.",
            x_label=both.names[1],
            y_label=both.names[0],
            columns=kinds,
            rows=kinds,
            cells=[[met[row, column] for column in kinds] for row in kinds],
        ),
        Histogram.of_values(
            "win-probs",
            "Win probability of the first",
            {name: [p[n].number for p in both.pairs] for n, name in enumerate(both.names)},
            what="win probability of the first",
            ends=(0.0, 1.0),
        ),
    ]
    judged = [p for p in both.pairs if p.a.gold is not None]
    if judged:
        right = [[p[n].verdict == p.a.gold for p in judged] for n in (0, 1)]
        test = paired_test(right[1], right[0])
        first, second = both.names
        change = test.difference
        says = (
            f"{second} less {first}: {change.value:+.1%} ({change.low:+.1%} to {change.high:+.1%}) of "
            f"{len(judged):,} pairs; {test.only_first:,} pairs only {second} has right, {test.only_second:,} "
            f"only {first} (sign test, p = {test.p_value:.3g})."
        )
        groups: dict[str, list[int]] = {"all pairs": list(range(len(judged)))}
        for n, p in enumerate(judged):
            if p.a.group is not None:
                groups.setdefault(p.a.group, []).append(n)
        shares = {
            name: {g: share([right[k][n] for n in places]) for g, places in groups.items()}
            for k, name in enumerate(both.names)
        }
        parts.append(
            Bars.of_shares(
                "agreement",
                "Agreement with gold",
                says,
                y_label="share of pairs",
                shares=shares,
                axis=(0.0, 1.0),
            )
        )
    return parts


def _gold(both: _Matched) -> Lines:
    """Gold of the best of N of both, over the rows that both hold."""
    curves = []
    for n, run in enumerate(both.runs):
        lines = {pair[n] for pair in both.lines}
        kept = Run(kind=run.kind, path=run.path, entries=[e for e in run.entries if e.line in lines])
        curves.append(gold_against_n(kept))
    first, second = curves
    merged: dict[str, Any] = {}
    for field in ("series", "low", "high"):
        a, b = getattr(first, field), getattr(second, field)
        merged[field] = {both.names[0]: a["judge"], both.names[1]: b["judge"], "random": a["random"]}
    ends = [curve.series["judge"][-1] for curve in curves] if first.x else []
    says = "No group has gold for all its completions."
    if ends:
        says = (
            f"Best of {first.x[-1]:g}: "
            + ", ".join(f"{n} {v:.3f}" for n, v in zip(both.names, ends, strict=True))
            + "."
        )
    return replace(first, says=says, **merged)


def _by_group(both: _Matched) -> list[Part]:
    what = _what(both)
    groups: dict[str, list[_Pair]] = defaultdict(list)
    for p in both.pairs:
        if p.a.group is not None and _value(p.a, what) is not None and _value(p.b, what) is not None:
            groups[p.a.group].append(p)
    if not groups:
        return []
    shares = {
        name: {g: share([_value(p[n], what) or 0.0 for p in pairs]) for g, pairs in groups.items()}
        for n, name in enumerate(both.names)
    }
    axis = (0.0, 1.0) if both.runs[0].kind == "compare" else measured(both.runs[0])[1]
    says = "Means over the judgments that both have, with 95% intervals."
    return [Bars.of_shares("groups", f"Mean {what} by group", says, y_label=what, shares=shares, axis=axis)]


def _cases(both: _Matched, most_rows: int) -> list[Part]:
    what = _what(both)
    by_line: dict[int, list[_Pair]] = defaultdict(list)
    for pair in both.pairs:
        by_line[pair.a.line].append(pair)

    def change(pair: _Pair) -> float:
        x, y = _value(pair.a, what), _value(pair.b, what)
        return 0.0 if x is None or y is None else abs(x - y)

    def difference(line: int) -> float:
        return max(map(change, by_line[line]))

    there = dict(both.lines)
    furthest = [n for n in heapq.nlargest(_LISTED, there, key=difference) if difference(n) > 0]
    browsed = sorted(list(dict.fromkeys([*furthest, *there]))[:most_rows])
    rows = (
        rows_at(both.runs[0], [*furthest, *browsed]),
        rows_at(both.runs[1], [there[n] for n in (*furthest, *browsed)]),
    )

    def case(line: int, most: int | None = None) -> Case:
        pairs = by_line[line] if most is None else heapq.nlargest(most, by_line[line], key=change)
        return _case(both, (rows[0][line], rows[1][there[line]]), pairs, difference(line))

    parts: list[Part] = []
    if furthest:
        says = f"The rows whose {what} differs most."
        cases = [case(n, 2) for n in furthest]
        parts.append(Cards(id="differences", title="Where the runs differ most", says=says, cases=cases))
    if browsed:
        parts.append(browsing(len(there), [case(n) for n in browsed]))
    return parts


def _case(both: _Matched, rows: tuple[Row, Row], pairs: Sequence[_Pair], difference: float) -> Case:
    prompt, completions = texts_of(both.runs[0], rows[0])
    title = ", ".join(f"{name} {_said(pairs[0][n])}" for n, name in enumerate(both.names))
    if both.runs[0].kind == "compare":
        answers, notes = pair_answers(completions), _critiques(both, rows, None)
    else:
        answers, notes = [_answer(both, rows, pair, completions) for pair in pairs], {}
    kinds = [
        name
        for name, holds in (
            ("failed", any(p.a.failure or p.b.failure for p in pairs)),
            ("disagree", both.runs[0].kind == "compare" and pairs[0].a.verdict != pairs[0].b.verdict),
        )
        if holds
    ]
    return Case(
        line=pairs[0].a.line,
        title=title if both.runs[0].kind != "rerank" else f"largest difference {difference:.3g}",
        prompt=prompt,
        answers=answers,
        notes=notes,
        group=pairs[0].a.group or "",
        kinds=kinds,
        values={"difference": difference},
        tables=_tables(both, pairs),
    )


def _tables(both: _Matched, pairs: Sequence[_Pair]) -> list[HeatMap]:
    """The criteria and members of a row's judgments, those of both runs below each other."""
    ranked = both.runs[0].kind == "rerank"
    labelled = [
        (f"Completion {p.a.index + 1}, {name}" if ranked else name, entry)
        for p in pairs
        for name, entry in zip(both.names, p, strict=True)
    ]
    return tables_of(both.runs[0], labelled)


def _said(entry: Entry) -> str:
    if entry.failure is not None:
        return f"no verdict ({entry.failure})"
    verdict = entry.verdict if isinstance(entry.verdict, str) else ""
    number = entry.reward if entry.number is None else entry.number
    return f"{verdict} {'' if number is None else f'{number:.3g}'}".strip()


def _answer(both: _Matched, rows: tuple[Row, Row], pair: _Pair, completions: Sequence[str]) -> Answer:
    facts = {name: _said(entry) for name, entry in zip(both.names, pair, strict=True)}
    if pair.a.gold is not None:
        facts["gold"] = f"{pair.a.gold:g}"
    text = completions[pair.a.index] if pair.a.index < len(completions) else ""
    title = f"Completion {pair.a.index + 1}" if both.runs[0].kind == "rerank" else "Completion"
    return Answer(title=title, facts=facts, text=text, notes=_critiques(both, rows, pair))


def _critiques(both: _Matched, rows: tuple[Row, Row], pair: _Pair | None) -> dict[str, str]:
    notes: dict[str, str] = {}
    for n, (name, row) in enumerate(zip(both.names, rows, strict=True)):
        judged = row if pair is None else judged_part(row, pair[n].index)
        notes |= critique_notes(judged, f"Critique, {name}")
    return notes
