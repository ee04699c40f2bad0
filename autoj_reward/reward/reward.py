# SPDX-License-Identifier: Apache-2.0
"""Compute rewards for a batch of completions, independent of the trainer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, get_args

from autoj_reward.budget import Budget, Spending
from autoj_reward.engines import engine_stats
from autoj_reward.errors import ConfigError, TooManyFailures
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.text import Reasoning, check_reasoning
from autoj_reward.reward.failures import FailureLimit, Fill, RunningMean, decide_pairs, fill_group_means
from autoj_reward.reward.groups import Item, flat_share, n_incomplete
from autoj_reward.reward.items import Shown, read_items
from autoj_reward.reward.metrics import (
    CallReport,
    JudgedRow,
    ReportLog,
    failure_counts,
    failure_metrics,
    length_correlation,
)
from autoj_reward.reward.plan import (
    ALONE,
    Plan,
    RawScore,
    RewardMode,
    Schedule,
    make_plan,
    raw_score,
)
from autoj_reward.reward.resolution import reward_scale
from autoj_reward.reward.scale import Scale
from autoj_reward.types import EngineStats, FailureReason, Request, Text

Rewards = list[float | None]
T = TypeVar("T")


class Ranks(Protocol):
    """The processes that share a batch."""

    rank: int
    size: int

    def run(self, work: Callable[[], T]) -> list[T]:
        """Call `work` on every process; return all results, by rank."""
        ...


class _OneProcess:
    rank, size = 0, 1

    def run(self, work: Callable[[], T]) -> list[T]:
        return [work()]


class BatchReward:
    """Rewards for batches of completions; picklable and thread-safe.

    No model is loaded before the first call. `JudgeReward` documents the arguments that are not listed here.

    Args:
        fill: Reward of a completion without a verdict.
        columns: Maps `baseline`, `rubric`, `reference` and `language` to a dataset column, or None.

    Raises:
        ConfigError: A setting is wrong, or the judge does not rate or compare as `mode` needs.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        mode: RewardMode = "rating",
        scale: Scale = "centred",
        resolution: float | None = None,
        fill: Fill = "group_mean",
        schedule: Schedule = "ring",
        columns: Mapping[str, str | None] | None = None,
        shown: Shown = "transcript",
        reasoning: Reasoning | None = None,
        n_retries: int = 1,
        max_failures: float = 0.5,
        budget: Budget | None = None,
    ) -> None:
        for name, value, choices in (
            ("mode", mode, RewardMode),
            ("schedule", schedule, Schedule),
            ("shown", shown, Shown),
            ("fill", fill, Fill),
        ):
            if value not in get_args(choices):
                raise ConfigError(f"{name} = {value!r} must be one of {', '.join(get_args(choices))}")
        self._columns = {field: column for field, column in (columns or {}).items() if column is not None}
        if (schedule == "baseline") != ("baseline" in self._columns):
            raise ConfigError("schedule='baseline' and baseline_column belong together")
        if mode == "rating" and schedule != "ring":
            raise ConfigError(f"schedule = {schedule!r} is for mode='pairwise'")
        if n_retries < 0:
            raise ConfigError(f"n_retries = {n_retries} is below 0")
        self.judge = judge
        self.mode: RewardMode = mode
        self.scale = reward_scale(judge, mode, scale, resolution)
        self.fill: Fill = fill
        """Reward of a failed judgment."""
        self.keep_columns = False
        """Whether the rows of reports keep the dataset's columns, for a second judge."""
        self._schedule: Schedule = schedule
        self._shown: Shown = shown
        self._reasoning = check_reasoning(judge.settings.reasoning if reasoning is None else reasoning)
        self._n_retries = n_retries
        self._running = RunningMean(self.scale.middle)
        self._limit = FailureLimit(max_failures)
        self._spending = None if budget is None else Spending(judge, budget)
        self._counting = threading.Lock()
        self._reports = ReportLog()

    def score_batch(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        columns: Mapping[str, Any] | None = None,
        *,
        completion_ids: Sequence[Sequence[int]] | None = None,
        group_size: int | None = None,
        ranks: Ranks | None = None,
        logged: bool = False,
    ) -> tuple[Rewards, CallReport]:
        """Judge a batch.

        Args:
            prompts: B prompts, as text or messages.
            completions: B completions, likewise.
            columns: The dataset's columns by name, B values each.
            completion_ids: B lists of tokens, for the correlation with length; None counts characters.
            group_size: Completions per prompt, if known.
            ranks: The processes that each call this with a part of the batch and share the judging.
            logged: Whether the caller logs the report's metrics itself.

        Returns:
            B rewards, and the report, which `take_reports` returns too.

        Raises:
            ConfigError: Lengths differ, or a column is missing.
            TemplateError: The judge's template does not take what the columns hold.
            EngineError: The engine failed as a whole.
            TooManyFailures: The share of failures passed the limit.
            BudgetSpent: The budget is spent; nothing of this batch was judged.
        """
        began = time.monotonic()
        before = engine_stats(self.judge.built_engine) or EngineStats()
        ranks = ranks or _OneProcess()

        def prepare() -> tuple[list[Item], list[int]]:
            if self._spending is not None:
                self._spending.check()
            items = read_items(
                prompts,
                completions,
                columns or {},
                names=self._columns,
                shown=self._shown,
                reasoning=self._reasoning,
            )
            texts = completion_ids if completion_ids is not None else [i.completion for i in items]
            return items, [len(text) for text in texts]

        parts = ranks.run(prepare)
        start = sum(len(part) for part, _ in parts[: ranks.rank])
        mine = slice(start, start + len(parts[ranks.rank][0]))

        plan = make_plan([item for part, _ in parts for item in part], self.mode, self._schedule)
        in_lists = self.mode == "rating" and bool(self.judge.kinds_in_lists)
        cuts = plan.cuts(ranks.size, whole_groups=in_lists)
        own = plan.requests[cuts[ranks.rank] : cuts[ranks.rank + 1]]
        judged = [score for share in ranks.run(lambda: self._judge(own)) for score in share]
        scores = plan.scores(judged)
        known = [None if s.raw is None else self.scale.reward(s.raw) for s in scores]
        rewards, extra = self._filled(plan, known, scores, mine)
        metrics = {
            **failure_metrics(scores),
            "incomplete_groups": float(n_incomplete(plan.groups, group_size)),
            "flat_group_share": flat_share(plan.groups, known),
            "length_correlation": length_correlation([n for _, part in parts for n in part], scores),
            "cache_hit_share": self._cache_share(before),
            "seconds": time.monotonic() - began,
            "budget_used_share": None if self._spending is None else self._spending.used_share,
            **extra,
        }
        report = CallReport(
            rows=tuple(
                JudgedRow(
                    prompt=item.prompt,
                    completion=item.completion,
                    critique=score.critique,
                    raw=score.raw,
                    reward=reward,
                    reason=score.reason,
                    columns=own_columns,
                )
                for item, score, reward, own_columns in zip(
                    plan.items[mine],
                    scores[mine],
                    rewards,
                    _rows_of(columns or {}, len(rewards)) if self.keep_columns else [{}] * len(rewards),
                    strict=True,
                )
            ),
            metrics={name: value for name, value in metrics.items() if value is not None},
            logged=logged,
        )
        self._reports.add(report)
        with self._counting:
            self._limit.count(len(scores), failure_counts(scores))
        return rewards, report

    def take_reports(self) -> list[CallReport]:
        """Remove and return the reports of the last thousand calls, with the last two thousand rows."""
        return self._reports.take()

    def close(self) -> None:
        """Close the judge's engine."""
        self.judge.close()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_counting", "_reports")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._counting = threading.Lock()
        self._reports = ReportLog()

    def _judge(self, requests: Sequence[Request]) -> list[RawScore]:
        """Judge requests; judge again those whose failure a second attempt may mend."""
        scores = self._ask(requests)
        # A direct reading that did not fail in the engine would read the same again.
        final: set[str | None] = {None, FailureReason.TOO_LONG}
        if self.judge.settings.mode == "direct":
            final |= set(FailureReason) - {FailureReason.ENGINE}
        for _ in range(self._n_retries):
            again = [i for i, s in enumerate(scores) if s.reason not in final]
            if self.judge.kinds_in_lists:
                # A list is asked for whole: without the others its verdicts would be of another list.
                failed = [requests[i].prompt for i in again]
                again = [i for i, request in enumerate(requests) if request.prompt in failed]
            for i, score in zip(again, self._ask([requests[i] for i in again]), strict=True):
                scores[i] = score
        return scores

    def _ask(self, requests: Sequence[Request]) -> list[RawScore]:
        judged = self.judge.judge_requests(requests) if requests else []
        if self._spending is not None:
            with self._counting:
                self._spending.add(judged)
        return [raw_score(j) for j in judged]

    def _filled(
        self, plan: Plan, known: Rewards, scores: Sequence[RawScore], mine: slice
    ) -> tuple[Rewards, dict[str, float]]:
        """This process's rewards with failures filled in, and metrics of the filling."""
        failed = [s for s in scores if s.reason is not None and s.reason != ALONE]
        if self.fill == "raise" and failed:
            reasons = ", ".join(sorted({str(s.reason) for s in failed}))
            raise TooManyFailures(
                f"{len(failed)} of {len(scores)} completions got no verdict ({reasons}), and on_failure is "
                "'raise'"
            )
        if self.fill == "hash":
            rewards, n_failed, n_tied = decide_pairs(
                plan.items[mine], known[mine], step=self.scale.step, middle=self.scale.middle
            )
            return rewards, {"coin_for_failures": float(n_failed), "coin_for_ties": float(n_tied)}
        if self.fill == "running_mean":
            with self._counting:
                return list(self._running.fill(known[mine])), {}
        if self.fill == "group_mean":
            return fill_group_means(known, plan.groups)[mine], {}
        return known[mine], {}

    def _cache_share(self, before: EngineStats) -> float | None:
        after = engine_stats(self.judge.built_engine)
        if after is None:
            return None
        cached, asked = after.n_cached - before.n_cached, after.n_asked - before.n_asked
        return cached / (cached + asked) if cached + asked else None


def _rows_of(columns: Mapping[str, Any], n: int) -> list[dict[str, Any]]:
    """Columns of n values as n rows; what is no such column is left out."""
    lists = {k: v for k, v in columns.items() if isinstance(v, Sequence) and len(v) == n and k != "prompt"}
    return [{name: values[i] for name, values in lists.items()} for i in range(n)]
