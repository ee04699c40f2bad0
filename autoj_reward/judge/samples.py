# SPDX-License-Identifier: Apache-2.0
"""Run rendered inputs through an engine: generate, find the verdict, read its distribution.

Direct mode forces the words before the verdict and reads what comes next. Critique mode lets the judge
write, finds the verdict that the text concludes with, and reads the distribution at that place; a critique
without a verdict is a failure, or is closed with the forced words if the rules say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from autoj_reward.engines import Engine
from autoj_reward.judge.generation import Turn, ask, usage_of, write
from autoj_reward.judge.parse import Stated, find_verdict
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.judge.verdict import VerdictSet
from autoj_reward.judgments import Sample
from autoj_reward.types import (
    ContinuationQuery,
    Failure,
    FailureReason,
    JudgeInput,
    JudgeOutput,
    Segment,
    Usage,
)

WITHOUT_VERDICT = (FailureReason.TRUNCATED, FailureReason.NO_VERDICT)
"""Failures that a forced verdict can repair. After `off_scale` there is one already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingRules:
    """How verdicts are read.

    Attributes:
        min_mass: Least probability, in (0, 1], inside the verdict set.
        follow_above: Branches of the verdicts' token tree at or below this probability may be left
            unread; what they could hold is reported.
        force_verdict: Whether a critique that ends without a verdict is closed with the words before it,
            and the distribution read there.
    """

    min_mass: float
    follow_above: float
    force_verdict: bool = False


@dataclass(frozen=True, slots=True)
class MeteredSample:
    """A sample, and the tokens spent on it; of a list also the characters cut from this completion to fit."""

    sample: Sample
    usage: Usage
    cut_chars: int = 0


def overflow_tokens(samples: Iterable[Sample]) -> int:
    """Tokens by which the longest input of these samples is over the limit; 0 if all fit."""
    failures = [sample.failure for sample in samples if sample.failure is not None]
    return max((f.overflow_tokens for f in failures if f.reason is FailureReason.TOO_LONG), default=0)


def judge_directly(
    inputs: Sequence[JudgeInput],
    engine: Engine,
    spec: JudgeSpec,
    verdicts: Sequence[VerdictSet],
    rules: ReadingRules,
) -> list[MeteredSample]:
    """Read a verdict right after the forced words, for every input; each may have its own verdict set."""
    empty = spec.thinking.empty_block if spec.thinking else ""
    readouts = _readouts(verdicts, rules)
    asked = [
        replace(
            item,
            prefill=tuple(s for s in (Segment(empty, True), Segment(own.verdict_prefix, True)) if s.text),
            readout=readouts[id(own)],
        )
        for item, own in zip(inputs, verdicts, strict=True)
    ]
    return [
        MeteredSample(read_sample(answer, Sample(), own, rules), usage_of(answer))
        for answer, own in zip(ask(engine, asked), verdicts, strict=True)
    ]


def judge_with_critique(
    inputs: Sequence[JudgeInput],
    engine: Engine,
    spec: JudgeSpec,
    verdicts: Sequence[VerdictSet],
    rules: ReadingRules,
) -> list[MeteredSample]:
    """Let the judge write, then read its verdict where the text concludes with it, or where it is forced."""
    return read_verdicts(inputs, write(inputs, engine, spec.thinking), engine, verdicts, rules)


def read_verdicts(
    inputs: Sequence[JudgeInput],
    turns: Sequence[Turn],
    engine: Engine,
    verdicts: Sequence[VerdictSet],
    rules: ReadingRules,
) -> list[MeteredSample]:
    """Read a verdict in what the judge wrote for each input; one turn may be there for several verdicts."""
    found = [
        turn.failure or find_verdict(turn.critique, turn.finish_reason, own)
        for turn, own in zip(turns, verdicts, strict=True)
    ]
    verdicts = [
        own.separated_by(stated.between) if isinstance(stated, Stated) and stated.between else own
        for own, stated in zip(verdicts, found, strict=True)
    ]
    places: dict[int, tuple[Segment, ...]] = {}
    for i, (turn, stated) in enumerate(zip(turns, found, strict=True)):
        if isinstance(stated, Stated):
            places[i] = turn.up_to(stated.start)
        elif rules.force_verdict and turn.failure is None and stated.reason in WITHOUT_VERDICT:
            places[i] = turn.closed_with(verdicts[i].verdict_prefix)
    readouts = _readouts(verdicts, rules)
    asked = {
        i: replace(inputs[i], prefill=place, readout=readouts[id(verdicts[i])]) for i, place in places.items()
    }
    answers = dict(zip(asked, ask(engine, list(asked.values())), strict=True))

    judged: list[MeteredSample] = []
    for i, (turn, stated) in enumerate(zip(turns, found, strict=True)):
        sample = Sample(
            critique=turn.critique,
            thinking=turn.thinking,
            stated=None if isinstance(stated, Failure) else stated.verdict,
            failure=stated if isinstance(stated, Failure) else None,
            finish_reason=turn.finish_reason,
        )
        usage = turn.usage
        if i in answers:
            usage += usage_of(answers[i])
            read = read_sample(answers[i], sample, verdicts[i], rules)
            if sample.failure is None:
                sample = read
            elif read.distribution is not None:
                sample = replace(read, failure=None, forced=True)
        judged.append(MeteredSample(sample, usage))
    return judged


def _readouts(verdicts: Sequence[VerdictSet], rules: ReadingRules) -> dict[int, ContinuationQuery]:
    """Each set's readout, made once: engines compare readouts field by field."""
    return {id(own): own.readout(follow_above=rules.follow_above) for own in verdicts}


def read_sample(
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
        # The endpoint gives no log-probabilities: parse what it wrote after the prefix.
        stated = find_verdict(verdicts.verdict_prefix + answer.text, answer.finish_reason, verdicts)
        result = stated if isinstance(stated, Failure) else verdicts.point(stated.verdict)
    if isinstance(result, Failure):
        return replace(sample, failure=replace(result, raw_text=sample.critique), finish_reason=finish)
    return replace(sample, distribution=result, finish_reason=finish)
