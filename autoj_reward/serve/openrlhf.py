# SPDX-License-Identifier: Apache-2.0
"""OpenRLHF's remote reward protocol: `POST /get_reward`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.chat_markup import completion_of, exchange_of
from autoj_reward.judgments import RatingJudgment
from autoj_reward.reward.scale import RewardScale
from autoj_reward.serve.errors import Refusal
from autoj_reward.serve.schema import RewardBody, check, invalid
from autoj_reward.serve.settings import ServeSettings
from autoj_reward.types import Request


def reward_requests(body: RewardBody, judge: Judge, settings: ServeSettings) -> list[Request]:
    """Make a rating request for each query.

    Raises:
        Refusal: Queries, prompts and labels do not fit each other (422), or are too many (413).
    """
    queries, prompts = _texts(body.query, "query"), _texts(body.prompts, "prompts")
    labels = _labels(body.labels, len(queries)) if settings.labels_as_references else [None] * len(queries)
    if len(queries) != len(prompts):
        raise invalid(f"there are {len(queries)} queries and {len(prompts)} prompts", "prompts")
    if len(queries) > settings.max_completions:
        raise Refusal(413, "too_many", f"more than {settings.max_completions:,} completions in one request")
    requests = []
    for i, (query, prompt, label) in enumerate(zip(queries, prompts, labels, strict=True)):
        completion = completion_of(query, prompt)
        if completion is None:
            raise invalid("does not hold its prompt; was the prompt cut to fit the policy?", f"query[{i}]")
        asked, answer = exchange_of(prompt, completion, settings.end_tokens)
        request = Request(prompt=asked, completions=(answer,), reference=label)
        check(judge, [request], f"query[{i}]")
        requests.append(request)
    return requests


def reward_answer(
    judgments: Sequence[RatingJudgment], scale: RewardScale, failure_reward: float | None
) -> dict[str, Any]:
    """OpenRLHF's response body; a null reward (`failure_reward` None) stops the trainer."""
    rewards = [failure_reward if j.reward is None else scale.reward(j.reward) for j in judgments]
    failed = [float(j.failure is not None) for j in judgments]
    return {"rewards": rewards, "scores": rewards, "extra_logs": {"judge_failed": failed}}


def _texts(value: Any, name: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        raise invalid("must be a text or a list of texts", name)
    if wrong := [i for i, text in enumerate(texts) if not isinstance(text, str)]:
        raise invalid("must be a text", f"{name}[{wrong[0]}]")
    return texts


def _labels(value: Any, n: int) -> list[str | None]:
    labels = [value] if isinstance(value, str) else value
    if not isinstance(labels, list) or len(labels) != n:
        raise invalid(f"must be a list of {n} labels", "labels")
    return [_label(label, i) for i, label in enumerate(labels)]


def _label(label: Any, i: int) -> str | None:
    if label is None or isinstance(label, str):
        return label
    if isinstance(label, int | float) and math.isfinite(label):
        return str(label)
    raise invalid("must be a text or a number", f"labels[{i}]")
