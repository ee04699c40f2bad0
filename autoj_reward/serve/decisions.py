# SPDX-License-Identifier: Apache-2.0
"""`/v1/decisions`: questions about a text, answered with probabilities by the judge's model.

The judge's template is not used: the model is shown the input, the question and its labelled options, and the
probability of each label is read after the words `Answer: (`.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from autoj_reward.judge.judge import Judge
from autoj_reward.serve.errors import Refusal
from autoj_reward.types import (
    ContinuationQuery,
    Failure,
    FailureReason,
    JudgeInput,
    JudgeOutput,
    Segment,
    Usage,
)

_PREFIX = "Answer: ("


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class InputText(_Part):
    """A piece of a message."""

    type: Literal["input_text"]
    text: str


class InputMessage(_Part):
    """A message of the user."""

    role: Literal["user"]
    content: str | list[InputText]
    type: Literal["message"] = "message"


class _Question(_Part):
    instructions: str
    name: str | None = None


class Predicate(_Question):
    """Whether something is true."""

    type: Literal["predicate"]


class Option(_Part):
    """One of a choice's options."""

    value: StrictBool | str
    description: str = ""


class Choice(_Question):
    """Which option holds. Options have letters, so there are at most 26."""

    type: Literal["choice"]
    choices: Annotated[list[Option], Field(min_length=2, max_length=26)]

    @model_validator(mode="after")
    def _distinct(self) -> Choice:
        if len({(type(option.value), option.value) for option in self.choices}) < len(self.choices):
            raise ValueError("choice values must be distinct")
        return self


class Level(_Part):
    """One level of a scale."""

    label: str
    description: str = ""


class Score(_Question):
    """Where on an ordered scale, from level 0 on."""

    type: Literal["score"]
    levels: Annotated[list[Level], Field(min_length=2, max_length=10)]


Question = Annotated[Predicate | Choice | Score, Field(discriminator="type")]


class DecisionBody(_Part):
    """Questions about a text, as OpenAI's decisions API takes them."""

    model: Annotated[str, Field(description="Any name; the server has one judge.")]
    input: str | list[InputMessage]
    questions: Annotated[list[Question], Field(min_length=1, max_length=200)]
    safety_identifier: Annotated[str | None, Field(max_length=128, description="Not used.")] = None


def decision_inputs(body: DecisionBody, judge: Judge) -> list[JudgeInput]:
    """An input to the judge's model for each question."""
    spec = judge.spec
    shown = _text(body.input)
    empty = spec.thinking.empty_block if spec.thinking else ""
    return [
        JudgeInput(
            body=tuple(_body(shown, question)),
            wrapper=spec.direct_wrapper,
            prefill=tuple(s for s in (Segment(empty, True), Segment(_PREFIX, True)) if s.text),
            readout=ContinuationQuery(
                verdict_prefix=_PREFIX,
                continuations=tuple(label for label, _, _ in _options(question)),
                terminators=(")",),
                follow_above=judge.settings.rules.follow_above,
                assume_ends=True,
            ),
        )
        for question in body.questions
    ]


def decision_answer(
    body: DecisionBody, judge: Judge, outputs: Sequence[JudgeOutput | Failure]
) -> dict[str, Any]:
    """The response, from the outputs for `decision_inputs`.

    Raises:
        Refusal: A question has no answer: its input is too long or the options have no
            probability (422), or the engine failed (502).
    """
    answers, usage = [], Usage()
    for n, (question, output) in enumerate(zip(body.questions, outputs, strict=True)):
        where = f"questions[{n}]"
        if isinstance(output, Failure):
            if output.reason is FailureReason.TOO_LONG:
                raise Refusal(422, "too_long", "the input does not fit the judge's context", where=where)
            raise Refusal(502, "engine_failed", "the judge's engine could not answer", where=where)
        probs = [] if output.reading is None else output.reading.probs
        # Written so that NaN is refused too.
        if not sum(probs) > 0:
            raise Refusal(422, "no_verdict", "the judge's engine gave no probabilities", where=where)
        answers.append(_answer(question, probs))
        usage += output.usage
    return {
        "model": judge.spec.name,
        "answers": answers,
        "usage": {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
    }


def _text(given: str | list[InputMessage]) -> str:
    if isinstance(given, str):
        return given
    return "\n\n".join(
        message.content
        if isinstance(message.content, str)
        else "\n".join(part.text for part in message.content)
        for message in given
    )


def _options(question: Predicate | Choice | Score) -> list[tuple[str, str, str]]:
    """Label, name and description of each option."""
    if isinstance(question, Predicate):
        return [("no", "", ""), ("yes", "", "")]
    if isinstance(question, Score):
        return [(str(n), level.label, level.description) for n, level in enumerate(question.levels)]
    named = [(str(o.value).lower() if isinstance(o.value, bool) else o.value, o) for o in question.choices]
    letters = string.ascii_uppercase
    return [(letter, name, o.description) for letter, (name, o) in zip(letters, named, strict=False)]


def _body(shown: str, question: Predicate | Choice | Score) -> list[Segment]:
    segments = [Segment(shown), Segment("\n\nQuestion: ", True), Segment(question.instructions)]
    options = _options(question)
    for label, name, description in options if not isinstance(question, Predicate) else ():
        segments += [Segment(f"\n{label}: ", True), Segment(name)]
        if description:
            segments += [Segment(" - ", True), Segment(description)]
    labels = "yes or no" if isinstance(question, Predicate) else f"{options[0][0]} to {options[-1][0]}"
    ending = f"\nAnswer with one of {labels} in brackets, as in {_PREFIX}{options[0][0]})."
    return [*segments, Segment(ending, True)]


def _answer(question: Predicate | Choice | Score, found: Sequence[float]) -> dict[str, Any]:
    mass = sum(found)
    probs = [p / mass for p in found]
    known = {"type": question.type, "name": question.name}
    if isinstance(question, Predicate):
        return {**known, "probability": probs[1]}
    top = max(range(len(probs)), key=probs.__getitem__)
    # Among all tokens: low where the model would rather have said something else.
    confidence = min(1.0, found[top])
    if isinstance(question, Choice):
        values = [option.value for option in question.choices]
        rows = [{"value": v, "probability": p} for v, p in zip(values, probs, strict=True)]
        return {**known, "choice": values[top], "probabilities": rows, "confidence": confidence}
    levels = [
        {"value": n, "label": level.label, "probability": p}
        for n, (level, p) in enumerate(zip(question.levels, probs, strict=True))
    ]
    score = sum(n * p for n, p in enumerate(probs))
    return {**known, "score": score, "probabilities": levels, "confidence": confidence}
