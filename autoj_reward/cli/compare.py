# SPDX-License-Identifier: Apache-2.0
"""`compare`: one file of pairs in, the same rows with preferences out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

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
def compare(
    source: Source,
    output: Target,
    one_order: Annotated[
        bool, typer.Option(help="Judge the given order only: half the cost, and biased by position.")
    ] = False,
    *,
    judging: JudgeOptions,
    criteria: CriteriaOptions,
    caching: CacheOptions,
    rows: RowOptions,
    raying: RayOptions,
) -> None:
    """Compare two completions: rows with "prompt", "first" and "second".

    Adds to each row: preference, win_prob, tie_prob, reward, flipped, slot_bias, order_preferences,
    order_win_probs, critique, forced (samples), mass, entropy, mode, cut_chars, flags, judge_id,
    failure.
    """
    from autoj_reward.rows.tasks import compare_task

    judge = load_judge(judging, caching.for_judge(again=rows.retry_failed), both_orders=not one_order)
    _run(
        "compare",
        source,
        output,
        judge,
        judging,
        criteria,
        caching,
        rows,
        compare_task,
        raying=raying,
        one_order=one_order,
    )
