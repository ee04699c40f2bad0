# SPDX-License-Identifier: Apache-2.0
"""An engine for tests of what stands around engines: no model, every answer different, all calls noted."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Sequence

from autoj_reward.errors import EngineUnavailable
from autoj_reward.types import (
    ContinuationLogprob,
    ContinuationLogprobs,
    Failure,
    FailureReason,
    JudgeInput,
    JudgeOutput,
    Usage,
)


class DrawingEngine:
    """Writes a text that says which answer it is, so that a second asking shows; reads even odds.

    An input that holds `too long` fails; one that holds `outage` fails the whole call.
    """

    def __init__(self, fingerprint: str = "drawing", *, seconds: float = 0.0) -> None:
        self.fingerprint = fingerprint
        self.calls: list[list[JudgeInput]] = []
        self.n_closed = 0
        self._seconds = seconds
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    @property
    def n_asked(self) -> int:
        return sum(len(call) for call in self.calls)

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        with self._lock:
            self.calls.append(list(inputs))
        time.sleep(self._seconds)
        if any("outage" in segment.text for item in inputs for segment in item.body):
            raise EngineUnavailable("the server is gone")
        return [self._answer(item) for item in inputs]

    def close(self) -> None:
        self.n_closed += 1

    def _answer(self, item: JudgeInput) -> JudgeOutput | Failure:
        body = "".join(segment.text for segment in item.body)
        if "too long" in body:
            return Failure(reason=FailureReason.TOO_LONG, detail="too long", overflow_tokens=3)
        usage = Usage(prompt_tokens=len(body), completion_tokens=1, n_requests=1)
        if item.readout is None:
            text = f"{next(self._numbers)}: {body}"
            return JudgeOutput(text=text, finish_reason="stop", usage=usage)
        texts = item.readout.continuations
        odds = [math.log(1 / len(texts)), *[-math.inf] * (len(texts) - 1)]
        return JudgeOutput(
            text="",
            finish_reason="read",
            usage=usage,
            reading=ContinuationLogprobs(
                paths=tuple(
                    ContinuationLogprob(text=t, path_logprob=odd, end_logprob=-0.0)
                    for t, odd in zip(texts, odds, strict=True)
                ),
                unread_prob=0.25,
            ),
        )
