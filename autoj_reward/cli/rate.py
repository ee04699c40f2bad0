# SPDX-License-Identifier: Apache-2.0
"""`rate`: one file of completions in, the same rows with ratings out."""

from __future__ import annotations

from autoj_reward.cli.options import RunOptions, with_options
from autoj_reward.cli.ray import RayOptions
from autoj_reward.cli.run import Source, Target, judge_rows, load_judge, row_fields


@with_options(RunOptions, RayOptions)
def rate(source: Source, output: Target, *, options: RunOptions, raying: RayOptions) -> None:
    """Rate completions: rows with "prompt" and "completion".

    Adds to each row: rating (greedy), expected_rating, reward, critique, forced (samples that
    stated no verdict and were made to), mass, entropy (nats), mode, cut_chars, flags (what the guard found;
    null without one), judge_id (short id of who judged), failure.
    """
    from autoj_reward.rows.tasks import rate_task

    judge = load_judge(options.judging, options.for_cache())
    judge_rows(source, output, judge, rate_task, row_fields("rate", options), options, raying=raying)
