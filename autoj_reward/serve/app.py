# SPDX-License-Identifier: Apache-2.0
"""HTTP routes of the reward server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import autoj_reward
from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judging import judgment_record
from autoj_reward.judgments import Judgment
from autoj_reward.ranking.rank import rank_judged
from autoj_reward.reward.resolution import engine_resolution, reward_scale
from autoj_reward.reward.scale import RewardScale, Scale
from autoj_reward.rows.tasks import ranking_fields
from autoj_reward.serve.auth import TokenGuard
from autoj_reward.serve.decisions import DecisionBody, decision_answer, decision_inputs
from autoj_reward.serve.docs_page import docs_page
from autoj_reward.serve.errors import Refusal, json_response
from autoj_reward.serve.limits import BodyLimit, HostCheck
from autoj_reward.serve.metrics import Metrics
from autoj_reward.serve.openrlhf import reward_answer, reward_requests
from autoj_reward.serve.schema import (
    CompareBody,
    RankBody,
    RateBody,
    RemoteRmBody,
    RewardAnswer,
    RewardBody,
    invalid,
    requests_of,
)
from autoj_reward.serve.service import RewardService
from autoj_reward.serve.settings import ServeSettings
from autoj_reward.serve.slime import remote_rm_request

logger = logging.getLogger("autoj_reward")

_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "No token, or a wrong one."},
    408: {"description": "The body did not arrive in time."},
    413: {"description": "The body is too long, or holds too many completions."},
    415: {"description": "The body is compressed, or is not sent as application/json."},
    421: {"description": "The request names another host than this server."},
    422: {"description": "The body is wrong; `error.where` names the place."},
    429: {"description": "The queue is full; retry after `Retry-After` seconds."},
    502: {"description": "The judge's engine failed."},
    503: {"description": "The judge is loading or shutting down, or its engine does not answer."},
    504: {"description": "The deadline passed."},
}


def make_app(
    judge: Judge,
    settings: ServeSettings,
    *,
    on_ready: Callable[[], None] = lambda: None,
    on_failure: Callable[[], None] = lambda: None,
) -> tuple[ASGIApp, RewardService]:
    """Make the server's ASGI application and its service.

    The judge is loaded when the application starts and closed when it ends. `on_ready` is called when it is
    loaded. If it cannot be loaded, `on_failure` is called, and the service's `failure` says why.

    Raises:
        ConfigError: The scale's resolution does not fit the judge's ratings.
    """
    if judge.spec.rating is not None:
        reward_scale(judge, "rating", settings.scale, settings.resolution)
    service = RewardService(judge, settings)

    async def load() -> None:
        await service.load()
        if service.failure is not None:
            on_failure()
        elif service.state == "ready":
            on_ready()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(load())
        yield
        if loading.done() or service.state == "ready":
            await loading
        else:
            loading.cancel()
        await service.close()

    api = FastAPI(
        title="autoj_reward",
        version=autoj_reward.__version__,
        description="A judge as a reward: rate, compare and rank completions.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    _add_judging(api, service)
    _add_operating(api, service)
    _add_refusals(api)
    limited = BodyLimit(api, max_bytes=settings.max_body_bytes, seconds=settings.body_seconds)
    observed = _Observed(limited, service.metrics, {getattr(route, "path", "") for route in api.routes})
    return HostCheck(TokenGuard(observed, settings.token), settings.hosts), service


def _add_judging(api: FastAPI, service: RewardService) -> None:
    judge, most = service.judge, service.settings.max_completions

    @api.post("/v1/rate", responses=_REFUSALS, summary="Rate completions")
    async def rate(body: RateBody) -> Response:
        """Rate each row's completion; returns the fields that `autoj-reward rate` adds."""
        rows = requests_of("rate", body.rows, judge, most=most)
        scale = None if body.scale is None else _scale(judge, body.scale, body.resolution)
        judgments = await service.rate([row[0] for row in rows], body.deadline_seconds)
        fields = [_fields(j, whole=body.whole) for j in judgments]
        if scale is not None:
            for row in fields:
                row["reward"] = None if row["reward"] is None else scale.reward(row["reward"])
        return _answer(fields, judgments)

    @api.post("/v1/compare", responses=_REFUSALS, summary="Compare two completions")
    async def compare(body: CompareBody) -> Response:
        """Compare each row's two completions; returns the fields that `autoj-reward compare` adds."""
        rows = requests_of("compare", body.rows, judge, most=most)
        judgments = await service.compare([row[0] for row in rows], body.deadline_seconds)
        return _answer([_fields(j, whole=body.whole) for j in judgments], judgments)

    @api.post("/v1/rank", responses=_REFUSALS, summary="Order the completions of each prompt")
    async def rank(body: RankBody) -> Response:
        """Rank each row's completions, best first; returns the fields that `autoj-reward rerank` adds."""
        rows = requests_of("rerank", body.rows, judge, most=most)
        judgments = await service.rate([request for row in rows for request in row], body.deadline_seconds)
        left = iter(judgments)
        rankings = [
            rank_judged(
                row[0].prompt,
                [r.completions[0] for r in row],
                [next(left) for _ in row],
                resolution=engine_resolution(judge, pairwise=False),
            )
            for row in rows
        ]
        fields = [
            ranking_fields(judge, ranking, [ranking.entry(c) for c in ranking.candidates], row["completions"])
            for ranking, row in zip(rankings, body.rows, strict=True)
        ]
        return _answer(fields, judgments)

    @api.post("/v1/decisions", responses=_REFUSALS, summary="Answer questions about a text")
    async def decisions(body: DecisionBody) -> Response:
        """The judge's model answers predicates, choices and scores with probabilities, as OpenAI's API."""
        outputs = await service.decide(decision_inputs(body, judge))
        return json_response(decision_answer(body, judge, outputs))

    @api.post("/get_reward", responses=_REFUSALS, summary="OpenRLHF's remote reward model")
    async def get_reward(body: RewardBody) -> RewardAnswer:
        """Rewards for OpenRLHF's `--remote_rm_url`."""
        settings = service.settings
        requests = reward_requests(body, judge, settings)
        scale = reward_scale(judge, "rating", settings.scale, settings.resolution)
        judgments = await service.rate(requests, None)
        return json_response(  # type: ignore[return-value]
            reward_answer(judgments, scale, settings.failure_reward)
        )

    @api.post("/remote_rm", responses=_REFUSALS, summary="slime's remote reward model")
    async def remote_rm(body: RemoteRmBody) -> float | None:
        """The reward for slime's `--rm-url`: a number, or null without a verdict."""
        settings = service.settings
        request = remote_rm_request(body, judge, settings)
        scale = reward_scale(judge, "rating", settings.scale, settings.resolution)
        judgments = await service.rate([request], None)
        (reward,) = reward_answer(judgments, scale, settings.failure_reward)["rewards"]
        return json_response(reward)  # type: ignore[return-value]


def _add_operating(api: FastAPI, service: RewardService) -> None:
    judge = service.judge

    @api.get("/health", summary="Whether the server runs")
    async def health() -> Response:
        return json_response({"status": "ok"})

    @api.get("/ready", responses={503: _REFUSALS[503]}, summary="Whether the judge is loaded")
    async def ready() -> Response:
        return json_response({"status": service.state}, status=200 if service.state == "ready" else 503)

    @api.get("/v1/models", summary="The judge, as clients of OpenAI's API look for it")
    async def models() -> Response:
        entry = {"id": judge.spec.name, "object": "model", "created": 0, "owned_by": "autoj_reward"}
        return json_response({"object": "list", "data": [entry]})

    @api.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(docs_page(api.openapi()), media_type="text/html")

    @api.get("/metrics", summary="Prometheus metrics")
    async def metrics() -> Response:
        return Response(service.metrics.page(), media_type=CONTENT_TYPE_LATEST)


def _add_refusals(api: FastAPI) -> None:
    """Give every error one shape, without any text of the client."""

    async def refused(_: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return error.response()

    async def malformed(request: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        if "json" not in request.headers.get("content-type", "").lower():
            return Refusal(
                415, "content_type", "send JSON with the header Content-Type: application/json"
            ).response()
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])[:200]
        return Refusal(422, "invalid_request", str(problem["msg"])[:200], where=where).response()

    async def known(_: HttpRequest, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        refusal = Refusal(error.status_code, "http", str(error.detail))
        response = refusal.response()
        response.headers.update(error.headers or {})
        return response

    async def unexpected(_: HttpRequest, error: Exception) -> Response:
        return Refusal(500, "internal", "the server failed; see its log").response()

    api.add_exception_handler(Refusal, refused)
    api.add_exception_handler(RequestValidationError, malformed)
    api.add_exception_handler(HTTPException, known)
    api.add_exception_handler(Exception, unexpected)


def _scale(judge: Judge, scale: Scale, resolution: float | None) -> RewardScale:
    try:
        return reward_scale(judge, "rating", scale, resolution)
    except ConfigError as error:
        raise invalid(error.args[0], "resolution") from None


def _fields(judgment: Judgment, *, whole: bool) -> dict[str, Any]:
    more = {"judgment": judgment_record(judgment)} if whole else {}
    return judgment.to_dict() | more


def _answer(rows: list[Any], judgments: list[Any]) -> Response:
    first: Judgment = judgments[0]
    made = first.provenance
    judge = {"name": made.judge, "template": made.template, "engine": made.engine}
    return json_response({"rows": rows, "judge": judge})


class _Observed:
    """Counts requests in the metrics; paths without a route are counted as `other`."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: set[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        began = time.perf_counter()
        status = 499  # the client left before the response

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._metrics.request_done(path, status, time.perf_counter() - began)
