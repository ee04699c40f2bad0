# SPDX-License-Identifier: Apache-2.0
"""Generate the judge's critique, after its reasoning where the model reasons first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from autoj_reward.engines import Engine
from autoj_reward.engines.logprobs.chat_template import THINKING_MARKS, marks_of
from autoj_reward.engines.logprobs.token_tree import with_numbers
from autoj_reward.errors import EngineContractBroken
from autoj_reward.judge.spec import Thinking
from autoj_reward.types import (
    Failure,
    FailureReason,
    FinishReason,
    JudgeInput,
    JudgeOutput,
    Segment,
    Usage,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the judge wrote.

    Attributes:
        critique: Its answer, thinking left out; empty where it never came to one.
        thinking: Its thinking; empty without any.
        before: Its turn up to the critique: the thinking, with its marks.
        finish_reason: How it ended; None if the engine failed.
        usage: Tokens spent.
        failure: Why the critique is missing, or None.
    """

    critique: str = ""
    thinking: str = ""
    before: tuple[Segment, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage = Usage()
    failure: Failure | None = None

    def up_to(self, position: int) -> tuple[Segment, ...]:
        """The turn as a prefill that ends at a place in the critique."""
        return tuple(s for s in (*self.before, Segment(self.critique[:position])) if s.text)

    def closed_with(self, prefix: str) -> tuple[Segment, ...]:
        """The whole turn as a prefill, followed on a new line by the words before a verdict."""
        line_feed = "" if not self.critique or self.critique.endswith("\n") else "\n"
        return (*self.up_to(len(self.critique)), Segment(line_feed + prefix, True))


def write(inputs: Sequence[JudgeInput], engine: Engine, thinking: Thinking | None) -> list[Turn]:
    """Let the judge write its turn for every input.

    With a thinking budget the turn has two parts: thinking up to the budget, closed for the judge
    where it has not closed it itself, and then the critique under its own limit.
    """
    if thinking is None or thinking.budget_tokens is None:
        return [_turn(answer, thinking) for answer in ask(engine, inputs)]
    budget, closes = thinking.budget_tokens, (thinking.closes,)
    first = [replace(i, sampling=replace(i.sampling, max_new_tokens=budget, stop=closes)) for i in inputs]
    answers = ask(engine, first)
    turns = [_turn(answer, thinking) for answer in answers]
    # If thinking was not closed, generation stopped at the closing mark or at the budget. Either way the
    # mark is added now, and the judge continues with its critique.
    thoughts = {
        i: _closed(answer.text, marks_in(answer.text, thinking) or thinking)
        for i, (answer, turn) in enumerate(zip(answers, turns, strict=True))
        if isinstance(answer, JudgeOutput) and turn.failure is not None
    }
    second = ask(engine, [replace(inputs[i], prefill=before) for i, before in thoughts.items()])
    for (i, before), answer in zip(thoughts.items(), second, strict=True):
        thought, usage = turns[i].thinking, turns[i].usage + usage_of(answer)
        if isinstance(answer, Failure):
            turns[i] = Turn(thinking=thought, usage=usage, failure=answer)
        else:
            turns[i] = Turn(
                critique=answer.text,
                thinking=thought,
                before=before,
                finish_reason=answer.finish_reason,
                usage=usage,
            )
    return turns


def marks_in(text: str, given: Thinking | None) -> Thinking | None:
    """The marks of a text's thinking: the judge's own, else known ones that the text begins with.

    A general judge names one pair of marks, and models have others.
    """
    if given is not None and (given.closes in text or marks_of(text, [(given.opens, given.closes)])):
        return given
    known = marks_of(text, THINKING_MARKS)
    return given if known is None else Thinking(opens=known[0], closes=known[1])


def split_thinking(text: str, marks: Thinking) -> tuple[str, str | None]:
    """Split a reasoning model's output into thinking and answer.

    The last closing mark counts, because thinking may quote one.

    Returns:
        The text up to and with the closing mark (empty if there was no thinking), and the answer; the
        answer is None if thinking never ended.
    """
    head, mark, answer = text.rpartition(marks.closes)
    if mark:
        return head + mark, answer
    if marks.opened_by_template or text.lstrip().startswith(marks.opens):
        return text, None
    return "", text


def ask(engine: Engine, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
    """Call the engine and hold it to its contract; a reading that is not a number is a failure.

    Raises:
        EngineContractBroken: It gave back another number of answers.
        EngineError: The call failed.
    """
    if not inputs:
        return []
    answers = engine.generate(inputs)
    if len(answers) != len(inputs):
        raise EngineContractBroken(f"the engine was asked {len(inputs)} times and answered {len(answers)}")
    return [with_numbers(answer) for answer in answers]


def usage_of(answer: JudgeOutput | Failure) -> Usage:
    """Tokens spent on an answer; a failed one reports none."""
    return answer.usage if isinstance(answer, JudgeOutput) else Usage()


def _turn(answer: JudgeOutput | Failure, marks: Thinking | None) -> Turn:
    """One output as a turn."""
    if isinstance(answer, Failure):
        return Turn(failure=answer)
    finish, usage = answer.finish_reason, answer.usage
    marks = marks_in(answer.text, marks)
    if marks is None or answer.thinking:
        return Turn(critique=answer.text, thinking=answer.thinking or "", finish_reason=finish, usage=usage)
    head, critique = split_thinking(answer.text, marks)
    thought = head.strip().removesuffix(marks.closes.strip()).removeprefix(marks.opens).strip()
    if critique is None:
        failure = _unfinished(thought, finish)
        return Turn(thinking=thought, finish_reason=finish, usage=usage, failure=failure)
    before = _marked(head.removesuffix(marks.closes), marks, after="") if head else ()
    return Turn(critique=critique, thinking=thought, before=before, finish_reason=finish, usage=usage)


def _closed(text: str, marks: Thinking) -> tuple[Segment, ...]:
    return _marked(text, marks, after="\n\n")


def _marked(text: str, marks: Thinking, *, after: str) -> tuple[Segment, ...]:
    """Thinking as segments: its marks are the model's own special tokens, the rest is only text."""
    opens = marks.opens if text.lstrip().startswith(marks.opens) else ""
    inner = text.lstrip().removeprefix(marks.opens) if opens else text
    pieces = (Segment(opens, True), Segment(inner), Segment(marks.closes + after, True))
    return tuple(s for s in pieces if s.text)


def _unfinished(thought: str, finish_reason: FinishReason) -> Failure:
    """The failure of an output that never left its thinking."""
    cut = finish_reason == "length"
    return Failure(
        reason=FailureReason.TRUNCATED if cut else FailureReason.NO_VERDICT,
        detail=f"the output {'was cut' if cut else 'ended'} while the judge was still thinking",
        raw_text=thought,
    )
