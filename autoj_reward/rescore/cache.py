# SPDX-License-Identifier: Apache-2.0
"""Recompute cached judgments with another parser, verdict set, mass threshold or aggregation.

A whole cache: every stored answer is read by the old and by the new judge. An output file: its requests are
made again and answered from the cache, or from the critiques in its rows. Only reading can change: another
template, wrapper or sampling finds no answers.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from autoj_reward.cache.codec import decode
from autoj_reward.cache.key import HALF, readout_of, sampling_of, segments_hash, wrapper_json
from autoj_reward.cache.store import JudgmentStore, Record
from autoj_reward.engines.replay import MISSING, GroupEngine, StoredReading
from autoj_reward.judge.criteria.tasks import leads_to_criterion
from autoj_reward.judge.samples import ReadingRules, judge_directly, judge_with_critique
from autoj_reward.judge.spec import JudgeSpec, JudgingTask
from autoj_reward.judgments import (
    PairJudgment,
    RatingJudgment,
    RubricJudgment,
    Sample,
    VerdictDistribution,
    aggregate,
)
from autoj_reward.types import JudgeInput, JudgeOutput, Mode

Aggregation = Literal["mean", "vote"]
"""mean: distributions are averaged; vote: each draw counts for its most probable verdict alone."""

_NO_PREFILL = segments_hash(())
_NEXT_TO_NOTHING = 1e-9
"""Changes of a number up to this are rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How answers are read.

    Attributes:
        spec: The judge, for its parser and verdict sets.
        min_mass: Least probability inside the verdict set.
        force_verdict: Whether stored forced verdicts count.
        aggregation: How draws become one distribution.
    """

    spec: JudgeSpec
    min_mass: float
    force_verdict: bool = False
    aggregation: Aggregation = "mean"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The verdict of an answer, or of its K draws, with its number, or the reason of a failure.

    `number` is the expected rating, or the win probability of the completion shown first. With `is_point` it
    comes from the text alone, without log-probabilities.
    """

    verdict: float | str | None = None
    number: float | None = None
    failure: str | None = None
    is_point: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """One judgment before and after.

    Attributes:
        name: A row's line, or the hash of the rendered text.
        mode: direct or critique.
        before: The old judge's outcome.
        after: The new judge's outcome.
    """

    name: str
    mode: Mode
    before: Outcome
    after: Outcome


@dataclass(slots=True)
class Report:
    """Counts of the changes."""

    n: int = 0
    n_verdicts_changed: int = 0
    n_numbers: int = 0
    """Judgments that have a number before and after."""
    n_numbers_changed: int = 0
    shift_sum: float = 0.0
    largest_shift: float = 0.0
    n_gained: int = 0
    n_lost: int = 0
    n_points: int = 0
    verdict_changes: Counter[str] = field(default_factory=Counter)
    failures_before: Counter[str] = field(default_factory=Counter)
    failures_after: Counter[str] = field(default_factory=Counter)

    def add(self, one: Rescored) -> None:
        """Count a judgment."""
        before, after = one.before, one.after
        self.n += 1
        self.failures_before.update([before.failure] if before.failure else [])
        self.failures_after.update([after.failure] if after.failure else [])
        self.n_points += after.is_point
        self.n_gained += before.failure is not None and after.failure is None
        self.n_lost += before.failure is None and after.failure is not None
        if before.verdict != after.verdict:
            self.n_verdicts_changed += 1
            self.verdict_changes[f"{_named(before)} -> {_named(after)}"] += 1
        if before.number is not None and after.number is not None:
            self.n_numbers += 1
            shift = abs(after.number - before.number)
            self.n_numbers_changed += shift > _NEXT_TO_NOTHING
            self.shift_sum += shift
            self.largest_shift = max(self.largest_shift, shift)

    @property
    def mean_shift(self) -> float:
        """Mean absolute change of the number, over judgments that have one before and after."""
        return self.shift_sum / self.n_numbers if self.n_numbers else 0.0

    def as_record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "shift_sum"}
        plain = {name: dict(v) if isinstance(v, Counter) else v for name, v in values.items()}
        return {**plain, "mean_shift": self.mean_shift}


def _named(outcome: Outcome) -> str:
    if outcome.verdict is None:
        return outcome.failure or "none"
    return outcome.verdict if isinstance(outcome.verdict, str) else f"{outcome.verdict:g}"


def rescore_cache(
    store: JudgmentStore, was: Scoring, now: Scoring, *, engine: str | None = None
) -> Iterator[Rescored]:
    """Read every stored answer of a judge again: those with its wrapper.

    The two orders of a pair are two texts, and two results. Answers about criteria are left out: none says
    which rubric it belongs to. A critique about criteria that no reading followed is taken for one of a
    judgment.

    Args:
        store: The cache.
        was: How answers were read.
        now: How they are read now.
        engine: Only this engine's answers, by the beginning of its fingerprint.
    """
    mine = {wrapper_json(was.spec.wrapper), wrapper_json(was.spec.direct_wrapper)}
    records = (
        r
        for r in store.records()
        if r.setup.wrapper in mine and (engine is None or r.setup.engine.startswith(engine))
    )
    for body, same_text in itertools.groupby(records, key=lambda r: r.key[:HALF]):
        by_engine: dict[str, list[Record]] = {}
        for record in same_text:
            by_engine.setdefault(record.setup.engine, []).append(record)
        for group in by_engine.values():
            yield from _rescored(body.hex(), group, was, now)


def _rescored(name: str, group: Sequence[Record], was: Scoring, now: Scoring) -> Iterator[Rescored]:
    readings: list[StoredReading] = []
    texts: dict[int, dict[tuple[bytes, int], JudgeOutput]] = {}
    for record in group:
        readout = readout_of(record.setup.settings)
        output = decode(record.value, readout)
        if readout is not None:
            readings.append(StoredReading(record.prefill, readout, output))
        else:
            texts.setdefault(record.setup.number, {})[record.prefill, record.draw] = output
    if any(_is_of_criterion(r.readout.verdict_prefix, was, now) for r in readings):
        return
    setups = {r.setup.number: r.setup for r in group}
    later_parts = {
        place: output for some in texts.values() for place, output in some.items() if place[0] != _NO_PREFILL
    }
    for number, written in texts.items():
        draws = sorted(draw for prefill, draw in written if prefill == _NO_PREFILL)
        sampling = sampling_of(setups[number].settings)
        if not draws or sampling is None:
            continue
        inputs = [
            JudgeInput(body=(), wrapper=was.spec.wrapper, sampling=sampling, sample_index=k) for k in draws
        ]
        yield from _compared(name, "critique", inputs, GroupEngine(later_parts | written, readings), was, now)
    if readings:
        inputs = [JudgeInput(body=(), wrapper=was.spec.direct_wrapper)]
        yield from _compared(name, "direct", inputs, GroupEngine({}, readings), was, now)


def _is_of_criterion(words: str, was: Scoring, now: Scoring) -> bool:
    """Whether a reading after these words is of a criterion, and not of a judge that uses the same ones."""
    own = {
        task.verdicts.verdict_prefix
        for scoring in (was, now)
        for task in (scoring.spec.rating, scoring.spec.comparison)
        if task is not None
    }
    return leads_to_criterion(words) and words not in own


def _compared(
    name: str, mode: Mode, inputs: Sequence[JudgeInput], engine: GroupEngine, was: Scoring, now: Scoring
) -> Iterator[Rescored]:
    """The judgment by the protocol under which it has a verdict, or as a rating if it has none."""
    tried: list[Rescored] = []
    languages = (None, *(x for x in was.spec.translations if x in now.spec.translations))
    for kind, language in itertools.product(("rating", "comparison"), languages):
        old, new = (getattr(of.spec.in_language(language), kind) for of in (was, now))
        if old is None or new is None or old.listing or new.listing:
            continue
        before = _outcome(inputs, engine, mode, was, old)
        after = _outcome(inputs, engine, mode, now, new)
        if before is None and after is None:
            continue
        gone = Outcome(failure="not read")
        tried.append(Rescored(name=name, mode=mode, before=before or gone, after=after or gone))
    readable = [one for one in tried if one.before.verdict is not None or one.after.verdict is not None]
    yield from (readable or tried)[:1]


def _outcome(
    inputs: Sequence[JudgeInput], engine: GroupEngine, mode: Mode, scoring: Scoring, protocol: JudgingTask
) -> Outcome | None:
    """The outcome of the draws under a protocol; None if the cache has no answers for it."""
    rules = ReadingRules(min_mass=scoring.min_mass, follow_above=0.0, force_verdict=scoring.force_verdict)
    run = judge_directly if mode == "direct" else judge_with_critique
    judged = run(inputs, engine, scoring.spec, [protocol.verdicts] * len(inputs), rules)
    if all(j.sample.failure is not None and j.sample.failure.detail == MISSING for j in judged):
        return None
    samples = [j.sample for j in judged]
    distribution = merged(samples, scoring.aggregation)
    if distribution is None:
        failures = Counter(s.failure.reason.value for s in samples if s.failure is not None)
        return Outcome(failure=failures.most_common(1)[0][0])
    stated = samples[0].stated if len(samples) == 1 else None
    rates = distribution.verdicts[0] not in ("first", "second", "tie")
    number = distribution.expected_rating if rates else distribution.win_prob
    return Outcome(
        verdict=distribution.mode if stated is None else stated,
        number=number,
        is_point=distribution.exactness == "point",
    )


def merged(samples: Sequence[Sample], aggregation: Aggregation) -> VerdictDistribution | None:
    """The aggregated distribution of the draws; None if none has one."""
    readable = [s.distribution for s in samples if s.distribution is not None]
    if aggregation == "vote":
        readable = [
            replace(d, probs=tuple(float(v == d.mode) for v in d.verdicts), exactness="point")
            for d in readable
        ]
    return aggregate(readable)


def with_aggregation(judgment: Any, aggregation: Aggregation) -> Any:
    """A judgment with its draws aggregated in another way.

    Both orders of a pair have equal weight. By a rubric, the draws of each criterion are aggregated, and then
    the criteria by its rule.
    """
    assert isinstance(judgment, RatingJudgment | PairJudgment)
    if aggregation == "mean" or judgment.distribution is None or judgment.by_rule:
        return judgment
    if isinstance(judgment, RubricJudgment):
        return judgment.with_distributions([merged(v.samples, aggregation) for v in judgment.criteria])
    orders = [[s for s in judgment.samples if s.swapped is swapped] for swapped in (False, True)]
    voted = [d for samples in orders if (d := merged(samples, aggregation)) is not None]
    return replace(judgment, distribution=aggregate(voted))
