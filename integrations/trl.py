# SPDX-License-Identifier: Apache-2.0
"""Reward functions for TRL's trainers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Self, get_args

from autoj_reward.errors import ConfigError
from autoj_reward.integrations.distributed import ProcessGroup, current_process_group
from autoj_reward.integrations.trl_failures import OnFailure, Trainer, choose_fill
from autoj_reward.integrations.trl_trainer import TrainerInfo, trainer_info, trl_version
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.text import Reasoning
from autoj_reward.reward.completions import Shown, Thinking, reasoning_of
from autoj_reward.reward.metrics import CallReport
from autoj_reward.reward.plan import RewardMode, Schedule
from autoj_reward.reward.reward import BatchReward, Rewards
from autoj_reward.reward.scale import Scale
from autoj_reward.types import Mode, Text


class JudgeReward(BatchReward):
    """A judge as one reward function, right in every trainer of TRL.

    Give it to a trainer among its `reward_funcs`, and tell it which trainer that is: `attach(trainer)`, or
    the arguments `trainer` and `n_rewards`. What a failed judgment does to training depends on that; without
    it, a failure gets the mean of its group.

    It can be pickled and called from threads. No model is loaded before the first call. In a run of several
    processes every process must call it alike: completions are gathered, each request is judged once, and
    an error on one process is raised on all.

    Args:
        judge: A judge, or a name for `Judge.load`.
        mode: rating: each completion by itself. pairwise: its chance to win against the others of
            its prompt.
        scale: raw: the judge's ratings (1 to 10), or the win probability. unit: in [0, 1]. centred: in
            [-1, 1].
        on_failure: auto: what fits the trainer; or none, group_mean, hash, running_mean or raise, see `Fill`.
        resolution: Step to which ratings, or win probabilities, are rounded, in their own units; 0 for none.
            None is the measured noise of the engine's dtype.
        trainer: grpo, rloo, online_dpo, async_grpo or ppo, where `attach` is not used.
        n_rewards: How many reward functions the trainer sums up, where `attach` is not used.
        schedule: For pairwise: ring, all or baseline.
        baseline_column: The dataset's column with the completions that all are compared with (baseline).
        rubric_column: The dataset's column of rubrics, for a judge whose template takes one.
        reference_column: The dataset's column of reference answers, for such a judge.
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
        if reasoning is not None and thinking is not None:
            raise ConfigError("thinking is the former name of reasoning; give one of them")
        if thinking is not None:
            if thinking not in get_args(Thinking):
                raise ConfigError(f"thinking = {thinking!r} is none of {', '.join(get_args(Thinking))}")
            reasoning = reasoning_of(thinking)
        if isinstance(judge, str):
            own = {"guard": True} if reasoning is None else {"guard": True, "reasoning": reasoning}
            judge = Judge.load(judge, mode=judge_mode, **{**own, **judge_options})
        elif judge_mode is not None or judge_options:
            raise ConfigError(
                f"{sorted({'judge_mode', *judge_options})} are for a judge given by name",
                hint="give them to Judge.load",
            )
        super().__init__(
            judge,
            mode=mode,
            scale=scale,
            resolution=resolution,
            fill=choose_fill(on_failure, trainer, n_rewards=n_rewards, trl_version=trl_version()),
            schedule=schedule,
            columns={
                "baseline": baseline_column,
                "rubric": rubric_column,
                "reference": reference_column,
                "language": language_column,
            },
            shown=shown,
            reasoning=reasoning,
            n_retries=n_retries,
            max_failures=max_failures,
        )
        self.__name__ = name or f"judge_{mode}"
        self._on_failure: OnFailure = "hash" if on_failure == "coin" else on_failure
        self._gather = gather
        self._facts: TrainerInfo | None = None

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
        self._facts = facts
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
        rewards, report = self._score(
            ranks, prompts, completions, completion_ids, columns, logged=log_metric is not None
        )
        self._log(report, log_metric, log_extra)
        return rewards

    def __getstate__(self) -> dict[str, Any]:
        # The trainer stays where it is; what follows from it is kept.
        return {**super().__getstate__(), "_facts": None}

    @property
    def trainer(self) -> Any:
        """The trainer that it is attached to; None without one, and when that is gone."""
        return None if self._facts is None else self._facts.trainer()

    def _score(
        self,
        ranks: ProcessGroup | None,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]] | None,
        columns: Mapping[str, Any],
        *,
        logged: bool,
    ) -> tuple[Rewards, CallReport]:
        return self.score(
            prompts,
            completions,
            columns,
            completion_ids=completion_ids,
            group_size=None if self._facts is None else self._facts.group_size(),
            ranks=ranks,
            logged=logged,
        )

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
            # At every call: a column that is logged now and then would be beside other completions.
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
            reward._score, None, prompts, completions, completion_ids, columns, logged=log_metric is not None
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
    return int(os.environ.get("WORLD_SIZE", "1")) > 1
