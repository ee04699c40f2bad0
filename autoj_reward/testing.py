# SPDX-License-Identifier: Apache-2.0
"""Engines for tests: answers come from a script or a file instead of a model.

`ScriptedEngine` answers from functions or constants and records its inputs. `RecordedEngine`
(`--engine recorded:FILE` on the command line) answers from a JSON lines file. ::

    from autoj_reward import Judge
    from autoj_reward.testing import ScriptedEngine, untrusted_texts

    engine = ScriptedEngine(read=lambda item: {"9" if "Paris" in untrusted_texts(item)[-1] else "2": 1.0})
    with Judge.load("mini", engine=engine, mode="direct") as judge:
        right, wrong = judge.rate(["Capital of France?"] * 2, ["Paris", "Lyon"])
    assert (right.rating, wrong.rating) == (9.0, 2.0)
    assert engine.n_inputs == 2
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from autoj_reward.engines import Engine
from autoj_reward.engines.recorded import RecordedEngine, rendered_text
from autoj_reward.types import (
    ContinuationLogprob,
    ContinuationLogprobs,
    Failure,
    FailureReason,
    JudgeInput,
    JudgeOutput,
    Usage,
)

__all__ = ["RecordedEngine", "ScriptedEngine", "make_reading", "rendered_text", "untrusted_texts"]

Read = Mapping[str, float] | Failure | JudgeOutput
"""The answer to an input that asks for verdict probabilities: the probability of each verdict."""
Written = str | Failure | JudgeOutput
"""The answer to an input that asks for text."""


class ScriptedEngine:
    """Answers every input from a script, without a model.

    An input asks either for the probabilities of its verdicts (`JudgeInput.readout` is set) or for text.
    Each of the two has its own script: a constant answer, or a function from the input to the answer.
    A function that returns a `Failure` fails that input, one that returns None leaves it to `otherwise`, and
    one that raises fails the whole call.

    Args:
        read: Script for verdict probabilities. Missing verdicts get probability 0; blanks at the ends of
            verdicts may be left out.
        write: Script for texts, such as critiques.
        otherwise: Engine for inputs without a script; None fails them.
        fingerprint: The engine's fingerprint; by default that of `otherwise`, or `scripted`.
        seconds: How long each call takes.

    Attributes:
        calls: The inputs of each call so far.
        n_closed: How often the engine was closed.
    """

    def __init__(
        self,
        *,
        read: Read | Callable[[JudgeInput], Read | None] | None = None,
        write: Written | Callable[[JudgeInput], Written | None] | None = None,
        otherwise: Engine | None = None,
        fingerprint: str | None = None,
        seconds: float = 0.0,
    ) -> None:
        self._read = read
        self._write = write
        self._otherwise = otherwise
        self._seconds = seconds
        self.fingerprint = fingerprint or (otherwise.fingerprint if otherwise else "scripted")
        self.calls: list[list[JudgeInput]] = []
        self.n_closed = 0

    @property
    def inputs(self) -> list[JudgeInput]:
        """All inputs so far, in order."""
        return [item for call in self.calls for item in call]

    @property
    def n_inputs(self) -> int:
        """Number of inputs so far."""
        return sum(map(len, self.calls))

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Answer every input, in order."""
        self.calls.append(list(inputs))
        time.sleep(self._seconds)
        answers = [self._answer(item) for item in inputs]
        missing = [n for n, answer in enumerate(answers) if answer is None]
        if missing and self._otherwise is not None:
            others = self._otherwise.generate([inputs[n] for n in missing])
            for n, other in zip(missing, others, strict=True):
                answers[n] = other
        return [answer or _NO_SCRIPT for answer in answers]

    def close(self) -> None:
        """Close `otherwise`."""
        self.n_closed += 1
        if self._otherwise is not None:
            self._otherwise.close()

    def _answer(self, item: JudgeInput) -> JudgeOutput | Failure | None:
        if item.readout is not None:
            probs = self._read(item) if callable(self._read) else self._read
            return make_reading(item, probs) if isinstance(probs, Mapping) else probs
        text = self._write(item) if callable(self._write) else self._write
        if isinstance(text, str):
            return JudgeOutput(text=text, finish_reason="stop", usage=Usage(n_requests=1))
        return text


_NO_SCRIPT = Failure(reason=FailureReason.ENGINE, detail="the script has no answer for this kind of input")


def untrusted_texts(item: JudgeInput) -> list[str]:
    """The texts that a template put into an input: the prompt first, the completions last."""
    return [segment.text for segment in item.body if not segment.trusted]


def make_reading(item: JudgeInput, probs: Mapping[str, float]) -> JudgeOutput:
    """Make an engine's output with given verdict probabilities.

    Args:
        item: An input with a `readout`.
        probs: Probability of each verdict; missing ones are 0. NaN stays NaN.
    """
    assert item.readout is not None, "this input asks for text, not for verdict probabilities"
    paths = []
    for text in item.readout.continuations:
        prob = probs.get(text, probs.get(text.strip(), 0.0))
        logprob = math.log(prob) if prob != 0 else -math.inf
        paths.append(ContinuationLogprob(text=text, path_logprob=logprob, end_logprob=0.0))
    reading = ContinuationLogprobs(paths=tuple(paths))
    return JudgeOutput(text="", finish_reason="read", usage=Usage(n_requests=1), reading=reading)
