# SPDX-License-Identifier: Apache-2.0
"""Custom reward functions for verl, backed by the reward server.

verl calls `compute_score(data_source=, solution_str=, ground_truth=, extra_info=, **more)` for one sample at
a time, a coroutine function on its event loop and any other function in threads. `more` holds the
`reward_kwargs` of its configuration and, by version, a router's address, a tokenizer, `strict_box_verify`.
The server merges what many samples ask for.

    # my_reward.py; custom_reward_function.path=my_reward.py custom_reward_function.name=compute_score
    from autoj_reward.integrations.verl import async_compute_score
    compute_score = async_compute_score("http://judge:8000", prompt_field="question")
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.integrations.client import JudgeClient
from autoj_reward.integrations.required_reward import number
from autoj_reward.judge.messages.chat_markup import answer_of
from autoj_reward.reward.scale import Scale, check_scale

Score = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    client: JudgeClient
    prompt_field: str
    scale: Scale
    resolution: float | None
    ground_truth_as_reference: bool
    failure_reward: float | None
    end_tokens: tuple[str, ...]

    def row(self, solution_str: str, ground_truth: Any, extra_info: Any) -> dict[str, Any]:
        """The row to rate."""
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

    def score(self, row: dict[str, Any]) -> Score:
        """What verl logs: the same numbers for every sample, because it stacks them."""
        return {"score": number(row, self.failure_reward), "judge_failed": float(row["failure"] is not None)}


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
    """A `compute_score` for verl that waits in the thread it is called in.

    Args:
        judge: The server's address, or a client. With an address, the token is `$AUTOJ_REWARD_TOKEN`.
        prompt_field: Where `extra_info` keeps the prompt, as text or as chat messages. verl gives reward
            functions no prompt, and its own recipe for GSM8K stores it as `question`.
        scale: raw, unit or centred, as `JudgeReward`'s.
        resolution: Step to which ratings are rounded, in their own units; 0 for none, None for the noise of
            the server's engine.
        ground_truth_as_reference: Show `ground_truth` to the judge, whose template has to take a reference.
        failure_reward: The reward of a completion without a verdict; None raises, and the run stops.
        end_tokens: Special tokens of the policy to take off, besides the usual ones.

    Returns:
        A function that can be pickled. It takes verl's keyword arguments, whatever comes with them, and
        returns `score` and `judge_failed`, 0.0 or 1.0.

    Raises:
        ConfigError: The address or the scale is none.
    """
    settings = _settings(
        judge,
        prompt_field=prompt_field,
        scale=scale,
        resolution=resolution,
        ground_truth_as_reference=ground_truth_as_reference,
        failure_reward=failure_reward,
        end_tokens=end_tokens,
    )
    return _named(functools.partial(_compute_score, settings))


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
    """`compute_score` as a coroutine function: hundreds of samples wait without a thread each.

    `inspect.iscoroutinefunction`, which verl asks, says so, and it can be pickled all the same.
    """
    settings = _settings(
        judge,
        prompt_field=prompt_field,
        scale=scale,
        resolution=resolution,
        ground_truth_as_reference=ground_truth_as_reference,
        failure_reward=failure_reward,
        end_tokens=end_tokens,
    )
    return _named(functools.partial(_compute_score_async, settings))


def _compute_score(
    settings: _Settings,
    data_source: Any = None,
    solution_str: str = "",
    ground_truth: Any = None,
    extra_info: Any = None,
    **_: Any,
) -> Score:
    row = settings.row(solution_str, ground_truth, extra_info)
    judged = settings.client.rate([row], scale=settings.scale, resolution=settings.resolution)
    return settings.score(judged[0])


async def _compute_score_async(
    settings: _Settings,
    data_source: Any = None,
    solution_str: str = "",
    ground_truth: Any = None,
    extra_info: Any = None,
    **_: Any,
) -> Score:
    row = settings.row(solution_str, ground_truth, extra_info)
    judged = await settings.client.rate_async([row], scale=settings.scale, resolution=settings.resolution)
    return settings.score(judged[0])


def _settings(judge: str | JudgeClient, *, end_tokens: Sequence[str], **options: Any) -> _Settings:
    return _Settings(
        client=JudgeClient(judge) if isinstance(judge, str) else judge,
        end_tokens=tuple(end_tokens),
        **{**options, "scale": check_scale(options["scale"])},
    )


def _named(function: functools.partial[Any]) -> functools.partial[Any]:
    function.__name__ = "compute_score"  # type: ignore[attr-defined]
    return function


def _plain(value: Any) -> Any:
    """Parquet's lists come as numpy arrays, also within chat messages."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
