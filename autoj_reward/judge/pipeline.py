# SPDX-License-Identifier: Apache-2.0
"""One list of rendered inputs to one list of samples: write, find the verdict, read it.

Direct mode forces the words before the verdict and reads what comes next. Critique mode lets the judge
write, finds the verdict that the text concludes with, and reads the distribution at that place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from autoj_reward.engines import Engine
from autoj_reward.errors import EngineContractBroken
from autoj_reward.judge.parse import Stated, find_verdict, split_thinking, unfinished_thinking
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.judge.verdict import VerdictSet
from autoj_reward.judgments import Sample
from autoj_reward.types import Failure, FinishReason, JudgeInput, JudgeOutput, Segment, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingRules:
    """How verdicts are read.

    Attributes:
        min_mass: Least probability, in (0, 1], inside the verdict set.
        follow_above: Branches of the verdicts' token tree at or below this probability may be left
            unread; what they could hold is reported.
    """

    min_mass: float
    follow_above: float


@dataclass(frozen=True, slots=True)
class Judged:
    """A sample, and what it cost."""

    sample: Sample
    usage: Usage


@dataclass(frozen=True, slots=True)
class _Written:
    """What the judge wrote in its turn, thinking apart."""

    critique: str
    thinking: str
    finish_reason: FinishReason
    usage: Usage
    before: tuple[Segment, ...] = ()
    """What stands in the judge's turn before the critique: the thinking, with its marks."""


def judge_directly(
    inputs: Sequence[JudgeInput], engine: Engine, spec: JudgeSpec, verdicts: VerdictSet, rules: ReadingRules
) -> list[Judged]:
    """Read a verdict right after the forced words, for every input."""
    empty = spec.thinking.empty_block if spec.thinking else ""
    forced = tuple(s for s in (Segment(empty, True), Segment(verdicts.lead, True)) if s.text)
    readout = verdicts.readout(follow_above=rules.follow_above)
    asked = [replace(item, prefill=forced, readout=readout) for item in inputs]
    return [
        Judged(_read_sample(answer, Sample(), verdicts, rules), _usage(answer))
        for answer in ask(engine, asked)
    ]


def judge_with_critique(
    inputs: Sequence[JudgeInput], engine: Engine, spec: JudgeSpec, verdicts: VerdictSet, rules: ReadingRules
) -> list[Judged]:
    """Let the judge write, then read its verdict where the text concludes with it."""
    written = _write(inputs, engine, spec)
    found = [
        w if isinstance(w, Judged) else find_verdict(w.critique, w.finish_reason, verdicts) for w in written
    ]
    readout = verdicts.readout(follow_above=rules.follow_above)
    places = [i for i, f in enumerate(found) if isinstance(f, Stated)]
    asked: list[JudgeInput] = []
    for i in places:
        w, stated = written[i], found[i]
        assert isinstance(w, _Written) and isinstance(stated, Stated)
        prefill = (*w.before, Segment(w.critique[: stated.start]))
        asked.append(replace(inputs[i], prefill=prefill, readout=readout))
    answers = dict(zip(places, ask(engine, asked), strict=True))

    judged: list[Judged] = []
    for i, (w, f) in enumerate(zip(written, found, strict=True)):
        if isinstance(w, Judged):
            judged.append(w)
            continue
        text = Sample(critique=w.critique, thinking=w.thinking, finish_reason=w.finish_reason)
        if isinstance(f, Stated):
            sample = _read_sample(answers[i], replace(text, stated=f.verdict), verdicts, rules)
            judged.append(Judged(sample, w.usage + _usage(answers[i])))
        else:
            assert isinstance(f, Failure)
            judged.append(Judged(replace(text, failure=f), w.usage))
    return judged


def ask(engine: Engine, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
    """Call the engine and hold it to its contract.

    Raises:
        EngineContractBroken: It gave back another number of answers.
        EngineError: The call failed.
    """
    if not inputs:
        return []
    answers = engine.generate(inputs)
    if len(answers) != len(inputs):
        raise EngineContractBroken(f"the engine was asked {len(inputs)} times and answered {len(answers)}")
    return answers


def _usage(answer: JudgeOutput | Failure) -> Usage:
    return answer.usage if isinstance(answer, JudgeOutput) else Usage()


def _read_sample(
    answer: JudgeOutput | Failure, sample: Sample, verdicts: VerdictSet, rules: ReadingRules
) -> Sample:
    """The sample with its distribution, or with the reason why there is none."""
    if isinstance(answer, Failure):
        return replace(sample, failure=answer)
    finish = sample.finish_reason or "read"
    if answer.reading is not None:
        result = verdicts.distribution(answer.reading, min_mass=rules.min_mass)
    elif sample.stated is not None:
        result = verdicts.point(sample.stated)
    else:
        # An endpoint that cannot read was asked for a direct verdict, and wrote on from the lead.
        stated = find_verdict(verdicts.lead + answer.text, answer.finish_reason, verdicts)
        result = stated if isinstance(stated, Failure) else verdicts.point(stated.verdict)
    if isinstance(result, Failure):
        return replace(sample, failure=replace(result, raw_text=sample.critique), finish_reason=finish)
    return replace(sample, distribution=result, finish_reason=finish)


def _write(inputs: Sequence[JudgeInput], engine: Engine, spec: JudgeSpec) -> list[_Written | Judged]:
    """The critiques; where none came out, the finished (failed) sample instead."""
    thinking = spec.thinking
    if thinking is None or thinking.budget_tokens is None:
        return [_part(answer, spec) for answer in ask(engine, inputs)]
    # Two turns: thinking up to its budget, closed by us where the judge has not, then the critique.
    budget, closes = thinking.budget_tokens, (thinking.closes,)
    first = [replace(i, sampling=replace(i.sampling, max_new_tokens=budget, stop=closes)) for i in inputs]
    thoughts = ask(engine, first)
    results: list[_Written | Judged] = []
    thinkers: list[tuple[int, tuple[Segment, ...]]] = []
    for i, answer in enumerate(thoughts):
        results.append(_part(answer, spec))
        if isinstance(answer, JudgeOutput) and answer.thinking is None:
            text = answer.text
            if thinking.opened_by_template or text.lstrip().startswith(thinking.opens):
                opens = "" if thinking.opened_by_template else thinking.opens
                inner = text.lstrip().removeprefix(thinking.opens)
                closes = Segment(thinking.closes + "\n\n", True)
                thinkers.append((i, tuple(s for s in (Segment(opens, True), Segment(inner), closes) if s.text)))
    answers = ask(engine, [replace(inputs[i], prefill=before) for i, before in thinkers])
    for (i, before), answer in zip(thinkers, answers, strict=True):
        spent = _usage(thoughts[i])
        if isinstance(answer, Failure):
            results[i] = Judged(Sample(thinking=_inner(before), failure=answer), spent)
        else:
            results[i] = _Written(
                critique=answer.text,
                thinking=_inner(before),
                finish_reason=answer.finish_reason,
                usage=spent + answer.usage,
                before=before,
            )
    return results


def _part(answer: JudgeOutput | Failure, spec: JudgeSpec) -> _Written | Judged:
    """An output as critique and thinking."""
    if isinstance(answer, Failure):
        return Judged(Sample(failure=answer), Usage())
    if answer.thinking is not None or spec.thinking is None:
        return _Written(answer.text, answer.thinking or "", answer.finish_reason, answer.usage)
    marks = spec.thinking
    thinking, critique = split_thinking(
        answer.text, opens=marks.opens, closes=marks.closes, opened=marks.opened_by_template
    )
    if critique is None:
        failure = unfinished_thinking(thinking, answer.finish_reason)
        sample = Sample(thinking=thinking, failure=failure, finish_reason=answer.finish_reason)
        return Judged(sample, answer.usage)
    before: tuple[Segment, ...] = ()
    if len(critique) < len(answer.text):
        head = answer.text[: len(answer.text) - len(critique) - len(marks.closes)]
        lead_in, opening, inner = head.partition(marks.opens)
        pieces = (
            (Segment(lead_in), Segment(opening, True), Segment(inner))
            if opening and not lead_in.strip()
            else (Segment(head),)
        )
        before = tuple(s for s in (*pieces, Segment(marks.closes, True)) if s.text)
    return _Written(critique, thinking, answer.finish_reason, answer.usage, before)


def _inner(before: Sequence[Segment]) -> str:
    return "".join(s.text for s in before if not s.trusted).strip()
