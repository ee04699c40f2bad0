# SPDX-License-Identifier: Apache-2.0
"""Run rendered inputs through an engine: generate, find the verdict, read its distribution.

Direct mode forces the words before the verdict and reads what comes next. Critique mode lets the judge
write, finds the verdict that the text concludes with, and reads the distribution at that place; a critique
without a verdict is a failure, or is closed with the forced words if the rules say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoj_reward.engines import Engine
from autoj_reward.judge.generation import Turn, WrittenTurn, ask, ask_chains, usage_of
from autoj_reward.judge.parse import Stated, find_verdict
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.judge.verdict import VerdictSet
from autoj_reward.judgments import Sample
from autoj_reward.types import (
    Answered,
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
    # Made once for each set: engines compare readouts field by field.
    forced: dict[int, dict[str, Any]] = {
        id(own): {
            "prefill": tuple(s for s in (Segment(empty, True), Segment(own.verdict_prefix, True)) if s.text),
            "readout": own.readout(follow_above=rules.follow_above),
        }
        for own in {id(own): own for own in verdicts}.values()
    }
    asked = [replace(item, **forced[id(own)]) for item, own in zip(inputs, verdicts, strict=True)]
    nothing = Sample()
    return [
        MeteredSample(read_sample(answer, nothing, own, rules), usage_of(answer))
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
    critiques = [
        _Critique(WrittenTurn(item, spec.thinking), own, rules)
        for item, own in zip(inputs, verdicts, strict=True)
    ]
    readouts: dict[tuple[int, str], ContinuationQuery] = {}

    def follow(answered: Sequence[Answered]) -> list[JudgeInput | None]:
        return [critiques[n].follow(answers, readouts) for n, answers in answered]

    chains = ask_chains(engine, [critique.writing.first for critique in critiques], follow)
    return [critique.sample(answers) for critique, answers in zip(critiques, chains, strict=True)]


def read_verdicts(
    inputs: Sequence[JudgeInput],
    turns: Sequence[Turn],
    engine: Engine,
    verdicts: Sequence[VerdictSet],
    rules: ReadingRules,
) -> list[MeteredSample]:
    """Read a verdict in what the judge wrote for each input; one turn may be there for several verdicts."""
    readouts: dict[tuple[int, str], ContinuationQuery] = {}
    concluded = [_conclude(turn, own, rules) for turn, own in zip(turns, verdicts, strict=True)]
    asked = {
        i: item
        for i, (given, own, found) in enumerate(zip(inputs, verdicts, concluded, strict=True))
        if (item := found.reading(given, own, rules, readouts)) is not None
    }
    answers = dict(zip(asked, ask(engine, list(asked.values())), strict=True))
    return [found.sample(answers.get(i), rules) for i, found in enumerate(concluded)]


@dataclass(frozen=True, slots=True)
class _Concluded:
    """What a written turn concludes with.

    Attributes:
        turn: The turn.
        stated: The verdict that it states, or why there is none.
        verdicts: The verdicts as this turn writes them.
        place: The beginning of the turn, up to where the distribution is read; None to read none.
    """

    turn: Turn
    stated: Stated | Failure
    verdicts: VerdictSet
    place: tuple[Segment, ...] | None

    def reading(
        self,
        item: JudgeInput,
        verdicts: VerdictSet,
        rules: ReadingRules,
        readouts: dict[tuple[int, str], ContinuationQuery],
    ) -> JudgeInput | None:
        """The input that reads the distribution; None to read none.

        `readouts` holds those made so far: engines compare readouts field by field.
        """
        if self.place is None:
            return None
        kind = (id(verdicts), self.verdicts.between)
        if kind not in readouts:
            readouts[kind] = self.verdicts.readout(follow_above=rules.follow_above)
        return replace(item, prefill=self.place, readout=readouts[kind])

    def sample(self, answer: JudgeOutput | Failure | None, rules: ReadingRules) -> MeteredSample:
        """The sample, from the answer to `reading`."""
        turn, stated = self.turn, self.stated
        sample = Sample(
            critique=turn.critique,
            thinking=turn.thinking,
            stated=None if isinstance(stated, Failure) else stated.verdict,
            failure=stated if isinstance(stated, Failure) else None,
            finish_reason=turn.finish_reason,
        )
        if answer is None:
            return MeteredSample(sample, turn.usage)
        read = read_sample(answer, sample, self.verdicts, rules)
        if sample.failure is None:
            sample = read
        elif read.distribution is not None:
            sample = replace(read, failure=None, forced=True)
        return MeteredSample(sample, turn.usage + usage_of(answer))


def _conclude(turn: Turn, verdicts: VerdictSet, rules: ReadingRules) -> _Concluded:
    stated = turn.failure or find_verdict(turn.critique, turn.finish_reason, verdicts)
    place = None
    if isinstance(stated, Stated):
        verdicts = verdicts.separated_by(stated.between) if stated.between else verdicts
        place = turn.up_to(stated.start)
    elif rules.force_verdict and turn.failure is None and stated.reason in WITHOUT_VERDICT:
        place = turn.closed_with(verdicts.verdict_prefix)
    return _Concluded(turn, stated, verdicts, place)


@dataclass(slots=True)
class _Critique:
    """One draw: what the judge is asked for it, and the sample that the answers make."""

    writing: WrittenTurn
    verdicts: VerdictSet
    rules: ReadingRules
    _last: tuple[JudgeOutput | Failure, _Concluded] | None = None

    def follow(
        self, answers: Sequence[JudgeOutput | Failure], readouts: dict[tuple[int, str], ContinuationQuery]
    ) -> JudgeInput | None:
        """The rest of the turn, then the reading of its verdict; None at the end."""
        if (item := self.writing.follow(answers)) is not None:
            return item
        n, concluded = self._concluded(answers)
        if len(answers) > n:
            return None
        return concluded.reading(self.writing.item, self.verdicts, self.rules, readouts)

    def sample(self, answers: Sequence[JudgeOutput | Failure]) -> MeteredSample:
        """The sample, from all the answers."""
        n, concluded = self._concluded(answers)
        return concluded.sample(answers[n] if len(answers) > n else None, self.rules)

    def _concluded(self, answers: Sequence[JudgeOutput | Failure]) -> tuple[int, _Concluded]:
        """How many of the answers make the turn, and what it concludes with."""
        n = self.writing.n_answers(answers)
        if self._last is None or self._last[0] is not answers[n - 1]:
            turn = self.writing.read(answers[:n])
            self._last = answers[n - 1], _conclude(turn, self.verdicts, self.rules)
        return n, self._last[1]


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
