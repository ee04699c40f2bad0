# SPDX-License-Identifier: Apache-2.0
"""`rate`: one file of completions in, the same rows with ratings out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoj_reward.cli.options import (
    CacheOptions,
    CriteriaOptions,
    JudgeOptions,
    RowOptions,
    with_options,
)
from autoj_reward.cli.ray import RayOptions
from autoj_reward.cli.run import Source, Target, _run, load_judge

if TYPE_CHECKING:
    pass


@with_options(JudgeOptions, CriteriaOptions, CacheOptions, RowOptions, RayOptions)
def rate(
    source: Source,
    output: Target,
    *,
    judging: JudgeOptions,
    criteria: CriteriaOptions,
    caching: CacheOptions,
    rows: RowOptions,
    raying: RayOptions,
) -> None:
    """Rate completions: rows with "prompt" and "completion".

    Adds to each row: rating (greedy), expected_rating, reward, critique, forced (samples that
    stated no verdict and were made to), mass, entropy (nats), mode, cut_chars, flags (what the guard found;
    null without one), judge_id (short id of who judged), failure.
    """
    from autoj_reward.rows.tasks import rate_task

    judge = load_judge(judging, caching.for_judge(again=rows.retry_failed))
    _run("rate", source, output, judge, judging, criteria, caching, rows, rate_task, raying=raying)
