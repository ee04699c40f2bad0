# SPDX-License-Identifier: Apache-2.0
"""A judge as a rubric of an OpenEnv environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openenv.core.rubrics import Rubric

from autoj_reward.integrations.required_reward import required
from autoj_reward.integrations.trl import JudgeReward
from autoj_reward.types import Text


class JudgeRubric(Rubric):  # type: ignore[misc, unused-ignore]
    """Scores an action with a judge.

    Args:
        reward: Judges. `JudgeReward("mini", scale="unit")` gives numbers in [0, 1], as rubrics do.
        read: Takes an action and an observation, and returns the prompt and the completion that the judge
            sees, each as text or messages. Actions have fields of their own in every environment.
        failure_reward: Score of a failed judgment; None raises.

    Example:
        >>> JudgeRubric(reward, lambda action, seen: (seen.question, action.answer))   # doctest: +SKIP
    """

    def __init__(
        self,
        reward: JudgeReward,
        read: Callable[[Any, Any], tuple[Text, Text]],
        *,
        failure_reward: float | None = None,
    ) -> None:
        super().__init__()
        self._reward = reward
        self._read = read
        self._failure_reward = failure_reward

    async def forward(self, action: Any, observation: Any) -> float:
        """Judge an action.

        Raises:
            NoVerdict: The judgment failed, and there is no `failure_reward`.
        """
        prompt, completion = self._read(action, observation)
        score: float = required(await self._reward.score(prompt, completion), self._failure_reward)
        return score
