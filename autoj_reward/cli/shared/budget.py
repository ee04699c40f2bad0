# SPDX-License-Identifier: Apache-2.0
"""Options that limit what a run may spend, and an estimate of what it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from autoj_reward.errors import ConfigError

if TYPE_CHECKING:
    from autoj_reward.budget import Budget, Spending
    from autoj_reward.cli.options import CacheOptions
    from autoj_reward.judge.judge import Judge
    from autoj_reward.rows.run import RowRun

_PANEL = "Budget"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOptions:
    """The most that a command may spend."""

    most_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=_PANEL,
            help="Stop before the next chunk, with exit status 4, once this run has spent N tokens. What is "
            "judged is kept, and the same command continues.",
            show_default=False,
        ),
    ] = None
    most_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="S", rich_help_panel=_PANEL, help="The same after S seconds.", show_default=False
        ),
    ] = None
    most_cost: Annotated[
        float | None,
        typer.Option(
            metavar="MONEY",
            rich_help_panel=_PANEL,
            help="The same at this cost, by the prices in the judge's file ([price]).",
            show_default=False,
        ),
    ] = None

    def budget(self) -> Budget | None:
        """The budget of a run; None without one.

        Raises:
            ConfigError: A limit is not above 0.
        """
        from autoj_reward.budget import Budget

        made = Budget(tokens=self.most_tokens, seconds=self.most_seconds, cost=self.most_cost)
        return made if made.is_given else None

    def refuse_without_judge(self) -> None:
        """Raise ConfigError if a budget is given to a command that asks no judge."""
        if self.budget() is not None:
            raise ConfigError(
                "a budget limits what a judge spends, and this call asks none", hint="leave out --most-..."
            )

    def spending(self, judge: Judge, caching: CacheOptions) -> Spending | None:
        """What a judge spends from now on; None without a budget.

        Args:
            judge: The judge.
            caching: The command's cache, from which its next run has to continue.

        Raises:
            ConfigError: The next run could not continue, a limit is not above 0, or the judge has no prices.
        """
        from autoj_reward.budget import Spending

        budget = self.budget()
        if budget is None:
            return None
        if caching.no_cache or caching.refresh:
            option = "--no-cache" if caching.no_cache else "--refresh"
            raise ConfigError(
                f"a budget with {option}: this command continues from the cache alone",
                hint=f"leave out {option}, or --most-...",
            )
        return Spending(judge, budget)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOptions(LimitOptions):
    """The most that a run of rows may spend, and an estimate of it."""

    measure: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=_PANEL,
            help="With --dry-run: judge N rows, and say from them the tokens, time and cost of all. The "
            "cache keeps their answers.",
            show_default=False,
        ),
    ] = None

    def check(self, *, dry_run: bool, on_cluster: bool) -> None:
        """Refuse options that would have no effect.

        Raises:
            ConfigError: --measure without --dry-run, or a budget on a Ray cluster.
        """
        if self.measure is not None and not dry_run:
            raise ConfigError("--measure is given without --dry-run")
        if on_cluster and self.budget() is not None:
            raise ConfigError(
                "a budget is for runs on one machine: no worker of a cluster knows what others have spent",
                hint="leave out --most-... or --ray",
            )


def estimate(run: RowRun, judge: Judge, n: int, *, quiet: bool = False) -> str:
    """What a run would take, from judging n of its rows: tokens, time and, with prices, cost.

    One row more is judged first, which loads the judge and does not count; of a single row its loading
    counts. What the cache holds already costs nothing and makes the figures too low. Shows its progress
    unless `quiet`.
    """
    from autoj_reward.budget import Budget, Spending
    from autoj_reward.engines import is_loaded
    from autoj_reward.progress import RunProgress, span
    from autoj_reward.rows.check import sample_items

    items = sample_items(run.source, run.task, run.checked, n + 1)
    if not items:
        return "no row to measure"
    counted = items[1:] or items
    loading_counts = len(items) == 1
    with RunProgress(
        "estimate, rows", len(items), quiet=quiet, loaded=lambda: is_loaded(judge.built_engine)
    ) as progress:
        if not loading_counts:
            run.task.judge(items[:1])
            progress.advance(1)
        spent = Spending(judge, Budget())
        results = run.task.judge(counted)
        seconds = spent.seconds
    spent.add(j for r in results for j in (*r.judgments, *r.explanations))
    factor, usage, cost = run.checked.n_rows / len(counted), spent.usage, spent.cost
    parts = [
        f"{factor * usage.prompt_tokens:,.0f} tokens in prompts",
        f"{factor * usage.completion_tokens:,.0f} written",
        span(factor * seconds),
        *([] if cost is None else [f"a cost of {factor * cost:,.4g}"]),
    ]
    of = "included" if loading_counts else "left out"
    return f"{', '.join(parts)} (from {len(counted):,} rows in {span(seconds)}, loading {of})"
