# SPDX-License-Identifier: Apache-2.0
"""A resources server for NeMo-Gym: `/verify` rates a rollout, and `/compare` those of a prompt together.

# app.py
from autoj_reward.integrations.protocols.nemo_gym import JudgeResourcesServer
if __name__ == "__main__":
    JudgeResourcesServer.run_webserver()
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from fastapi import FastAPI
from nemo_gym.base_resources_server import (
    BaseResourcesServerConfig,
    BaseVerifyRequest,
    BaseVerifyResponse,
    SimpleResourcesServer,
)
from pydantic import BaseModel, ConfigDict

from autoj_reward.integrations.trl import JudgeReward

FAILED = {"_ng_failure_class": "judge_failed", "mask_sample": True}
"""Fields of an answer without a verdict. NeMo-Gym keeps such rollouts out of its results and tries again."""


class JudgeServerConfig(BaseResourcesServerConfig):  # type: ignore[misc, unused-ignore]
    """Settings of the server."""

    judge: str = "mini"
    """Name or file of the judge, for `Judge.load`."""
    options: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    """Further arguments of `JudgeReward` and `Judge.load`."""


class JudgeVerifyRequest(BaseVerifyRequest):  # type: ignore[misc, unused-ignore]
    """A rollout; its further fields are the columns that the reward reads."""

    model_config = ConfigDict(extra="allow")


class JudgeVerifyResponse(BaseVerifyResponse):  # type: ignore[misc, unused-ignore]
    """The rollout with its reward; with `FAILED` if the judgment failed."""

    model_config = ConfigDict(extra="allow")


class CompareRequest(BaseModel):
    """Rollouts of one prompt, as NeMo-Gym's `genrm_compare` takes them; `principle` is the rubric."""

    conversation_history: list[dict[str, Any]]
    response_objs: list[dict[str, Any]]
    principle: str | None = None


class CompareResponse(BaseModel):
    """One reward for each rollout; a failed one has the mean of the others."""

    rewards: list[float | None]
    metrics: dict[str, float] | None = None


class JudgeResourcesServer(SimpleResourcesServer):  # type: ignore[misc, unused-ignore]
    """Rewards of a judge, as a resources server."""

    config: JudgeServerConfig

    def setup_webserver(self) -> FastAPI:
        """Add `/compare` to the routes."""
        app: FastAPI = super().setup_webserver()
        app.post("/compare")(self.compare)
        return app

    async def verify(self, body: JudgeVerifyRequest) -> JudgeVerifyResponse:
        """Rate a rollout; see `JudgeReward.score`."""
        sent = body.model_dump()
        asked = sent["responses_create_params"]["input"]
        reward = await self._rating.score(asked, sent["response"]["output"], **(body.model_extra or {}))
        failed = FAILED if reward is None else {}
        verified: JudgeVerifyResponse = JudgeVerifyResponse.model_validate(
            {**sent, "reward": reward or 0.0, **failed}
        )
        return verified

    async def compare(self, body: CompareRequest) -> CompareResponse:
        """Reward each rollout by its win probability against the others."""
        n = len(body.response_objs)
        rewards, report = await asyncio.to_thread(
            (self._pairwise if body.principle is None else self._with_principle).score_batch,
            [body.conversation_history] * n,
            [response["output"] for response in body.response_objs],
            {"principle": [body.principle] * n},
        )
        return CompareResponse(rewards=rewards, metrics=dict(report.metrics))

    @functools.cached_property
    def _rating(self) -> JudgeReward:
        return JudgeReward(self.config.judge, **self.config.options)

    @functools.cached_property
    def _pairwise(self) -> JudgeReward:
        return JudgeReward(self.config.judge, mode="pairwise", **self.config.options)

    @functools.cached_property
    def _with_principle(self) -> JudgeReward:
        return JudgeReward(
            self.config.judge, mode="pairwise", rubric_column="principle", **self.config.options
        )
