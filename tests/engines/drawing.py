# SPDX-License-Identifier: Apache-2.0
"""An engine whose every answer is different, for tests of the wrappers around engines."""

from __future__ import annotations

import itertools
from dataclasses import replace

from autoj_reward.errors import EngineUnavailable
from autoj_reward.testing import ScriptedEngine, make_reading
from autoj_reward.types import Failure, FailureReason, JudgeInput, JudgeOutput, Usage


class DrawingEngine(ScriptedEngine):
    """Writes the number of its answer, so that a second call shows; reads the first of N verdicts with probability 1/N.

    An input that holds `too long` fails; one that holds `outage` fails the whole call.
    """

    def __init__(self, fingerprint: str = "drawing", *, seconds: float = 0.0) -> None:
        super().__init__(read=self.draw, write=self.draw, fingerprint=fingerprint, seconds=seconds)
        self._numbers = itertools.count()

    def draw(self, item: JudgeInput) -> JudgeOutput | Failure:
        body = "".join(segment.text for segment in item.body)
        if "outage" in body:
            raise EngineUnavailable("the server is gone")
        if "too long" in body:
            return Failure(reason=FailureReason.TOO_LONG, detail="too long", overflow_tokens=3)
        usage = Usage(prompt_tokens=len(body), completion_tokens=1, n_requests=1)
        if item.readout is None:
            return JudgeOutput(text=f"{next(self._numbers)}: {body}", finish_reason="stop", usage=usage)
        texts = item.readout.continuations
        output = make_reading(item, {texts[0]: 1 / len(texts)})
        assert output.reading is not None
        paths = tuple(replace(path, end_logprob=-0.0) for path in output.reading.paths)
        return replace(output, usage=usage, reading=replace(output.reading, paths=paths, unread_prob=0.25))
