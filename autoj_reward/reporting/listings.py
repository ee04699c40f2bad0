# SPDX-License-Identifier: Apache-2.0
"""Report tables of single judgments with their texts."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.judge.messages.text import completion_text, prompt_text
from autoj_reward.reporting.entries import Entry, Run, rows_at
from autoj_reward.reporting.parts import Listing
from autoj_reward.rows.fields import Kind, row_format
from autoj_reward.rows.source import Row

_LISTED = 10
_SNIPPET = 240
_CRITIQUE = 700
_FORMATS: tuple[tuple[Kind, str | None], ...] = (
    ("rate", None), ("compare", None), ("rate", "autoj-critique"), ("compare", "autoj-pairwise"),
)  # fmt: skip


def listings(run: Run) -> list[Listing]:
    """Best and worst of ranked groups, and the least certain, longest and failed judgments, with texts."""
    if run.kind == "label":
        return []
    sure = [e for e in run.entries if e.failure is None and e.entropy is not None]
    written = [e for e in run.entries if e.critique_chars]
    uncertain = heapq.nlargest(_LISTED, sure, key=lambda e: e.entropy or 0.0)
    longest = heapq.nlargest(_LISTED, written, key=lambda e: e.critique_chars)
    failed = [e for e in run.entries if e.failure is not None][:_LISTED]
    picks = _widest(run.entries) if run.kind == "rerank" else []
    rows = rows_at(run, [e.line for e in (*(best for best, _ in picks), *uncertain, *longest, *failed)])
    parts = [_picks(picks, rows)] if picks else []
    for id_, title, says, measure, entries, values in (
        (
            "uncertain",
            "Least certain judgments",
            "By the entropy of the verdict, in nats.",
            "entropy",
            uncertain,
            [round(e.entropy or 0.0, 3) for e in uncertain],
        ),
        (
            "longest",
            "Slowest judgments",
            "By the length of the critique, which is what time goes into.",
            "characters",
            longest,
            [e.critique_chars for e in longest],
        ),
        (
            "failed",
            "Judgments without a verdict, with their texts",
            f"The first {len(failed)}, with the reason.",
            "reason",
            failed,
            [e.failure for e in failed],
        ),
    ):
        if entries:
            parts.append(_listing(id_, title, says, measure, entries, values, rows))
    return parts


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


def _picks(picks: Sequence[tuple[Entry, Entry]], rows: dict[int, Row]) -> Listing:
    listed = []
    for best, worst in picks:
        row = rows.get(best.line, {})
        shown = [f"{e.index} at {e.reward:.2f}:\n{_completion(row, e)}" for e in (best, worst)]
        listed.append([best.line, round(_gap((best, worst)), 3), _prompt(row), *shown])
    return Listing(
        id="picks",
        title="Best and worst of a prompt",
        says="The prompts with the largest gaps: what the judge rewards.",
        columns=["line", "gap", "prompt", "best", "worst"],
        rows=listed,
    )


def _listing(
    id_: str,
    title: str,
    says: str,
    measure: str,
    entries: Sequence[Entry],
    values: Sequence[Any],
    rows: dict[int, Row],
) -> Listing:
    listed = []
    for entry, value in zip(entries, values, strict=True):
        row = rows.get(entry.line, {})
        verdict = f"{entry.verdict:g}" if isinstance(entry.verdict, int | float) else entry.verdict or "-"
        listed.append(
            [
                f"{entry.line}.{entry.index}",
                verdict,
                value,
                _prompt(row),
                _completion(row, entry),
                _critique(row, entry),
            ]
        )
    columns = ["line.index", "verdict", measure, "prompt", "completion", "critique"]
    return Listing(id=id_, title=title, says=says, columns=columns, rows=listed)


def _prompt(row: Row) -> str:
    return _cut(_laid_out(row.get("prompt"), prompt_text), _SNIPPET)


def _completion(row: Row, entry: Entry) -> str:
    if isinstance(row.get("completions"), list) and entry.index < len(row["completions"]):
        return _cut(_laid_out(row["completions"][entry.index], completion_text), _SNIPPET)
    for kind, name in _FORMATS:
        names = row_format(kind, name, {}).completions
        if all(name in row for name in names):
            texts = [_cut(_laid_out(row[name], completion_text), _SNIPPET) for name in names]
            return "\n— against —\n".join(texts)
    return ""


def _critique(row: Row, entry: Entry) -> str:
    if "ranking" in row:
        row = next((e for e in row["ranking"] if e.get("index") == entry.index), {})
    return _cut(str(row.get("critique") or ""), _CRITIQUE)


def _laid_out(value: Any, lay_out: Callable[[Any], str]) -> str:
    try:
        return lay_out(value) if value is not None else ""
    except ConfigError:
        return str(value)


def _cut(text: str, n: int) -> str:
    return text if len(text) <= n else text[: n - 1] + "…"
