# SPDX-License-Identifier: Apache-2.0
"""A judge that computes NaN for one row of a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autoj_reward.types import ContinuationLogprob, ContinuationLogprobs, JudgeInput, JudgeOutput


class SometimesNoNumbers:
    """Reads NaN where a completion says `broken`, and the same for every verdict elsewhere."""

    fingerprint = "sometimes no numbers"

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput]:
        answers = []
        for item in inputs:
            assert item.readout is not None
            logprob = float("nan") if any("broken" in s.text for s in item.body) else -4.0
            paths = [
                ContinuationLogprob(text=c, path_logprob=logprob, end_logprob=0.0)
                for c in item.readout.continuations
            ]
            answers.append(
                JudgeOutput(text="", finish_reason="read", reading=ContinuationLogprobs(paths=tuple(paths)))
            )
        return answers

    def close(self) -> None:
        """Nothing is held open."""


def test_the_other_rows_of_a_request_are_answered(serve: Callable[..., Any]) -> None:
    """The whole request was lost with status 500: JSON has no NaN."""
    client = serve(SometimesNoNumbers())
    client._transport.raise_server_exceptions = False
    rows = [{"prompt": "Q?", "completion": c} for c in ("fine", "broken")]
    answer = client.post("/v1/rate", json={"rows": rows})
    assert answer.status_code == 200, answer.text
    fine, broken = answer.json()["rows"]
    assert fine["reward"] is not None
    assert broken["reward"] is None
    assert broken["failure"]["reason"] == "engine"
