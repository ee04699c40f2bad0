# SPDX-License-Identifier: Apache-2.0
"""Render rows with their texts: as cards, or as a list that a reader searches, sorts and filters.

The list is complete without a script; the script only hides and moves what is there.
"""

from __future__ import annotations

from collections.abc import Sequence

from autoj_reward.reporting.breakdown.heat_map import heat_table, row_id
from autoj_reward.reporting.escaping import shown
from autoj_reward.reporting.parts import Answer, Cards, Case
from autoj_reward.reporting.shapes import is_known

_FOLD = 320
"""A text with more characters is folded."""
_TITLE = 110
"""Characters of a prompt in its row's title."""


def cards(part: Cards) -> str:
    """The rows of a part."""
    if part.style == "open":
        return "".join(
            f'<article class="case"><h3>Line {case.line}: {shown(case.title)}</h3>'
            f"{_inside(case, 4)}</article>"
            for case in part.cases
        )
    browse = part.style == "browse"
    ids = [row_id(case.line) if browse else f"{part.id}-{n}" for n, case in enumerate(part.cases)]
    rows = "".join(_row(case, id_) for case, id_ in zip(part.cases, ids, strict=True))
    return f'<div class="rows">{_tools(part.cases)}{rows}</div>' if browse else rows


def folded_text(text: str) -> str:
    """A text, whole; a long one opens from its beginning."""
    if len(text) <= _FOLD:
        return f'<div class="text" dir="auto">{shown(text)}</div>'
    start = " ".join(text[: _FOLD // 2].split())
    return (
        f'<details class="unfold"><summary dir="auto">{shown(start)}… ({len(text):,} characters)</summary>'
        f'<div class="text" dir="auto">{shown(text)}</div></details>'
    )


def _row(case: Case, id_: str) -> str:
    numbers = {k: v for k, v in case.values.items() if is_known(v)}
    data = "".join(f' data-{shown(name)}="{value:.6g}"' for name, value in numbers.items())
    return (
        f'<details class="case" id="{shown(id_)}" data-place="{case.line}"'
        f' data-kinds="{shown(" ".join(case.kinds))}" data-group="{shown(case.group)}"{data}>'
        f"<summary>{_head(case)}</summary>{_inside(case, 3)}</details>"
    )


def _head(case: Case) -> str:
    prompt = " ".join(case.prompt[:_TITLE].split()) + ("…" if len(case.prompt) > _TITLE else "")
    tags = "".join(f' <span class="tag">{shown(kind)}</span>' for kind in case.kinds)
    return f'<b>Line {case.line}: {shown(case.title)}</b>{tags} <span dir="auto">{shown(prompt)}</span>'


def _inside(case: Case, level: int) -> str:
    """What a row holds, under headings of a level."""
    answers = "".join(_answer(answer, level) for answer in case.answers)
    notes = "".join(_note(title, text) for title, text in case.notes.items())
    tables = "".join(heat_table(table) for table in case.tables)
    return (
        f"<h{level}>Prompt</h{level}>{folded_text(case.prompt)}{tables}"
        f'<div class="texts" role="group" tabindex="0" aria-label="Completions of line {case.line}">'
        f"{answers}</div>{notes}"
    )


def _answer(answer: Answer, level: int) -> str:
    facts = "".join(f"<dt>{shown(k)}</dt><dd>{shown(v)}</dd>" for k, v in answer.facts.items())
    notes = "".join(_note(title, text) for title, text in answer.notes.items())
    figures = f"<dl>{facts}</dl>" if facts else ""
    title = f"<h{level}>{shown(answer.title)}</h{level}>"
    return f'<div class="answer">{title}{figures}{folded_text(answer.text)}{notes}</div>'


def _note(title: str, text: str) -> str:
    return (
        f'<details class="unfold"><summary>{shown(title)} ({len(text):,} characters)</summary>'
        f'<div class="text" dir="auto">{shown(text)}</div></details>'
    )


def _tools(cases: Sequence[Case]) -> str:
    """Fields to search, filter and sort by; hidden until the script runs."""
    kinds = _options(["all", *dict.fromkeys(kind for case in cases for kind in case.kinds)])
    groups = [group for group in dict.fromkeys(case.group for case in cases) if group]
    values = dict.fromkeys(name for case in cases for name in case.values)
    orders = "".join(
        f'<option value="{shown(name)} {way}">{shown(name)}, {text} first</option>'
        for name in values
        for way, text in (("-1", "highest"), ("1", "lowest"))
    )
    by_group = f'<label>Group <select name="group">{_options(["all", *groups])}</select></label>'
    return (
        '<form class="tools" hidden><label>Search <input type="search" name="search"></label>'
        f'<label>Show <select name="kind">{kinds}</select></label>{by_group if groups else ""}'
        f'<label>Sort <select name="sort"><option value="place 1">line</option>{orders}</select></label>'
        '<button type="button" name="fold">Open all shown</button><output></output></form>'
    )


def _options(names: Sequence[str]) -> str:
    return "".join(
        f'<option value="{"" if n == 0 else shown(name)}">{shown(name)}</option>'
        for n, name in enumerate(names)
    )
