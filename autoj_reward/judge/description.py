# SPDX-License-Identifier: Apache-2.0
"""Who judges, as one id and as plain values: for the run's record, for every output row, and for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from autoj_reward.cache.key import sampling_json
from autoj_reward.identity import short_id
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.types import ChatWrapper

if TYPE_CHECKING:
    from autoj_reward.judge.settings import JudgeSettings


_INFORMATION = ("engine", "model", "revision", "judge", "scale")
"""Names, which say nothing of what lies behind them, and the ratings, which are the template's."""


def judge_id(spec: JudgeSpec, settings: JudgeSettings, fingerprint: str) -> str:
    """Short id of who answers: the engine, the template with its wrapper, and how critiques are sampled."""
    return short_id(fingerprint, spec.fingerprint, sampling_json(settings.sampling).decode())


def described(spec: JudgeSpec, settings: JudgeSettings, engine: dict[str, Any]) -> dict[str, Any]:
    """A judge as plain values.

    Args:
        spec: The judge.
        settings: How it is run.
        engine: Its engine's description.
    """
    fingerprint = engine.get("fingerprint")
    wrapper = spec.direct_wrapper if settings.mode == "direct" else spec.wrapper
    return {
        "judge_id": None if fingerprint is None else judge_id(spec, settings, fingerprint),
        "judge": spec.name,
        "model": spec.model,
        "revision": spec.revision,
        "mode": settings.mode,
        "template": spec.fingerprint,
        "scale": None if spec.rating is None else sorted({float(v) for v in spec.rating.verdicts.verdicts}),
        "wrapper": "the model's chat template" if isinstance(wrapper, ChatWrapper) else "plain text",
        "sampling": json.loads(sampling_json(settings.sampling)),
        "n_samples": settings.n_samples,
        "both_orders": settings.both_orders,
        "overlong": settings.overlong,
        "min_mass": settings.rules.min_mass,
        "follow_above": settings.rules.follow_above,
        "force_verdict": settings.rules.force_verdict,
        "guard": None if settings.guard is None else settings.guard.fingerprint,
        "reasoning": settings.reasoning,
        "engine": engine,
    }


def who(description: dict[str, Any]) -> dict[str, Any]:
    """The part of a description that identifies a run: who answers, and how answers are read."""
    engine = description["engine"]
    facts = engine.get("facts") or {"engine": engine.get("engine")}
    settings = {key: value for key, value in description.items() if key not in _INFORMATION}
    known = {**settings, **facts, "engine fingerprint": engine.get("fingerprint")}
    return dict(json.loads(json.dumps(known, default=repr)))


def shown(description: dict[str, Any], max_new_tokens: int) -> dict[str, str]:
    """A description for people, a line each: who judges, how, and on what.

    Args:
        description: The judge's.
        max_new_tokens: Most tokens of a critique.
    """
    engine = description["engine"]
    context, template = engine.get("context_tokens"), engine.get("chat_template")
    writes = description["mode"] == "critique"
    room = f"{max_new_tokens:,} of them for the critique" if writes else "a few of them for the verdict"
    chat = "no chat template"
    if description["wrapper"] != "plain text":
        chat = f"chat template {template or 'of the model'}"
    return {
        "judge": f"{description['judge']}, id {description['judge_id'] or 'known when it is loaded'}",
        "mode": description["mode"],
        "template": f"{description['template']}, {chat}",
        "weights": str(engine.get("source") or engine.get("model") or engine.get("engine")),
        "longest input": f"{context:,} tokens, {room}" if context else "known when the model is loaded",
    }
