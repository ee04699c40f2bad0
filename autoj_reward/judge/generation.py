# SPDX-License-Identifier: Apache-2.0
"""Generate the judge's critique, after its reasoning where the model reasons first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from autoj_reward.engines import Engine
from autoj_reward.engines.chains import Chain, generate_chains
from autoj_reward.engines.logprobs.chat_template import THINKING_MARKS, marks_of
from autoj_reward.engines.logprobs.token_tree import with_numbers
from autoj_reward.errors import EngineContractBroken
from autoj_reward.judge.spec import Thinking
from autoj_reward.types import (
    Answered,
    Failure,
    FailureReason,
    FinishReason,
    Follow,
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
    """Let the judge write its turn for every input; see `WrittenTurn`."""
    turns = [WrittenTurn(item, thinking) for item in inputs]
    chains = ask_chains(engine, [t.first for t in turns], lambda done: [turns[n].follow(a) for n, a in done])
    return [turn.read(answers) for turn, answers in zip(turns, chains, strict=True)]


@dataclass(frozen=True, slots=True)
class WrittenTurn:
    """What the judge is asked for its turn, and how the answers make the turn.

    With a thinking budget the turn has two parts: thinking up to the budget, closed for the judge where it
    has not closed it itself, and then the critique under its own limit. A judge that does not think goes on
    with the critique that it began.
    """

    item: JudgeInput
    thinking: Thinking | None

    @property
    def first(self) -> JudgeInput:
        """What is asked first."""
        if self.thinking is None or self.thinking.budget_tokens is None:
            return self.item
        budget, closes = self.thinking.budget_tokens, (self.thinking.closes,)
        sampling = replace(self.item.sampling, max_new_tokens=budget, stop=closes)
        return replace(self.item, sampling=sampling)

    def follow(self, answers: Sequence[JudgeOutput | Failure]) -> JudgeInput | None:
        """What is asked next for the turn; None if the answers make it."""
        return self._second(answers[0]) if len(answers) == 1 else None

    def n_answers(self, answers: Sequence[JudgeOutput | Failure]) -> int:
        """How many of a chain's answers make the turn, 1 or 2."""
        return 1 if self._second(answers[0]) is None else 2

    def read(self, answers: Sequence[JudgeOutput | Failure]) -> Turn:
        """The turn, from the one or two answers that make it."""
        turn = _turn(answers[0], self.thinking)
        if len(answers) == 1:
            return turn
        answer = answers[1]
        usage = turn.usage + usage_of(answer)
        if isinstance(answer, Failure):
            return Turn(thinking=turn.thinking, usage=usage, failure=answer)
        second = self._second(answers[0])
        before = () if second is None else second.prefill
        begun = "" if turn.failure is not None else "".join(s.text for s in before)
        return Turn(
            critique=begun + answer.text,
            thinking=turn.thinking,
            before=() if begun else before,
            finish_reason=answer.finish_reason,
            usage=usage,
        )

    def _second(self, first: JudgeOutput | Failure) -> JudgeInput | None:
        """What is asked after the first answer, if it does not make the turn.

        Thinking is closed where generation stopped at the closing mark or at the budget. A critique that the
        budget of a judge that does not think cut off goes on.
        """
        thinking = self.thinking
        if thinking is None or thinking.budget_tokens is None or isinstance(first, Failure):
            return None
        turn = _turn(first, thinking)
        if turn.failure is not None:
            marks = marks_in(first.text, thinking) or thinking
            return replace(self.item, prefill=_closed(first.text, marks))
        left = self.item.sampling.max_new_tokens - thinking.budget_tokens
        if first.finish_reason != "length" or left <= 0 or turn.thinking:
            return None
        sampling = replace(self.item.sampling, max_new_tokens=left)
        return replace(self.item, prefill=(Segment(first.text),), sampling=sampling)


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


def ask_chains(engine: Engine, inputs: Sequence[JudgeInput], follow: Follow) -> list[Chain]:
    """`ask` for inputs and what follows from their answers."""

    def checked(answered: Sequence[Answered]) -> list[JudgeInput | None]:
        return follow([(n, [with_numbers(answer) for answer in answers]) for n, answers in answered])

    chains = generate_chains(engine, inputs, checked)
    return [[with_numbers(answer) for answer in chain] for chain in chains]


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
