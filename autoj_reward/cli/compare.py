# SPDX-License-Identifier: Apache-2.0
"""`compare`: compare the two completions of each row."""

from __future__ import annotations

from typing import Annotated

import typer

from autoj_reward.cli.options import RunOptions, with_options
from autoj_reward.cli.ray import RayOptions
from autoj_reward.cli.run import Source, Target, judge_rows, load_judge, open_rows


@with_options(RunOptions, RayOptions)
def compare(
    source: Source,
    output: Target,
    one_order: Annotated[
        bool, typer.Option(help="Judge the given order only: half the cost, and biased by position.")
    ] = False,
    *,
    options: RunOptions,
    raying: RayOptions,
) -> None:
    """Compare two completions: rows with "prompt", "first" and "second".

    Adds to each row: preference, win_prob, tie_prob, reward, flipped, slot_bias, order_preferences,
    order_win_probs, critique, forced and contradicted (samples), mass, entropy, exactness (of the
    probabilities: exact, bounded or point), mode, cut_chars, flags, judge_id, failure.
    """
    from autoj_reward.rows.tasks import compare_task

    rows, fields = open_rows(source, output, ("compare",), options.rows)
    judge = load_judge(options.judging, options.for_cache(), both_orders=not one_order)
    judge_rows(
        rows,
        output,
        judge,
        compare_task,
        fields,
        options,
        identity={"one_order": one_order},
        raying=raying,
    )
