# SPDX-License-Identifier: Apache-2.0
"""Rewards for a batch of completions, whatever trainer asks: judge, scale, groups, failures, metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, get_args

from autoj_reward.engines import engine_stats
from autoj_reward.errors import ConfigError, TooManyFailures
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.text import Reasoning, check_reasoning
from autoj_reward.reward.completions import Shown
from autoj_reward.reward.failures import FailureLimit, Fill, RunningMean, decide_pairs, fill_group_means
from autoj_reward.reward.groups import Item, flat_share, n_incomplete
from autoj_reward.reward.items import read_items
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
    CompletionScore,
    JudgedRequest,
    Plan,
    RewardMode,
    Schedule,
    judged_request,
    make_plan,
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
        """Do something on every process; each gets all results, by rank."""
        ...


class _OneProcess:
    rank, size = 0, 1

    def run(self, work: Callable[[], T]) -> list[T]:
        return [work()]


class BatchReward:
    """Rewards for batches of completions.

    It can be pickled and called from threads. No model is loaded before the first call.

    Args:
        judge: Judges.
        mode: rating: each completion by itself. pairwise: its chance to win against its group.
        scale: raw, unit or centred; see `RewardScale`.
        resolution: Step to which raw values are rounded; 0 for none, None for the engine's noise.
        fill: What a completion without a verdict gets.
        schedule: For pairwise: which pairs are compared.
        columns: Names of the columns with baselines (`baseline`), rubrics (`rubric`), reference answers
            (`reference`) and language codes (`language`). None: not used.
        shown: Of a completion of several messages: transcript or last.
        reasoning: What is done with the policy's reasoning; None takes the judge's setting.
        n_retries: Times that what failed is judged again. A too long input is not; and a direct reading only
            where the engine failed, because it would read the same again.
        max_failures: Largest share of failures among the latest completions, in [0, 1].

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
    ) -> None:
        for name, value, choices in (
            ("mode", mode, RewardMode),
            ("schedule", schedule, Schedule),
            ("shown", shown, Shown),
            ("fill", fill, Fill),
        ):
            if value not in get_args(choices):
                raise ConfigError(f"{name} = {value!r} is none of {', '.join(get_args(choices))}")
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
        """What a failure gets."""
        self._schedule: Schedule = schedule
        self._shown: Shown = shown
        self._reasoning = check_reasoning(judge.settings.reasoning if reasoning is None else reasoning)
        self._n_retries = n_retries
        self._running = RunningMean(self.scale.middle)
        self._limit = FailureLimit(max_failures)
        self._counting = threading.Lock()
        self._reports = ReportLog()

    def score(
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
            columns: The data set's columns by name, B values each.
            completion_ids: Tokens of the completions, B lists, for the correlation with length; None counts
                characters.
            group_size: Completions of one prompt, where it is known.
            ranks: The processes of a run, all of which call this with a part of the batch; each request is
                judged by one of them.
            logged: Whether the caller logs the report's metrics itself.

        Returns:
            B rewards, and the report, which is kept for `take_reports` as well.

        Raises:
            ConfigError: Lengths differ, or a column is missing.
            TemplateError: The judge's template does not take what the columns hold.
            EngineError: The engine failed as a whole.
            TooManyFailures: The share of failures passed the limit.
        """
        began = time.monotonic()
        before = engine_stats(self.judge.built_engine) or EngineStats()
        ranks = ranks or _OneProcess()

        def prepare() -> tuple[list[Item], list[int]]:
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
        n = len(plan.requests)
        cuts = [n * r // ranks.size for r in range(ranks.size + 1)]
        own = plan.requests[cuts[ranks.rank] : cuts[ranks.rank + 1]]
        verdicts = [v for share in ranks.run(lambda: self._verdicts(own)) for v in share]
        outcomes = plan.outcomes(verdicts)
        judged = [None if o.raw is None else self.scale.reward(o.raw) for o in outcomes]
        rewards, extra = self._filled(plan, judged, outcomes, mine)
        metrics = {
            **failure_metrics(outcomes),
            "incomplete_groups": float(n_incomplete(plan.groups, group_size)),
            "flat_group_share": flat_share(plan.groups, judged),
            "length_correlation": length_correlation([n for _, part in parts for n in part], outcomes),
            "cache_hit_share": self._cache_share(before),
            "seconds": time.monotonic() - began,
            **extra,
        }
        report = CallReport(
            rows=tuple(
                JudgedRow(
                    prompt=item.prompt,
                    completion=item.completion,
                    critique=outcome.critique,
                    raw=outcome.raw,
                    reward=reward,
                    reason=outcome.reason,
                )
                for item, outcome, reward in zip(plan.items[mine], outcomes[mine], rewards, strict=True)
            ),
            metrics={name: value for name, value in metrics.items() if value is not None},
            logged=logged,
        )
        self._reports.add(report)
        with self._counting:
            self._limit.count(len(outcomes), failure_counts(outcomes))
        return rewards, report

    def take_reports(self) -> list[CallReport]:
        """Reports of the latest calls; each is given once.

        At most a thousand are kept, and the rows of the latest two thousand completions.
        """
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

    def _verdicts(self, requests: Sequence[Request]) -> list[JudgedRequest]:
        verdicts = self._ask(requests)
        direct = self.judge.settings.mode == "direct"
        for _ in range(self._n_retries):
            again = [i for i, v in enumerate(verdicts) if _may_change(v.reason, direct=direct)]
            if not again:
                break
            for i, verdict in zip(again, self._ask([requests[i] for i in again]), strict=True):
                verdicts[i] = verdict
        return verdicts

    def _ask(self, requests: Sequence[Request]) -> list[JudgedRequest]:
        if not requests:
            return []
        if self.mode == "rating":
            return [judged_request(judgment) for judgment in self.judge.rate_requests(requests)]
        return [judged_request(judgment) for judgment in self.judge.compare_requests(requests)]

    def _filled(
        self, plan: Plan, judged: Rewards, outcomes: Sequence[CompletionScore], mine: slice
    ) -> tuple[Rewards, dict[str, float]]:
        """This process's rewards, with something for every failure; and metrics of it."""
        failed = [o for o in outcomes if o.reason is not None and o.reason != ALONE]
        if self.fill == "raise" and failed:
            reasons = ", ".join(sorted({str(o.reason) for o in failed}))
            raise TooManyFailures(
                f"{len(failed)} of {len(outcomes)} completions got no verdict ({reasons}), and on_failure is "
                "'raise'"
            )
        if self.fill == "hash":
            rewards, n_failed, n_tied = decide_pairs(
                plan.items[mine], judged[mine], step=self.scale.step, middle=self.scale.middle
            )
            return rewards, {"coin_for_failures": float(n_failed), "coin_for_ties": float(n_tied)}
        if self.fill == "running_mean":
            with self._counting:
                return list(self._running.fill(judged[mine])), {}
        if self.fill == "group_mean":
            return fill_group_means(judged, plan.groups)[mine], {}
        return judged[mine], {}

    def _cache_share(self, before: EngineStats) -> float | None:
        after = engine_stats(self.judge.built_engine)
        if after is None:
            return None
        cached, asked = after.n_cached - before.n_cached, after.n_asked - before.n_asked
        return EngineStats(n_cached=cached, n_asked=asked).cached_share


def _may_change(reason: str | None, *, direct: bool) -> bool:
    if reason is None or reason == FailureReason.TOO_LONG:
        return False
    return not direct or reason == FailureReason.ENGINE
