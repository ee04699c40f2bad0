# SPDX-License-Identifier: Apache-2.0
"""`rerank`: rank the completions of each prompt and mark the best."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from autoj_reward.cli import display
from autoj_reward.cli.options import (
    CacheOptions,
    CriteriaOptions,
    JudgeOptions,
    RowOptions,
    with_options,
)
from autoj_reward.cli.run import Budget, Source, StrategyName, Target, _run, load_judge
from autoj_reward.errors import ConfigError

if TYPE_CHECKING:
    from autoj_reward.rows.run import RowItem, RowResult


@with_options(JudgeOptions, CriteriaOptions, CacheOptions, RowOptions)
def rerank(
    source: Source,
    output: Target,
    critiques: Annotated[
        str,
        typer.Option(
            metavar="none|ends|all",
            help="With a direct judge: who gets a critique. ends: the best and the worst of each group.",
        ),
    ] = "ends",
    show: Annotated[int, typer.Option(min=0, help="How many groups to print as a table.")] = 4,
    strategy: StrategyName = "pointwise",
    budget: Budget = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Keep only the best K in the ranking.", show_default=False),
    ] = None,
    *,
    judging: JudgeOptions,
    criteria: CriteriaOptions,
    caching: CacheOptions,
    rows: RowOptions,
) -> None:
    """Order N completions of each prompt: rows with "prompt" and "completions": [...].

    Adds to each row: ranking (best first: index, reward, low, high, best_prob, rating, expected_rating, mass,
    entropy, critique, forced, cut_chars, flags, failure), best (the index of the best, null where nothing has
    a verdict), mode, strategy, n_calls, n_tokens and cycles (completions that beat each other in a circle).
    """
    from autoj_reward.ranking.registry import choose_strategy
    from autoj_reward.rows.tasks import Critiques, rerank_task

    if critiques not in ("none", "ends", "all"):
        raise ConfigError(f"--critiques {critiques!r} is not none, ends or all")
    chosen = choose_strategy(strategy, budget)
    judge = load_judge(judging, caching.for_judge(again=rows.retry_failed), guarded=True)
    left = 0 if rows.quiet else show

    def print_groups(items: Sequence[RowItem], finished: Sequence[RowResult]) -> None:
        nonlocal left
        for item, done in list(zip(items, finished, strict=True))[:left]:
            display.print_group(item, done, to_stderr=output == "-")
            left -= 1

    ranked: dict[str, Any] = {"strategy": str(chosen), "top": top}
    usual = (strategy, budget, top) == ("pointwise", None, None)
    _run(
        "rerank",
        source,
        output,
        judge,
        judging,
        criteria,
        caching,
        rows,
        functools.partial(rerank_task, critiques=cast(Critiques, critiques), strategy=chosen, top=top),
        show=print_groups,
        critiques=critiques,
        **({} if usual else ranked),
    )
