# SPDX-License-Identifier: Apache-2.0
"""A judge that computes NaN for one row of a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autoj_reward.testing import ScriptedEngine, untrusted_texts
from autoj_reward.types import JudgeInput


def read(item: JudgeInput) -> dict[str, float]:
    """NaN where a completion says `broken`, and the same for every verdict elsewhere."""
    assert item.readout is not None
    prob = float("nan") if "broken" in untrusted_texts(item)[-1] else 0.02
    return dict.fromkeys(item.readout.continuations, prob)


def test_the_other_rows_of_a_request_are_answered(serve: Callable[..., Any]) -> None:
    """The whole request was lost with status 500: JSON has no NaN."""
    client = serve(ScriptedEngine(read=read))
    client._transport.raise_server_exceptions = False
    rows = [{"prompt": "Q?", "completion": c} for c in ("fine", "broken")]
    answer = client.post("/v1/rate", json={"rows": rows})
    assert answer.status_code == 200, answer.text
    fine, broken = answer.json()["rows"]
    assert fine["reward"] is not None
    assert broken["reward"] is None
    assert broken["failure"]["reason"] == "engine"
