# SPDX-License-Identifier: Apache-2.0
"""`rate`: rate the completion of each row."""

from __future__ import annotations

from autoj_reward.cli.options import RunOptions, with_options
from autoj_reward.cli.ray import RayOptions
from autoj_reward.cli.run import Source, Target, judge_rows, load_judge, open_rows


@with_options(RunOptions, RayOptions)
def rate(source: Source, output: Target, *, options: RunOptions, raying: RayOptions) -> None:
    """Rate completions: rows with "prompt" and "completion".

    Adds to each row: rating (greedy), expected_rating, reward, critique, forced (samples whose verdict was
    forced), contradicted (samples whose critique and verdict disagree), mass, entropy (nats), exactness (of
    the probabilities: exact, bounded or point), mode, cut_chars, flags (of the guard; null without one),
    judge_id, failure.
    """
    from autoj_reward.rows.tasks import rate_task

    rows, fields = open_rows(source, output, ("rate",), options.rows)
    judge = load_judge(options.judging, options.for_cache())
    judge_rows(rows, output, judge, rate_task, fields, options, raying=raying)
