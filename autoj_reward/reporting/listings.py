# SPDX-License-Identifier: Apache-2.0
"""Single judgments with their texts: the best and the worst, the least certain, and all to browse."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from autoj_reward.errors import ConfigError
from autoj_reward.judge.messages.text import completion_text, prompt_text
from autoj_reward.ranking.tables import another_rating
from autoj_reward.reporting.breakdown.criteria import criteria_table
from autoj_reward.reporting.breakdown.heat_map import HeatMap
from autoj_reward.reporting.breakdown.members import members_table
from autoj_reward.reporting.entries import Entry, Run, rows_at
from autoj_reward.reporting.parts import Answer, Cards, Case, Part
from autoj_reward.rows.fields import Kind, RowFormat, RowProblem, find_format, row_format
from autoj_reward.rows.source import Row, open_source

_LISTED = 10
_MOST_CHARS = 100_000
"""Characters of one text on the page."""


def listings(run: Run, most: int, examples: Sequence[int]) -> list[Part]:
    """Best and worst of ranked groups, the least certain, longest and failed judgments, and rows to browse.

    Args:
        run: The run.
        most: Rows to browse at most; those of the lists come first.
        examples: Lines that other parts of the page show, which come next.
    """
    if run.kind == "label":
        return []
    sure = [e for e in run.entries if e.failure is None and e.entropy is not None]
    written = [e for e in run.entries if e.critique_chars]
    uncertain = heapq.nlargest(_LISTED, sure, key=lambda e: e.entropy or 0.0)
    longest = heapq.nlargest(_LISTED, written, key=lambda e: e.critique_chars)
    failed = [e for e in run.entries if e.failure is not None][:_LISTED]
    differing = [e for e in run.entries if e.agreement is not None and e.agreement < 1.0]
    disputed = heapq.nsmallest(_LISTED, differing, key=lambda e: e.agreement or 0.0)
    picks = _widest(run.entries) if run.kind == "rerank" else []
    by_line: dict[int, list[Entry]] = defaultdict(list)
    for entry in run.entries:
        by_line[entry.line].append(entry)
    named = [e.line for e in (*(best for best, _ in picks), *uncertain, *disputed, *longest, *failed)]
    browsed = sorted(list(dict.fromkeys([*named, *examples, *by_line]))[:most])
    rows = rows_at(run, [*named, *browsed])
    parts: list[Part] = [_picks(run, picks, rows)] if picks else []
    for id_, title, says, listed, unit in (
        ("uncertain", "Least certain judgments", "By the entropy of the verdict.", uncertain, "entropy"),
        (
            "disputed",
            "Judgments that the members dispute",
            "By the agreement of the panel's members, the lowest first.",
            disputed,
            "agreement",
        ),
        (
            "longest",
            "Slowest judgments",
            "By the length of the critique, which takes the time.",
            longest,
            "critique",
        ),
        ("failed", "Judgments without a verdict", f"The first {len(failed)}, with the reason.", failed, ""),
    ):
        cases = [_measured_case(run, rows[e.line], e, unit) for e in listed]
        if cases:
            parts.append(Cards(id=id_, title=title, says=says, cases=cases, style="folded"))
    if browsed:
        parts.append(browsing(run.n_rows, [case_of(run, rows[n], by_line[n]) for n in browsed]))
    return parts


def _measured_case(run: Run, row: Row, entry: Entry, measure: str) -> Case:
    """One judgment with the figure that put it on a list in its title."""
    case = case_of(run, row, [entry])
    units = {
        "entropy": f"entropy {entry.entropy or 0.0:.3g} nats",
        "agreement": f"agreement {entry.agreement or 0.0:.3f}",
        "critique": f"critique of {entry.critique_chars:,} characters",
    }
    return replace(case, title=f"{case.title}, {units[measure]}") if measure in units else case


def browsing(n_rows: int, cases: Sequence[Case]) -> Cards:
    """Rows to search, sort and filter."""
    says = f"All {n_rows:,} rows" if len(cases) == n_rows else f"{len(cases):,} of {n_rows:,} rows"
    says += ": open one to see its texts, critiques and figures side by side."
    return Cards(id="rows", title="Browse the judgments", says=says, cases=cases, style="browse")


def case_of(run: Run, row: Row, entries: Sequence[Entry]) -> Case:
    """A row with its completions: a group in the order of its ranking."""
    prompt, completions = texts_of(run, row)
    kinds = [
        name
        for name, holds in (
            ("failed", any(e.failure is not None for e in entries)),
            ("flagged", any(e.flags for e in entries)),
            ("flipped", any(e.flipped for e in entries)),
            ("incomplete", any(e.is_incomplete for e in entries)),
            ("disagrees", run.kind == "compare" and any(e.gold not in (None, e.verdict) for e in entries)),
        )
        if holds
    ]
    rewards = [e.reward for e in entries if e.reward is not None]
    values = {
        "reward": max(rewards, default=None),
        "spread": max(rewards) - min(rewards) if len(rewards) > 1 else None,
        "entropy": max((e.entropy for e in entries if e.entropy is not None), default=None),
        "agreement": min((e.agreement for e in entries if e.agreement is not None), default=None),
        "critique": max(e.critique_chars for e in entries) or None,
    }
    if run.kind == "compare":
        (entry,) = entries
        answers, notes, names = pair_answers(completions), critique_notes(row), ["Comparison"]
        figures = [f"{name} {value}" for name, value in figures_of(entry, run).items()]
        title = ", ".join([str(entry.verdict or "no verdict"), *figures])
    else:
        ranked = run.kind == "rerank" and len(entries) > 1
        places = [f"{n}. completion {e.index + 1}" for n, e in enumerate(entries, start=1)]
        names = places if ranked else ["Completion"] * len(entries)
        answers = [_answer(run, row, e, completions, name) for name, e in zip(names, entries, strict=True)]
        notes = {}
        best = entries[0]
        title = f"{best.failure or 'no verdict'}" if best.reward is None else f"{best.reward:.3g}"
        if run.kind == "rate" and best.reward is not None:
            title = f"rating {title}"
        if run.kind == "rerank":
            what = "best is completion" if ranked else "completion"
            title = f"{what} {best.index + 1} of {len(completions)}, {title}"
    return Case(
        line=entries[0].line,
        title=title,
        prompt=prompt,
        answers=answers,
        notes=notes,
        group=entries[0].group or "",
        kinds=kinds,
        values={name: value for name, value in values.items() if value is not None},
        tables=tables_of(run, list(zip(names, entries, strict=True))),
    )


def tables_of(run: Run, labelled: Sequence[tuple[str, Entry]]) -> list[HeatMap]:
    """The criteria and the members of a row's judgments, each with what it is called."""
    line = labelled[0][1].line
    return [
        *criteria_table(f"Criteria of line {line}", labelled),
        *members_table(run, f"Members of the panel, line {line}", labelled),
    ]


def _answer(run: Run, row: Row, entry: Entry, completions: Sequence[str], title: str) -> Answer:
    text = completions[entry.index] if entry.index < len(completions) else ""
    notes = critique_notes(judged_part(row, entry.index))
    return Answer(title=title, facts=figures_of(entry, run), text=text, notes=notes)


def pair_answers(completions: Sequence[str]) -> list[Answer]:
    """The two completions of a comparison, whose figures and critique belong to both."""
    names = ("First", "Second")
    return [Answer(title=n, facts={}, text=t) for n, t in zip(names, completions, strict=False)]


def judged_part(row: Row, index: int) -> Mapping[str, Any]:
    """What a row says of one completion: its entry of the ranking, or the row itself."""
    if "ranking" not in row:
        return row
    return next((entry for entry in row["ranking"] if entry.get("index") == index), {})


def figures_of(entry: Entry, run: Run) -> dict[str, str]:
    """The figures of one judgment, as they are shown beside its texts."""
    number = "win probability of the first" if run.kind == "compare" else "expected rating"
    named: list[tuple[str, Any]] = [
        ("reward", entry.reward if run.kind != "compare" and entry.reward != entry.number else None),
        (number, entry.number),
        ("rating", entry.verdict if run.kind != "compare" else None),
        ("score by criteria", entry.score),
        ("agreement of members", entry.agreement),
        ("entropy", entry.entropy),
        ("gold", entry.gold),
        ("flags", ", ".join(entry.flags) if entry.flags else None),
        ("failure", entry.failure),
    ]
    return {k: f"{v:.3g}" if isinstance(v, float) else str(v) for k, v in named if v is not None}


def critique_notes(judged: Mapping[str, Any], title: str = "Critique") -> dict[str, str]:
    """The critique of a judgment; nothing without one."""
    critique = judged.get("critique")
    if not isinstance(critique, str) or not critique:
        return {}
    return {f"{title}{another_rating(judged)}": cut(critique)}


def texts_of(run: Run, row: Row) -> tuple[str, list[str]]:
    """The prompt and the completions of an output row, laid out as a judge sees them."""
    for layout in _layouts(run):
        try:
            parts = layout.parts(row)
        except RowProblem:
            continue
        texts = [_laid_out(text, completion_text) for text in parts.completions]
        return _laid_out(parts.prompt, prompt_text), texts
    return _laid_out(row.get("prompt"), prompt_text), []


def _layouts(run: Run) -> Iterator[RowFormat]:
    """Where the rows may keep their texts: as the record says, in our fields, or as the first rows tell."""
    kind = cast(Kind, run.kind)
    settings = run.record.get("run", {})
    name, columns = settings.get("format"), settings.get("columns") or {}
    for named, renamed in ((name, columns), (None, {})):
        try:
            yield row_format(kind, named, renamed)
        except ConfigError:
            continue
    if run.recognised is None:
        run.recognised = find_format(open_source(run.path), (kind,), None, {})[1]
    yield run.recognised


def _laid_out(value: Any, lay_out: Callable[[Any], str]) -> str:
    try:
        return cut(lay_out(value) if value is not None else "")
    except ConfigError:
        return cut(str(value))


def cut(text: str) -> str:
    """A text, shortened if it is very long, with a note of how much is missing."""
    if len(text) <= _MOST_CHARS:
        return text
    return f"{text[:_MOST_CHARS]}\n[… {len(text) - _MOST_CHARS:,} more characters are in the file]"


def _widest(entries: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    """Best and worst of the groups with the largest gaps between rewards."""
    groups: dict[int, list[Entry]] = {}
    for entry in entries:
        if entry.reward is not None:
            groups.setdefault(entry.line, []).append(entry)
    ends = [
        (max(group, key=lambda e: e.reward or 0.0), min(group, key=lambda e: e.reward or 0.0))
        for group in groups.values()
    ]
    return heapq.nlargest(_LISTED, (pair for pair in ends if _gap(pair) > 0), key=_gap)


def _gap(ends: tuple[Entry, Entry]) -> float:
    best, worst = ends
    return (best.reward or 0.0) - (worst.reward or 0.0)


def _picks(run: Run, picks: Sequence[tuple[Entry, Entry]], rows: dict[int, Row]) -> Cards:
    cases = []
    for ends in picks:
        row = rows[ends[0].line]
        prompt, completions = texts_of(run, row)
        names = [f"{name}: completion {e.index + 1}" for name, e in zip(("Best", "Worst"), ends, strict=True)]
        answers = [_answer(run, row, e, completions, name) for name, e in zip(names, ends, strict=True)]
        gap = _gap(ends)
        values = {"gap": gap, **{name: e.reward for name, e in zip(("best", "worst"), ends, strict=True)}}
        cases.append(
            Case(
                line=ends[0].line,
                title=f"gap {gap:.3g}",
                prompt=prompt,
                answers=answers,
                values=values,
                tables=tables_of(run, list(zip(names, ends, strict=True))),
            )
        )
    return Cards(
        id="picks",
        title="Best and worst of a prompt",
        says="The prompts with the largest gaps: what the judge rewards.",
        cases=cases,
    )
