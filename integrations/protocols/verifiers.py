# SPDX-License-Identifier: Apache-2.0
"""A judge for tasks of verifiers (`verifiers.v1`).

A plugin of verifiers is a module of its own, whose name is the judge's id:

    # my_judge.py; {id = "my_judge", model = "autoj-13b", options = {engine = "vllm-server"}}
    from autoj_reward.integrations.protocols.verifiers import RewardJudge
    __all__ = ["RewardJudge"]
"""

from __future__ import annotations

import functools
import json
from typing import Any

from verifiers.v1.configs.judge import JudgeConfig
from verifiers.v1.judge import Judge, JudgeView, judge_question, judge_response

from autoj_reward.errors import ConfigError
from autoj_reward.integrations.required_reward import required
from autoj_reward.integrations.trl import JudgeReward


class RewardJudgeConfig(JudgeConfig):  # type: ignore[misc, unused-ignore]
    """Settings of `RewardJudge`."""

    model: str = "mini"
    """Name or file of the judge, for `Judge.load`."""
    options: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    """Further arguments of `JudgeReward` and `Judge.load`."""
    question_field: str = ""
    """Task field with the question; empty for the task's prompt."""
    answer_field: str = ""
    """Task field with a reference answer, for a judge whose template takes one; empty for none."""
    view: JudgeView = "last_reply"
    """What the judge sees of a rollout."""


class RewardJudge(Judge[float, RewardJudgeConfig]):  # type: ignore[misc, unused-ignore]
    """Rates a rollout, in [0, 1] unless `options` names another `scale`."""

    async def score(self, task: Any, trace: Any) -> float:
        """Judge a rollout.

        Raises:
            NoVerdict: The judgment failed; verifiers then drops the rollout or tries it again.
            ConfigError: The task lacks a field, or a setting is wrong.
        """
        config = self.config
        columns = {}
        if config.answer_field:
            reference = getattr(task, config.answer_field, None)
            if reference is None:
                raise ConfigError(f"the task has no field {config.answer_field!r}", hint="set answer_field")
            columns["reference"] = str(reference)
        settings = {"scale": "unit", **config.options}
        if columns:
            settings["reference_column"] = "reference"
        reward = _reward(config.model, json.dumps(settings, sort_keys=True))
        question = judge_question(task, config.question_field)
        judged = await reward.score(question, judge_response(trace, config.view), **columns)
        score: float = required(judged, None)
        return score


@functools.lru_cache
def _reward(judge: str, settings: str) -> JudgeReward:
    """One reward for all rollouts: verifiers makes a judge for each."""
    return JudgeReward(judge, **json.loads(settings))


__all__ = ["RewardJudge", "RewardJudgeConfig"]
