# SPDX-License-Identifier: Apache-2.0
"""Custom reward functions for verl, backed by the reward server or by the judge that verl hosts.

verl calls `compute_score(data_source=, solution_str=, ground_truth=, extra_info=, **more)` for one sample at
a time: coroutine functions on its event loop, other functions in threads. `more` holds the `reward_kwargs` of
its configuration and arguments that differ between versions. The server batches the samples.

    # my_reward.py; custom_reward_function.path=my_reward.py custom_reward_function.name=compute_score
    from autoj_reward.integrations.verl import async_compute_score
    compute_score = async_compute_score("http://judge:8100", prompt_field="question")

With `reward.reward_model.enable=True`, verl serves `reward.reward_model.model_path` itself, and passes its
address and tokenizer to the function; `hosted_compute_score` and `async_hosted_compute_score` ask that one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.integrations.client import JudgeClient
from autoj_reward.integrations.required_reward import number
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.chat_markup import answer_of
from autoj_reward.reward.reward import BatchReward
from autoj_reward.reward.scale import Scale, check_scale

Score = dict[str, float]


@dataclass(slots=True, kw_only=True)
class _Samples:
    """Reads verl's samples, and makes what it logs."""

    prompt_field: str
    scale: Scale
    resolution: float | None
    ground_truth_as_reference: bool
    failure_reward: float | None
    end_tokens: tuple[str, ...]

    def row(self, solution_str: str, ground_truth: Any, extra_info: Any) -> dict[str, Any]:
        info = extra_info if isinstance(extra_info, dict) else {}
        prompt = _plain(info.get(self.prompt_field))
        if not prompt:
            raise ConfigError(
                f"extra_info has no {self.prompt_field!r}; it has {', '.join(map(repr, info)) or 'nothing'}",
                hint="verl does not pass prompts on: put them in extra_info when the data is prepared, and "
                "name the field with prompt_field=",
            )
        row = {"prompt": prompt, "completion": answer_of(solution_str, self.end_tokens)}
        if self.ground_truth_as_reference and ground_truth is not None:
            row["reference"] = str(ground_truth)
        return row

    def score(self, row: Mapping[str, Any]) -> Score:
        # The same keys for every sample, because verl stacks them.
        return {"score": number(row, self.failure_reward), "judge_failed": float(row["failure"] is not None)}


@dataclass(slots=True, kw_only=True)
class _Scorer(_Samples):
    client: JudgeClient

    def compute_score(
        self,
        data_source: Any = None,
        solution_str: str = "",
        ground_truth: Any = None,
        extra_info: Any = None,
        **_: Any,
    ) -> Score:
        row = self.row(solution_str, ground_truth, extra_info)
        return self.score(self.client.rate([row], scale=self.scale, resolution=self.resolution)[0])


class _AsyncScorer(_Scorer):
    async def compute_score(  # type: ignore[override]
        self,
        data_source: Any = None,
        solution_str: str = "",
        ground_truth: Any = None,
        extra_info: Any = None,
        **_: Any,
    ) -> Score:
        row = self.row(solution_str, ground_truth, extra_info)
        judged = await self.client.rate_async([row], scale=self.scale, resolution=self.resolution)
        return self.score(judged[0])


_making = threading.Lock()


@dataclass(slots=True, kw_only=True)
class _HostedScorer(_Samples):
    judge: str
    options: dict[str, Any]
    rewards: dict[str, BatchReward] = field(default_factory=dict)

    def compute_score(
        self,
        data_source: Any = None,
        solution_str: str = "",
        ground_truth: Any = None,
        extra_info: Any = None,
        *,
        reward_router_address: str | None = None,
        reward_model_tokenizer: Any = None,
        **_: Any,
    ) -> Score:
        row = self.row(solution_str, ground_truth, extra_info)
        reward = self.reward(reward_router_address, reward_model_tokenizer)
        columns = {"reference": [row.get("reference")]}
        report = reward.score_batch([row["prompt"]], [row["completion"]], columns)[1]
        judged = report.rows[0]
        failure = None if judged.reason is None else {"reason": judged.reason}
        return self.score({"reward": judged.reward, "failure": failure})

    async def compute_score_async(self, *args: Any, **more: Any) -> Score:
        return await asyncio.to_thread(self.compute_score, *args, **more)

    def reward(self, address: str | None, tokenizer: Any) -> BatchReward:
        if address is None:
            raise ConfigError(
                "verl passes no reward_router_address, so it hosts no judge",
                hint="reward.reward_model.enable=True and reward.reward_model.model_path=JUDGE; or "
                "compute_score(URL) for a reward server",
            )
        with _making:
            if address not in self.rewards:
                # The folder that verl has the judge in, where its name on the hub may be out of reach.
                folder = getattr(tokenizer, "name_or_path", None)
                judge = Judge.load(
                    self.judge,
                    engine=f"server:http://{address}",
                    **{"guard": True, **({"tokenizer": folder} if folder else {}), **self.options},
                )
                self.rewards[address] = BatchReward(
                    judge,
                    scale=self.scale,
                    resolution=self.resolution,
                    fill="none",
                    columns={"reference": "reference" if self.ground_truth_as_reference else None},
                    max_failures=1.0,
                )
            return self.rewards[address]


def compute_score(
    judge: str | JudgeClient,
    *,
    prompt_field: str = "question",
    scale: Scale = "centred",
    resolution: float | None = None,
    ground_truth_as_reference: bool = False,
    failure_reward: float | None = None,
    end_tokens: Sequence[str] = (),
) -> Callable[..., Score]:
    """Make a `compute_score` function for verl, which blocks the thread that calls it.

    Args:
        judge: The server's URL, or a client. With a URL, the token is `$AUTOJ_REWARD_TOKEN`.
        prompt_field: Field of `extra_info` with the prompt, as text or as chat messages. verl does not pass
            prompts to reward functions; its own GSM8K recipe stores them as `question`.
        scale: raw, unit or centred, as `JudgeReward`'s.
        resolution: Step to which ratings are rounded, in their own units; 0 for none, None for the noise of
            the server's engine.
        ground_truth_as_reference: Show `ground_truth` to the judge, whose template must take a reference.
        failure_reward: Reward of a failed judgment; None raises, which leaves the completion out or stops
            the run, by the trainer. NaN is for `verl_advantage`, which masks the completion's group.
        end_tokens: Special tokens to remove from the end of completions, besides the usual ones.

    Returns:
        A picklable function. It takes verl's keyword arguments, ignores unknown ones, and returns `score` and
        `judge_failed` (0.0 or 1.0).

    Raises:
        ConfigError: The URL or the scale is wrong.
    """
    return _Scorer(
        client=JudgeClient(judge) if isinstance(judge, str) else judge,
        prompt_field=prompt_field,
        scale=check_scale(scale),
        resolution=resolution,
        ground_truth_as_reference=ground_truth_as_reference,
        failure_reward=failure_reward,
        end_tokens=tuple(end_tokens),
    ).compute_score


def async_compute_score(
    judge: str | JudgeClient,
    *,
    prompt_field: str = "question",
    scale: Scale = "centred",
    resolution: float | None = None,
    ground_truth_as_reference: bool = False,
    failure_reward: float | None = None,
    end_tokens: Sequence[str] = (),
) -> Callable[..., Awaitable[Score]]:
    """`compute_score` as a coroutine function, so that hundreds of samples wait without a thread each."""
    return _AsyncScorer(
        client=JudgeClient(judge) if isinstance(judge, str) else judge,
        prompt_field=prompt_field,
        scale=check_scale(scale),
        resolution=resolution,
        ground_truth_as_reference=ground_truth_as_reference,
        failure_reward=failure_reward,
        end_tokens=tuple(end_tokens),
    ).compute_score


def hosted_compute_score(
    judge: str,
    *,
    prompt_field: str = "question",
    scale: Scale = "centred",
    resolution: float | None = None,
    ground_truth_as_reference: bool = False,
    failure_reward: float | None = None,
    end_tokens: Sequence[str] = (),
    **judge_options: Any,
) -> Callable[..., Score]:
    """Make a `compute_score` function that asks the judge that verl hosts.

    Args:
        judge: Name or file of the judge, for `Judge.load`. Its model is the one that verl serves.
        prompt_field: This and what follows as for `compute_score`.
        scale: Likewise.
        resolution: Likewise; None is the noise of an engine of unknown dtype.
        ground_truth_as_reference: Likewise.
        failure_reward: Likewise.
        end_tokens: Likewise.
        **judge_options: Options of `Judge.load` and of the engine `server` (`mode`, `concurrency`, ...). The
            judge has a guard unless `guard=False`.

    Returns:
        A picklable function, as `compute_score`'s. It raises ConfigError if verl hosts no judge.

    Raises:
        ConfigError: The scale is wrong.
    """
    return _HostedScorer(
        judge=judge,
        options=judge_options,
        prompt_field=prompt_field,
        scale=check_scale(scale),
        resolution=resolution,
        ground_truth_as_reference=ground_truth_as_reference,
        failure_reward=failure_reward,
        end_tokens=tuple(end_tokens),
    ).compute_score


def async_hosted_compute_score(
    judge: str,
    *,
    prompt_field: str = "question",
    scale: Scale = "centred",
    resolution: float | None = None,
    ground_truth_as_reference: bool = False,
    failure_reward: float | None = None,
    end_tokens: Sequence[str] = (),
    **judge_options: Any,
) -> Callable[..., Awaitable[Score]]:
    """`hosted_compute_score` as a coroutine function, which waits in a thread."""
    return _HostedScorer(
        judge=judge,
        options=judge_options,
        prompt_field=prompt_field,
        scale=check_scale(scale),
        resolution=resolution,
        ground_truth_as_reference=ground_truth_as_reference,
        failure_reward=failure_reward,
        end_tokens=tuple(end_tokens),
    ).compute_score_async


def _plain(value: Any) -> Any:
    """A value without numpy arrays, which Parquet's lists are read as, also within chat messages."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
