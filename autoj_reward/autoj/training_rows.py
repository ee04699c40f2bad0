# SPDX-License-Identifier: Apache-2.0
"""Build training rows in Auto-J's format from ratings and preferences with critiques.

The input is the judge's filled template; the target is the critique, ended by the verdict as the judge's
parser reads it. A row whose critique states another verdict than its label is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.judge.messages.text import completion_text, prompt_text
from autoj_reward.judge.parse import Stated, find_verdict
from autoj_reward.judge.spec import JudgeSpec, JudgingTask
from autoj_reward.judge.verdict import VerdictSet
from autoj_reward.judgments import PREFERENCES, Preference, Verdict
from autoj_reward.rows.source import Row, RowSource
from autoj_reward.types import Failure


def training_rows(
    source: RowSource,
    spec: JudgeSpec,
    *,
    language: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Iterator[Row | DataError]:
    """Rows of `usermsg`, `target_output`, `scenario`, `source_dataset`, and the labels.

    Args:
        source: Rows with `prompt`, `completion` and `rating`, or `prompt`, `first`, `second` and
            `preference` (first, second, tie, or 0, 1, 2); with `critique`, which may already end in the
            verdict; optionally `scenario` and `source_dataset`.
        spec: The judge to train, for its templates and verdicts.
        language: Language of the templates, for a judge with several.
        columns: Our field names to the source's.

    Returns:
        For each row the training row, or its error.

    Raises:
        TemplateError: The judge has no templates in the language.
        DataError: The source as a whole cannot be read.
    """
    judge = spec.in_language(language)
    for line, row in source.rows():
        if isinstance(row, DataError):
            yield row
            continue
        named = {ours: row[theirs] for ours, theirs in (columns or {}).items() if theirs in row}
        try:
            yield _training_row(row | named, judge)
        except _Wrong as wrong:
            yield DataError(str(wrong), path=source.name, line=line, field=wrong.field)
        except ConfigError as error:
            yield DataError(str(error), path=source.name, line=line)


class _Wrong(Exception):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def _training_row(row: Row, judge: JudgeSpec) -> Row:
    rates = "completion" in row
    task = judge.rating if rates else judge.comparison
    if task is None:
        raise _Wrong("completion" if rates else "first", f"judge {judge.name!r} does not take such rows")
    values = {"prompt": _given(row, "prompt", prompt_text)}
    for name in ("completion",) if rates else ("first", "second"):
        values[name] = _given(row, name, completion_text)
    verdict = _rating(row, task.verdicts) if rates else _preference(row)
    made: Row = {
        "usermsg": "".join(s.text for s in task.template.fill(values)),
        "target_output": _target(row, task, verdict),
    }
    if rates:
        made["pred_score"] = f"{cast(float, verdict):g}"
    else:
        number = PREFERENCES.index(cast(Preference, verdict))
        made |= {"gt_label": number, "pred_label": number}
    return made | {name: row[name] for name in ("scenario", "source_dataset") if name in row}


def _target(row: Row, task: JudgingTask, verdict: Verdict) -> str:
    critique = row.get("critique", "")
    if not isinstance(critique, str):
        raise _Wrong("critique", "must be a text")
    verdicts = task.verdicts
    stated = find_verdict(critique, "stop", verdicts)
    if isinstance(stated, Stated):
        if stated.verdict != verdict:
            raise _Wrong("critique", f"states {stated.verdict}, and the label says {verdict}")
        return critique
    written = verdicts.texts[verdicts.verdicts.index(verdict)]
    closing = (verdicts.verdict_prefix + written).strip() + ("]]" if isinstance(verdict, float) else "")
    target = f"{critique.rstrip()}\n\n{closing}" if critique.strip() else closing
    again = find_verdict(target, "stop", verdicts)
    if isinstance(again, Failure) or again.verdict != verdict:
        raise _Wrong("critique", f"with the verdict {closing!r} appended it is not read as {verdict}")
    return target


def _given(row: Row, name: str, lay_out: Callable[[Any], str]) -> str:
    if name not in row:
        raise _Wrong(name, "is missing")
    try:
        return lay_out(row[name])
    except ConfigError as error:
        raise _Wrong(name, str(error)) from None


def _rating(row: Row, verdicts: VerdictSet) -> float:
    value = row.get("rating")
    if isinstance(value, bool) or not isinstance(value, int | float) or float(value) not in verdicts.verdicts:
        low, high = verdicts.texts[0], verdicts.texts[-1]
        raise _Wrong("rating", f"must be on the judge's scale, {low} to {high}; is {value!r:.40}")
    return float(value)


def _preference(row: Row) -> Preference:
    value = row.get("preference")
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(PREFERENCES):
        return PREFERENCES[value]
    if value in PREFERENCES:
        return cast(Preference, value)
    raise _Wrong("preference", f"must be first, second, tie, or 0, 1, 2; is {value!r:.40}")
