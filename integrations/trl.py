# SPDX-License-Identifier: Apache-2.0
"""Reward functions for TRL's trainers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Self, get_args

from autoj_reward.engines import engine_stats
from autoj_reward.errors import ConfigError, TooManyFailures
from autoj_reward.integrations.distributed import ProcessGroup, current_process_group
from autoj_reward.integrations.trl_trainer import TrainerInfo, trainer_info, trl_version
from autoj_reward.judge.columns import as_column
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.text import Reasoning, check_reasoning, prompt_text
from autoj_reward.reward.completions import Shown, Thinking, reasoning_of, shown_completion
from autoj_reward.reward.failures import (
    FailureLimit,
    Fill,
    OnFailure,
    RunningMean,
    Trainer,
    choose_fill,
    decide_pairs,
    fill_group_means,
)
from autoj_reward.reward.groups import Item, flat_share, n_incomplete
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
from autoj_reward.reward.resolution import engine_resolution
from autoj_reward.reward.scale import RewardScale, Scale
from autoj_reward.types import EngineStats, FailureReason, Mode, Request, Text

Rewards = list[float | None]


class JudgeReward:
    """A judge as one reward function, right in every trainer of TRL.

    Give it to a trainer among its `reward_funcs`, and tell it which trainer that is: `attach(trainer)`, or
    the arguments `trainer` and `n_rewards`. What a failed judgment does to training depends on that; without
    it, a failure gets the mean of its group.

    It can be pickled and called from threads. No model is loaded before the first call. In a run of several
    processes every process must call it alike: completions are gathered, each thing is judged once, and an
    error on one process is raised on all.

    Args:
        judge: A judge, or a name for `Judge.load`.
        mode: rating: each completion by itself. pairwise: its mean chance to win against others of its
            prompt.
        scale: raw: the judge's ratings (1 to 10), or the win probability. unit: in [0, 1]. centred: in
            [-1, 1].
        on_failure: auto: what fits the trainer, see `choose_fill`; or a fill.
        resolution: Step to which ratings, or win probabilities, are rounded, in their own units; 0 for none.
            None is the measured noise of the engine's dtype.
        trainer: grpo, rloo, online_dpo, async_grpo or ppo, where `attach` is not used.
        n_rewards: How many reward functions the trainer sums up, likewise.
        schedule: For pairwise: ring, all or baseline.
        baseline_column: The dataset's column with the completions that all are compared with (baseline).
        rubric_column: The dataset's column of rubrics, for a judge whose template takes one.
        reference_column: The dataset's column of reference answers, likewise.
        language_column: The dataset's column of language codes, for a judge with templates in several.
        shown: Of a completion of several messages: transcript (all of them, tool calls and results included)
            or last (the last assistant turn).
        reasoning: strip, strip_opened or keep: what is done with the policy's reasoning (see `Judge.load`).
            None takes the judge's own setting.
        thinking: The former name of `reasoning`; its judge is keep.
        n_retries: Times that what failed is judged again. A too long input is not; and a direct reading only
            where the engine failed, because it would read the same again.
        max_failures: Largest share of failures among the latest completions, in [0, 1].
        gather: Whether processes of one run judge together. False: this process alone, for calls that the
            others do not make.
        name: The metric's name; None is `judge_rating` or `judge_pairwise`.
        judge_mode: direct or critique, for a judge given by name; None is the judge's own default, which for
            shipped judges is what was measured best.
        **judge_options: For `Judge.load`, for a judge given by name. It has a guard unless `guard=False`.

    Raises:
        ConfigError: A setting is wrong, or does not fit the judge or the trainer.

    Example:
        >>> reward = JudgeReward("mini")
        >>> trainer = GRPOTrainer(..., reward_funcs=reward)                     # doctest: +SKIP
        >>> reward.attach(trainer)                                              # doctest: +SKIP
    """

    def __init__(
        self,
        judge: Judge | str,
        *,
        mode: RewardMode = "rating",
        scale: Scale = "centred",
        on_failure: OnFailure = "auto",
        resolution: float | None = None,
        trainer: Trainer | None = None,
        n_rewards: int = 1,
        schedule: Schedule = "ring",
        baseline_column: str | None = None,
        rubric_column: str | None = None,
        reference_column: str | None = None,
        language_column: str | None = None,
        shown: Shown = "transcript",
        reasoning: Reasoning | None = None,
        thinking: Thinking | None = None,
        n_retries: int = 1,
        max_failures: float = 0.5,
        gather: bool = True,
        name: str | None = None,
        judge_mode: Mode | None = None,
        **judge_options: Any,
    ) -> None:
        _check_choice("mode", mode, RewardMode)
        _check_choice("schedule", schedule, Schedule)
        _check_choice("shown", shown, Shown)
        if reasoning is not None and thinking is not None:
            raise ConfigError("thinking is the former name of reasoning; give one of them")
        if thinking is not None:
            _check_choice("thinking", thinking, Thinking)
            reasoning = reasoning_of(thinking)
        if (schedule == "baseline") != (baseline_column is not None):
            raise ConfigError("schedule='baseline' and baseline_column belong together")
        if mode == "rating" and schedule != "ring":
            raise ConfigError(f"schedule = {schedule!r} is for mode='pairwise'")
        if n_retries < 0:
            raise ConfigError(f"n_retries = {n_retries} is below 0")
        if isinstance(judge, str):
            own = {"guard": True} if reasoning is None else {"guard": True, "reasoning": reasoning}
            judge = Judge.load(judge, mode=judge_mode, **{**own, **judge_options})
        elif judge_mode is not None or judge_options:
            raise ConfigError(
                f"{sorted({'judge_mode', *judge_options})} are for a judge given by name",
                hint="give them to Judge.load",
            )
        self.judge = judge
        self.mode: RewardMode = mode
        self.__name__ = name or f"judge_{mode}"
        self.scale = _reward_scale(judge, mode, scale, resolution)
        self._on_failure: OnFailure = on_failure
        self._schedule: Schedule = schedule
        self._columns = {
            "baseline": baseline_column,
            "rubric": rubric_column,
            "reference": reference_column,
            "language": language_column,
        }
        self._shown: Shown = shown
        self._reasoning = check_reasoning(judge.settings.reasoning if reasoning is None else reasoning)
        self._n_retries = n_retries
        self._gather = gather
        self._facts: TrainerInfo | None = None
        self.fill: Fill = choose_fill(on_failure, trainer, n_rewards=n_rewards, trl_version=trl_version())
        """What a failure gets."""
        self._trainer = trainer
        self._running = RunningMean(self.scale.middle)
        self._limit = FailureLimit(max_failures)
        self._counting = threading.Lock()
        self._reports = ReportLog()

    def attach(self, trainer: Any) -> Self:
        """Learn from the trainer what a failure does there, and how large its groups are.

        Args:
            trainer: It must have this reward, or `async_reward` of it, among its reward functions.

        Returns:
            This reward.

        Raises:
            ConfigError: The trainer takes no such reward, or `on_failure` does not fit it.
        """
        facts = trainer_info(trainer, self)
        self.fill = choose_fill(
            self._on_failure,
            facts.kind,
            n_rewards=facts.n_rewards,
            trl_version=trl_version(),
            normalizes_first=facts.normalizes_first,
        )
        self._facts, self._trainer = facts, facts.kind
        return self

    def __call__(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]] | None = None,
        *,
        trainer_state: Any = None,
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **columns: Any,
    ) -> Rewards:
        """Judge completions.

        Args:
            prompts: B prompts, as text or messages.
            completions: B completions, likewise.
            completion_ids: Their tokens, B lists; for the correlation with length.
            trainer_state: Not used.
            log_metric: Takes the call's numbers.
            log_extra: Takes critiques, raw values and failures, as columns beside the completions.
            **columns: The dataset's columns, B values each.

        Returns:
            B rewards in the same order, on the reward's scale. What a failure gets, None among it, follows
            from the trainer.

        Raises:
            ConfigError: Lengths differ, or a column is missing.
            TemplateError: The judge's template does not take what the columns hold.
            EngineError: The engine failed as a whole.
            TooManyFailures: The share of failures passed the limit.
        """
        ranks = current_process_group() if self._gather else None
        logged = log_metric is not None
        rewards, report = self._reward(ranks, prompts, completions, completion_ids, columns, logged=logged)
        self._log(report, log_metric, log_extra)
        return rewards

    def __getstate__(self) -> dict[str, Any]:
        # The trainer stays where it is; what is known of it goes along.
        own = ("_counting", "_reports", "_facts")
        return {k: v for k, v in self.__dict__.items() if k not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._facts = None
        self._counting = threading.Lock()
        self._reports = ReportLog()

    def close(self) -> None:
        """Close the judge's engine."""
        self.judge.close()

    @property
    def trainer(self) -> Any:
        """The trainer that it is attached to; None without one, and when that is gone."""
        return None if self._facts is None else self._facts.trainer()

    def take_reports(self) -> list[CallReport]:
        """What the latest calls said about themselves; each report is given once.

        At most a thousand are kept, and the rows of the latest two thousand completions.
        """
        return self._reports.take()

    def _reward(
        self,
        ranks: ProcessGroup | None,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]] | None,
        columns: dict[str, Any],
        *,
        logged: bool,
    ) -> tuple[Rewards, CallReport]:
        began = time.monotonic()
        before = engine_stats(self.judge.built_engine) or EngineStats()

        def prepare() -> tuple[list[Item], list[int]]:
            items = self._items(prompts, completions, columns)
            ids = completion_ids if completion_ids is not None else [i.completion for i in items]
            return items, [len(i) for i in ids]

        parts = [prepare()] if ranks is None else ranks.run(prepare)
        rank = 0 if ranks is None else ranks.rank
        items = [item for part, _ in parts for item in part]
        lengths = [n for _, part in parts for n in part]
        start = sum(len(part) for part, _ in parts[:rank])
        mine = slice(start, start + len(parts[rank][0]))

        plan = make_plan(items, self.mode, self._schedule)
        verdicts = self._all_verdicts(plan, ranks)
        outcomes = plan.outcomes(verdicts)
        judged = [None if o.raw is None else self.scale.reward(o.raw) for o in outcomes]
        rewards, extra = self._filled(plan, judged, outcomes, mine)
        expected = self._facts.group_size() if self._facts is not None else None
        metrics = {
            **failure_metrics(outcomes),
            "incomplete_groups": float(n_incomplete(plan.groups, expected)),
            "flat_group_share": flat_share(plan.groups, judged),
            "length_correlation": length_correlation(lengths, outcomes),
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
                for item, outcome, reward in zip(items[mine], outcomes[mine], rewards, strict=True)
            ),
            metrics={name: value for name, value in metrics.items() if value is not None},
            logged=logged,
        )
        self._reports.add(report)
        with self._counting:
            self._limit.count(len(outcomes), failure_counts(outcomes))
        return rewards, report

    def _items(
        self, prompts: Sequence[Text], completions: Sequence[Text], columns: dict[str, Any]
    ) -> list[Item]:
        prompts = as_column("prompts", prompts)
        completions = as_column("completions", completions, len(prompts))
        further: dict[str, Sequence[Any]] = {}
        for field, column in self._columns.items():
            if column is None:
                continue
            values = columns.get(column)
            if values is None or isinstance(values, str) or len(values) != len(prompts):
                there = ", ".join(sorted(columns)) or "none"
                raise ConfigError(
                    f"the trainer gives no column {column!r} for {field}s: it gives {there}",
                    hint=f"name a column of the dataset as {field}_column, and keep it in the dataset",
                )
            further[field] = values
        items = []
        for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            name = f"prompts[{i}]"
            try:
                asked = prompt_text(prompt, self._reasoning)
                name = f"completions[{i}]"
                said = shown_completion(completion, shown=self._shown, thinking=self._reasoning)
                texts = {}
                for field, values in further.items():
                    name = f"{self._columns[field]}[{i}]"
                    texts[field] = _column_text(values[i], field, self._reasoning, self._shown)
            except ConfigError as error:
                raise ConfigError(f"{name}: {error.args[0]}", hint=error.hint) from None
            items.append(Item(prompt=asked, completion=said, **texts))
        return items

    def _all_verdicts(self, plan: Plan, ranks: ProcessGroup | None) -> list[JudgedRequest]:
        """The plan's verdicts; each rank judges its share of the requests."""
        if ranks is None:
            return self._verdicts(plan.requests)
        n = len(plan.requests)
        cuts = [n * r // ranks.size for r in range(ranks.size + 1)]
        own = plan.requests[cuts[ranks.rank] : cuts[ranks.rank + 1]]
        return [v for share in ranks.run(lambda: self._verdicts(own)) for v in share]

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
        ask: Callable[..., Sequence[Any]]
        ask = self.judge.rate_requests if self.mode == "rating" else self.judge.compare_requests
        return [judged_request(judgment) for judgment in ask(requests)]

    def _filled(
        self, plan: Plan, judged: Rewards, outcomes: Sequence[CompletionScore], mine: slice
    ) -> tuple[Rewards, dict[str, float]]:
        """This process's rewards, with something for every failure; and what there is to say about it."""
        failed = [o for o in outcomes if o.reason is not None and o.reason != ALONE]
        if self.fill == "raise" and failed:
            self._limit_at_once(failed, len(outcomes))
        if self.fill == "coin":
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

    def _limit_at_once(self, failed: Sequence[CompletionScore], n: int) -> None:
        reasons = ", ".join(sorted({str(o.reason) for o in failed}))
        raise TooManyFailures(
            f"{len(failed)} of {n} completions got no verdict ({reasons}), and on_failure is 'raise'"
        )

    def _cache_share(self, before: EngineStats) -> float | None:
        after = engine_stats(self.judge.built_engine)
        if after is None:
            return None
        cached, asked = after.n_cached - before.n_cached, after.n_asked - before.n_asked
        return EngineStats(n_cached=cached, n_asked=asked).cached_share

    def _log(
        self,
        report: CallReport,
        log_metric: Callable[[str, float], None] | None,
        log_extra: Callable[[str, list[Any]], None] | None,
    ) -> None:
        if log_metric is not None:
            for name, value in report.metrics.items():
                log_metric(f"{self.__name__}/{name}", value)
        if log_extra is not None:
            # At every call: a column that is logged now and then would stand beside other completions.
            log_extra(f"{self.__name__}/raw", [row.raw for row in report.rows])
            log_extra(f"{self.__name__}/failure", [row.reason for row in report.rows])
            if self.judge.settings.mode == "critique":
                log_extra(f"{self.__name__}/critique", [row.critique for row in report.rows])


def async_reward(reward: JudgeReward) -> Callable[..., Coroutine[Any, Any, Rewards]]:
    """The reward as a coroutine function, which GRPO and RLOO await together with other asynchronous ones.

    Synchronous functions run before, one after the other: only asynchronous ones overlap. Processes of a run
    do not judge together here, because no collective may run on the trainer's event loop; so a group's
    completions must all be on one process where they need each other.

    Args:
        reward: What is called, in a thread. `reward.attach(trainer)` works as ever.

    Returns:
        A coroutine function with the reward's name. It raises what the reward raises, and ConfigError where
        a pairwise group is split over processes.
    """

    async def judge(
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]] | None = None,
        *,
        trainer_state: Any = None,
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **columns: Any,
    ) -> Rewards:
        rewards, report = await asyncio.to_thread(
            reward._reward, None, prompts, completions, completion_ids, columns, logged=log_metric is not None
        )
        unsure = reward._facts is None or report.metrics["incomplete_groups"]
        if reward.mode == "pairwise" and _several_processes() and unsure:
            raise ConfigError(
                "a prompt's completions may be split over processes, and an asynchronous reward sees one's",
                hint="attach the reward; and make per_device_train_batch_size (times steps_per_generation) a "
                "multiple of num_generations, or give the trainer the JudgeReward itself",
            )
        reward._log(report, log_metric, log_extra)
        return rewards

    judge.__name__ = judge.__qualname__ = reward.__name__
    judge.reward = reward  # type: ignore[attr-defined]
    return judge


def _several_processes() -> bool:
    import os

    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _reward_scale(judge: Judge, mode: RewardMode, scale: Scale, resolution: float | None) -> RewardScale:
    protocol = judge.spec.rating if mode == "rating" else judge.spec.comparison
    if protocol is None:
        what = "rate" if mode == "rating" else "compare"
        raise ConfigError(f"judge {judge.spec.name!r} does not {what}, which mode={mode!r} needs")
    step = engine_resolution(judge, pairwise=mode == "pairwise") if resolution is None else resolution
    if mode == "pairwise":
        return RewardScale(0.0, 1.0, scale, step)
    ratings = [float(v) for v in protocol.verdicts.verdicts]
    return RewardScale(min(ratings), max(ratings), scale, step)


def _column_text(value: Any, field: str, reasoning: Reasoning, shown: Shown) -> str | None:
    """A column's value as text; a baseline is a completion like the others."""
    if field == "baseline":
        if value is None:
            raise ConfigError("a row has no baseline to compare completions with")
        return shown_completion(value, shown=shown, thinking=reasoning)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"a row's {field} is a {type(value).__name__}, not text")
    return value


def _may_change(reason: str | None, *, direct: bool) -> bool:
    if reason is None or reason == FailureReason.TOO_LONG:
        return False
    return not direct or reason == FailureReason.ENGINE


def _check_choice(name: str, value: str, kind: Any) -> None:
    if value not in get_args(kind):
        raise ConfigError(f"{name} = {value!r} is none of {', '.join(get_args(kind))}")
