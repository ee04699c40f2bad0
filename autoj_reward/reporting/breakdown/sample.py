# SPDX-License-Identifier: Apache-2.0
"""Choose the judgments of a run's heat maps: whole rows, evenly spaced over the file."""

from __future__ import annotations

from collections import defaultdict

from autoj_reward.judge.messages.text import completion_text
from autoj_reward.reporting.entries import Run, Sampled, rows_at
from autoj_reward.reporting.listings import texts_of
from autoj_reward.rows.source import Row

_MOST = 40
_CHARS = 60


def sampled_lines(run: Run) -> list[int]:
    """Lines of about 40 judgments with criteria or members, rising."""
    counts: dict[int, int] = defaultdict(int)
    for entry in run.entries:
        if entry.criteria or entry.members or entry.sides:
            counts[entry.line] += max(1, len(entry.sides))
    lines = list(counts)
    n = max(1, len(lines) * _MOST // max(sum(counts.values()), _MOST))
    return [lines[k * len(lines) // n] for k in range(n)] if lines else []


def sampled(run: Run) -> list[Sampled]:
    """The judgments of those lines, a group in the order of its ranking, at most 40 of one line."""
    lines = sampled_lines(run)
    rows, wanted = rows_at(run, lines), set(lines)
    if run.kind == "label":
        return [
            Sampled(f"Line {entry.line}, {side.label}", side.entry, _text_of(rows[entry.line], side.label))
            for entry in run.entries
            if entry.line in wanted
            for side in entry.sides
        ]
    texts = {line: texts_of(run, row)[1] for line, row in rows.items()}
    found: list[Sampled] = []
    n_of_line: dict[int, int] = defaultdict(int)
    for entry in run.entries:
        if entry.line not in wanted or n_of_line[entry.line] >= _MOST:
            continue
        n_of_line[entry.line] += 1
        own = texts[entry.line]
        label = f"Line {entry.line}" + (f", completion {entry.index + 1}" if run.kind == "rerank" else "")
        text = own[entry.index] if run.kind in ("rate", "rerank") and entry.index < len(own) else ""
        found.append(Sampled(label, entry, _beginning(text)))
    return found


def _text_of(row: Row, label: str) -> str:
    """The beginning of a labelled row's completion."""
    return _beginning(
        completion_text(row[label if label in ("chosen", "rejected") else "completion"], "keep")
    )


def _beginning(text: str) -> str:
    words = " ".join(text[: 2 * _CHARS].split())
    return words if len(words) <= _CHARS else words[: _CHARS - 1] + "…"
