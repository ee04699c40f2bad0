# SPDX-License-Identifier: Apache-2.0
"""`rerank`: rank the completions of each prompt and mark the best."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from autoj_reward.cli import display
from autoj_reward.cli.options import RunOptions, with_options
from autoj_reward.cli.run import Budget, Source, StrategyName, Target, judge_rows, load_judge, open_rows

if TYPE_CHECKING:
    from autoj_reward.rows.records import RowItem, RowResult


@with_options(RunOptions)
def rerank(
    source: Source,
    output: Target,
    critiques: Annotated[
        Literal["none", "ends", "all"],
        typer.Option(
            help="With a direct judge: which completions get a critique. ends: the best and the worst of a "
            "group.",
        ),
    ] = "ends",
    show: Annotated[
        int, typer.Option(min=0, help="How many groups to print as a table, each with its best completion.")
    ] = 4,
    strategy: StrategyName = "pointwise",
    budget: Budget = None,
    top: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Keep only the best K in the ranking.")
    ] = None,
    *,
    options: RunOptions,
) -> None:
    """Order N completions of each prompt: rows with "prompt" and "completions": [...].

    Adds to each row: ranking (best first: index, reward, low, high, best_prob, rating, expected_rating, mass,
    entropy, exactness, critique, critique_rating (which the critique of a direct judge states), forced,
    cut_chars, flags, failure), best (the index of the best, null if none has a verdict), best_completion,
    mode, strategy, n_calls, n_tokens and cycles (A beats B, B beats C, C beats A).
    """
    from autoj_reward.ranking.registry import choose_strategy
    from autoj_reward.rows.tasks import rerank_task

    chosen = choose_strategy(strategy, budget)
    rows, fields = open_rows(source, output, ("rerank",), options.rows)
    judge = load_judge(options.judging, options.for_cache(), guarded=True)
    left = 0 if options.rows.quiet else show

    def print_groups(items: Sequence[RowItem], results: Sequence[RowResult]) -> None:
        nonlocal left
        for item, result in list(zip(items, results, strict=True))[:left]:
            display.print_group(item, result, to_stderr=output == "-")
            left -= 1

    identity: dict[str, Any] = {"critiques": critiques}
    if (strategy, budget, top) != ("pointwise", None, None):
        identity |= {"strategy": str(chosen), "top": top}
    judge_rows(
        rows,
        output,
        judge,
        functools.partial(rerank_task, critiques=critiques, strategy=chosen, top=top),
        fields,
        options,
        identity=identity,
        show=print_groups,
    )
