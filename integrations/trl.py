# SPDX-License-Identifier: Apache-2.0
"""Reward functions for TRL's trainers.

`judge_reward` is a reward with settings from the environment, for `trl grpo --reward_funcs
autoj_reward.integrations.trl.judge_reward`; see `trl_settings.reward_from_environment`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from autoj_reward.budget import Budget
from autoj_reward.errors import ConfigError
from autoj_reward.integrations.distributed import current_process_group
from autoj_reward.integrations.trl_failures import OnFailure, Trainer, choose_fill
from autoj_reward.integrations.trl_trainer import TrainerInfo, trainer_info, trl_version
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.text import Reasoning
from autoj_reward.reward.items import Shown
from autoj_reward.reward.metrics import CallReport
from autoj_reward.reward.plan import RewardMode, Schedule
from autoj_reward.reward.reward import BatchReward, Rewards
from autoj_reward.reward.scale import Scale
from autoj_reward.types import Mode, Text

Thinking = Literal["strip", "strip_opened", "judge", "keep"]
"""`Reasoning`; judge is the former name of keep."""


class JudgeReward(BatchReward):
    """A judge as a reward function for TRL's trainers.

    Pass it to a trainer in `reward_funcs`, then call `attach(trainer)`, or name the trainer with `trainer`
    and `n_rewards`. The right reward for a failed judgment depends on the trainer; without one it is the mean
    of the completion's group. GRPOTrainer and RLOOTrainer attach it by themselves at their first call.

    It is picklable and thread-safe. No model is loaded before the first call. In a distributed run every
    process must call it at the same point: completions are gathered, each request is judged once, and an
    error on one process is raised on all.

    Args:
        judge: A judge, or a name for `Judge.load`.
        mode: rating: each completion by itself. pairwise: its win probability against the other completions
            of its prompt.
        scale: raw: the judge's ratings (1 to 10), or the win probability. unit: in [0, 1]. centred: in
            [-1, 1].
        on_failure: Reward of a failed judgment. auto: what fits the trainer; or none, group_mean, hash,
            running_mean or raise, see `Fill`.
        resolution: Step to which ratings or win probabilities are rounded, in their own units; 0 for none.
            None is the measured noise of the engine's dtype.
        trainer: grpo, rloo, online_dpo, async_grpo or ppo, instead of `attach`.
        n_rewards: Number of reward functions that the trainer sums up, instead of `attach`.
        schedule: Which pairs mode pairwise compares: ring, all or baseline.
        baseline_column: Dataset column with the completion to compare with, for the schedule baseline.
        rubric_column: Dataset column of rubrics, for a judge whose template takes one.
        reference_column: Dataset column of reference answers, likewise.
        language_column: Dataset column of language codes, for a judge with templates in several languages.
        shown: What the judge sees of a multi-message completion: transcript (all messages, tool calls and
            results included) or last (the last assistant turn).
        reasoning: What to do with the policy's reasoning: strip, strip_opened or keep (see `Judge.load`).
            None takes the judge's own setting.
        thinking: Former name of `reasoning`; its value judge means keep.
        n_retries: How often failed requests are judged again. Inputs that are too long are not retried, and
            direct readings only after an engine failure, because they would read the same again.
        max_failures: Largest share of failures among recent completions, in [0, 1].
        gather: Whether the processes of a run judge together. False for calls that only this process makes.
        budget: The most that this process may spend on judging, in tokens, seconds or money; then the next
            call raises BudgetSpent, and `budget_used_share` is logged until then. Checkpoints and cached
            answers are kept.
        name: The metric's name; None is `judge_rating` or `judge_pairwise`.
        judge_mode: direct or critique, for a judge given by name; None is the judge's default.
        **judge_options: Options of `Judge.load`, for a judge given by name. It has a guard unless
            `guard=False`.

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
        budget: Budget | None = None,
        name: str | None = None,
        judge_mode: Mode | None = None,
        **judge_options: Any,
    ) -> None:
        if reasoning is not None and thinking is not None:
            raise ConfigError("thinking is the former name of reasoning; give one of them")
        if thinking is not None:
            if thinking not in get_args(Thinking):
                raise ConfigError(f"thinking = {thinking!r} must be one of {', '.join(get_args(Thinking))}")
            reasoning = "keep" if thinking == "judge" else thinking
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
            budget=budget,
        )
        self.__name__ = name or f"judge_{mode}"
        self._on_failure: OnFailure = "hash" if on_failure == "coin" else on_failure
        self._trainer = trainer
        self._gather = gather
        self._facts: TrainerInfo | None = None

    def attach(self, trainer: Any) -> Self:
        """Read from a trainer how it handles failures and how large its groups are.

        Args:
            trainer: A trainer that has this reward, or `async_reward` of it, among its reward functions.

        Returns:
            This reward.

        Raises:
            ConfigError: The trainer does not take such a reward, or `on_failure` does not fit it.
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
            completion_ids: B lists of tokens, for the correlation with length.
            trainer_state: Not used.
            log_metric: Called with each metric of the call.
            log_extra: Called with raw values, failures and critiques, one column each.
            **columns: The dataset's columns, B values each.

        Returns:
            B rewards in the same order, on the reward's scale. The trainer decides what a failure gets; it
            may be None.

        Raises:
            ConfigError: Lengths differ, or a column is missing.
            TemplateError: The judge's template does not take what the columns hold.
            EngineError: The engine failed as a whole.
            TooManyFailures: The share of failures passed the limit.
        """
        self._attach_to_caller(log_metric)
        rewards, report = self.score_batch(
            prompts,
            completions,
            columns,
            completion_ids=completion_ids,
            group_size=self._group_size(),
            ranks=current_process_group() if self._gather else None,
            logged=log_metric is not None,
        )
        self._log(report, log_metric, log_extra)
        return rewards

    async def score(self, prompt: Text, completion: Text, **columns: Any) -> float | None:
        """Judge one completion, for environments that own their reward.

        It runs in a thread of its own, so that other completions are judged at the same time.

        Args:
            prompt: Text or messages.
            completion: Likewise.
            **columns: The row's values of the columns that the reward reads.

        Returns:
            The reward; None for a failed judgment, unless `on_failure` gives it a number.

        Raises:
            ConfigError: The reward compares the completions of a prompt with each other, or a column is
                missing.
            TemplateError: The judge's template does not take what the columns hold.
            EngineError: The engine failed as a whole.
            TooManyFailures: The share of failures passed the limit.
        """
        if self.mode == "pairwise" and self._schedule != "baseline":
            raise ConfigError(
                f"score judges one completion, and schedule = {self._schedule!r} compares those of a prompt",
                hint="mode='rating', or schedule='baseline' with a baseline_column",
            )
        rows = {name: [value] for name, value in columns.items()}
        rewards, _ = await asyncio.to_thread(self.score_batch, [prompt], [completion], rows)
        return rewards[0]

    def __getstate__(self) -> dict[str, Any]:
        # `fill`, which follows from the trainer, is kept.
        return {**super().__getstate__(), "_facts": None}

    @property
    def trainer(self) -> Any:
        """The attached trainer; None without one, and after it was deleted."""
        return None if self._facts is None else self._facts.trainer()

    def _attach_to_caller(self, log_metric: Callable[[str, float], None] | None) -> None:
        """Attach to the trainer that `log_metric` is a method of, unless the user named one or a fill."""
        trainer = getattr(log_metric, "__self__", None)
        if (
            self._facts is None
            and self._on_failure == "auto"
            and self._trainer is None
            and trainer is not None
        ):
            # A trainer that calls the reward through another function is not attached.
            with contextlib.suppress(ConfigError):
                self.attach(trainer)

    def _group_size(self) -> int | None:
        return None if self._facts is None else self._facts.group_size()

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
            # At every call: TRL pairs the values of a column with the completions by position.
            log_extra(f"{self.__name__}/raw", [row.raw for row in report.rows])
            log_extra(f"{self.__name__}/failure", [row.reason for row in report.rows])
            if self.judge.settings.mode == "critique":
                log_extra(f"{self.__name__}/critique", [row.critique for row in report.rows])


class AsyncReward:
    """A `JudgeReward` as a coroutine function; see `async_reward`.

    Attributes:
        reward: The reward.
    """

    def __init__(self, reward: JudgeReward) -> None:
        self.reward = reward
        self.__name__ = self.__qualname__ = reward.__name__

    async def __call__(
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
        """Judge completions, as `JudgeReward` does, in a thread."""
        reward = self.reward
        reward._attach_to_caller(log_metric)
        rewards, report = await asyncio.to_thread(
            reward.score_batch,
            prompts,
            completions,
            columns,
            completion_ids=completion_ids,
            group_size=reward._group_size(),
            logged=log_metric is not None,
        )
        unsure = reward._facts is None or report.metrics["incomplete_groups"]
        if reward.mode == "pairwise" and unsure and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ConfigError(
                "completions of a prompt may be split over processes, and an asynchronous reward does not "
                "gather them",
                hint="attach the reward; and make per_device_train_batch_size (times steps_per_generation) a "
                "multiple of num_generations, or give the trainer the JudgeReward itself",
            )
        reward._log(report, log_metric, log_extra)
        return rewards

    # With these, inspect.iscoroutinefunction takes the object for a function. TRL 1.12 asks it.
    __code__ = __call__.__code__
    __defaults__ = __call__.__defaults__
    __kwdefaults__ = __call__.__kwdefaults__


def async_reward(reward: JudgeReward) -> AsyncReward:
    """Make a coroutine function of a reward, which GRPO and RLOO run concurrently with other such functions.

    It is picklable, so that AsyncGRPO can send it to its worker. Each process judges alone, because
    collectives cannot run on the trainer's event loop. In pairwise mode all completions of a prompt must
    therefore be on one process.

    Args:
        reward: Called in a thread. `reward.attach(trainer)` works as usual.

    Returns:
        A callable with the reward's name. It raises what the reward raises, and ConfigError if processes may
        share a pairwise group.
    """
    return AsyncReward(reward)


if TYPE_CHECKING:
    judge_reward: JudgeReward
    """The reward that the environment describes; see `trl_settings.reward_from_environment`."""
else:

    def __getattr__(name: str) -> JudgeReward:
        if name != "judge_reward":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from autoj_reward.integrations.trl_settings import reward_from_environment

        globals()[name] = reward_from_environment()
        return globals()[name]
