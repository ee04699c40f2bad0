# SPDX-License-Identifier: Apache-2.0
"""The row task that writes a rubric of criteria for each row's prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoj_reward.judge.criteria.writing import WrittenRubric, write_rubrics
from autoj_reward.judge.judge import Judge
from autoj_reward.judgments import Provenance, RatingJudgment, Sample
from autoj_reward.rows.fields import RowFormat
from autoj_reward.rows.records import RowItem, RowResult, RowTask

ADDED_FIELDS = ("rubric", "n_criteria", "judge_id", "failure")


def rubrics_task(judge: Judge, row_format: RowFormat) -> RowTask:
    """Write criteria from each row's prompt, and its reference answer if it has one."""

    def judged(items: Sequence[RowItem]) -> list[RowResult]:
        written = write_rubrics(judge, [item.requests[0] for item in items])
        return [RowResult(_fields(one, judge.identity), [_judgment(one, judge)]) for one in written]

    return RowTask(
        label="rubrics",
        row_format=row_format,
        optional=frozenset({"reference"}),
        check=lambda requests: None,  # criteria can be written for any prompt
        judge=judged,
        added_fields=ADDED_FIELDS,
    )


def _fields(written: WrittenRubric, judge_id: str) -> dict[str, Any]:
    rubric = written.rubric
    return {
        "rubric": None if rubric is None else [criterion.to_dict() for criterion in rubric.criteria],
        "n_criteria": 0 if rubric is None else len(rubric.criteria),
        "judge_id": judge_id,
        "failure": None if written.failure is None else written.failure.to_dict(),
    }


def _judgment(written: WrittenRubric, judge: Judge) -> RatingJudgment:
    """What was written, for the run's counts of failures and tokens; it rates nothing."""
    return RatingJudgment(
        mode="critique",
        distribution=None,
        samples=(Sample(critique=written.text, failure=written.failure),),
        failure=written.failure,
        usage=written.usage,
        provenance=Provenance(judge=judge.spec.name, template=judge.spec.fingerprint, engine=""),
    )
