# SPDX-License-Identifier: Apache-2.0
"""OpenEnv calls the rubric: alone, inside a weighted sum, and from an environment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("openenv.core", reason="needs OpenEnv: tests/protocols_env", exc_type=ImportError)

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from openenv.core.rubrics import WeightedSum

from autoj_reward import Judge, JudgeReward
from autoj_reward.integrations.protocols.openenv import JudgeRubric
from autoj_reward.integrations.required_reward import NoVerdict
from tests.quality import QualityEngine


class Answer(Action):
    text: str


class Question(Observation):
    question: str


def rubric(**options: Any) -> JudgeRubric:
    judge = Judge.load("mini", mode="direct", engine=QualityEngine())
    reward = JudgeReward(judge, scale="unit", resolution=0)
    return JudgeRubric(reward, lambda action, seen: (seen.question, action.text), **options)


def score(of: Any, text: str) -> float:
    return asyncio.run(of(Answer(text=text), Question(question="P")))


def test_an_action_is_judged() -> None:
    judged = rubric()
    assert score(judged, "q=7") == pytest.approx(6 / 9)
    assert judged.last_score == pytest.approx(6 / 9)
    assert score(WeightedSum([rubric(), rubric()], [0.25, 0.75]), "q=4") == pytest.approx(3 / 9)


def test_a_failure_raises_or_is_the_score_that_was_chosen() -> None:
    with pytest.raises(NoVerdict):
        score(rubric(), "mumble")
    assert score(rubric(failure_reward=0.5), "mumble") == 0.5


class Quiz(Environment[Answer, Question, State]):
    def reset(self, seed: Any = None, episode_id: Any = None, **_: Any) -> Question:
        return Question(question="P")

    def step(self, action: Answer, timeout_s: Any = None, **_: Any) -> Question:
        raise NotImplementedError

    async def step_async(self, action: Answer, timeout_s: Any = None, **_: Any) -> Question:
        seen = Question(question="P", done=True)
        seen.reward = await self._apply_rubric_async(action, seen)
        return seen

    @property
    def state(self) -> State:
        return State()


def test_an_environment_takes_its_reward_from_the_rubric() -> None:
    environment = Quiz(rubric=rubric())
    assert asyncio.run(environment.step_async(Answer(text="q=10"))).reward == pytest.approx(1.0)
