# SPDX-License-Identifier: Apache-2.0
"""A judge on an engine that reads the quality written into a completion, and counts what it is asked."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence

import pytest

from autoj_reward.engines.recorded import rendered_text
from autoj_reward.judge.judge import Judge
from autoj_reward.types import (
    ContinuationLogprob,
    ContinuationLogprobs,
    Failure,
    FailureReason,
    JudgeInput,
    JudgeOutput,
    Usage,
)

_QUALITY = re.compile(r"quality (-?[\d.]+)")
SLOT = 0.3
"""Log-odds that the first slot gains."""


class QualityEngine:
    """Answers are a function of the input: `quality 7.5` in a completion is rated about 7.5.

    A little noise comes from a hash of the input. A completion with the word `unreadable` has no verdict.
    """

    fingerprint = "quality"

    def __init__(self, noise: float = 0.5) -> None:
        self.noise = noise
        self.n_inputs = 0
        self.calls: list[int] = []

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        self.n_inputs += len(inputs)
        self.calls.append(len(inputs))
        return [self._answer(item) for item in inputs]

    def close(self) -> None:
        """Nothing is held open."""

    def _answer(self, item: JudgeInput) -> JudgeOutput | Failure:
        text = rendered_text(item)
        if "unreadable" in text:
            return Failure(reason=FailureReason.ENGINE, detail="it cannot be read")
        usage = Usage(prompt_tokens=100, n_requests=1)
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        noise = self.noise * (int.from_bytes(digest[:4], "big") / 2**31 - 1)
        found = [float(q) for q in _QUALITY.findall(text)]
        if item.readout is None:
            stated = min(10, max(1, round(found[0] if found else 5)))
            return JudgeOutput(text=f"So so.\n\nRating: [[{stated}]]", finish_reason="stop", usage=usage)
        names = [c.strip() for c in item.readout.continuations]
        if "Tie" in names:
            margin = (found[0] - found[1] if len(found) == 2 else 0.0) + SLOT + noise
            logits = {names[0]: margin / 2, names[1]: -margin / 2, "Tie": -1.0}
        else:
            mean = (found[0] if found else 5.0) + noise
            logits = {name: -((float(name) - mean) ** 2) for name in names}
        total = math.log(sum(map(math.exp, logits.values())))
        paths = tuple(
            ContinuationLogprob(text=c, path_logprob=logits[c.strip()] - total, end_logprob=0.0)
            for c in item.readout.continuations
        )
        return JudgeOutput(
            text="", finish_reason="read", usage=usage, reading=ContinuationLogprobs(paths=paths)
        )


@pytest.fixture
def engine() -> QualityEngine:
    return QualityEngine()


@pytest.fixture
def judge(engine: QualityEngine) -> Iterator[Judge]:
    with Judge.load("mini", engine=engine, mode="direct") as made:
        yield made
