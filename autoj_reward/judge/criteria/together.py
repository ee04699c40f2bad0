# SPDX-License-Identifier: Apache-2.0
"""Judge the criteria of calls: one call each, or several criteria in one.

In direct mode the verdicts of a call are read one after the other, the most probable one of each written
before the next; a verdict that cannot be read is left out of what is written. In critique mode the judge
writes once, and each verdict is found and read at its own place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from autoj_reward.engines import Engine
from autoj_reward.judge.generation import write
from autoj_reward.judge.requests import PreparedRequest
from autoj_reward.judge.samples import MeteredSample, judge_directly, read_verdicts
from autoj_reward.judge.settings import JudgeSettings
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.judge.verdict import VerdictSet
from autoj_reward.types import JudgeInput, Usage


@dataclass(slots=True)
class _Call:
    """One input of the judge, the verdict sets of its criteria, and what was read so far."""

    item: JudgeInput
    sets: list[VerdictSet]
    read: list[MeteredSample] = field(default_factory=list)
    written: str = ""

    @property
    def next_set(self) -> VerdictSet:
        """The verdicts of the next criterion, after those that are written."""
        own = self.sets[len(self.read)]
        return own if not self.written else replace(own, verdict_prefix=self.written + own.verdict_prefix)

    def add(self, sample: MeteredSample) -> None:
        """Keep the next criterion's verdict, and write it before those that follow."""
        own = self.sets[len(self.read)]
        self.read.append(sample)
        if sample.sample.distribution is not None:
            stated = own.text_of(sample.sample.distribution.mode)
            self.written += f"{own.verdict_prefix}{stated}{own.closing}\n"


def judge_criteria(
    requests: Sequence[PreparedRequest], spec: JudgeSpec, settings: JudgeSettings, engine: Engine
) -> list[list[MeteredSample]]:
    """K samples of every request, each about one criterion.

    Requests about the same completion and the same criteria are one call. The tokens of a critique are
    counted on the call's first criterion.
    """
    calls: dict[object, list[_Call]] = {}
    keys = []
    wrapper = spec.direct_wrapper if settings.mode == "direct" else spec.wrapper
    for prepared in requests:
        assert prepared.call is not None
        # Two equal requests are two calls, as they are where nothing is shared.
        key = (id(prepared.request), prepared.call.criteria)
        keys.append(key)
        if key not in calls:
            body = prepared.body()
            sets = [replace(prepared.call, place=n).task.verdicts for n in range(len(prepared.call.criteria))]
            calls[key] = [
                _Call(
                    JudgeInput(body=body, wrapper=wrapper, sampling=settings.sampling, sample_index=k), sets
                )
                for k in range(settings.n_samples)
            ]
    every = [call for own in calls.values() for call in own]
    (_read_directly if settings.mode == "direct" else _read_critiques)(every, spec, settings, engine)
    return [
        [call.read[prepared.call.place] for call in calls[key]]  # type: ignore[union-attr]
        for prepared, key in zip(requests, keys, strict=True)
    ]


def _read_directly(calls: Sequence[_Call], spec: JudgeSpec, settings: JudgeSettings, engine: Engine) -> None:
    while left := [call for call in calls if len(call.read) < len(call.sets)]:
        sets = [call.next_set for call in left]
        samples = judge_directly([call.item for call in left], engine, spec, sets, settings.rules)
        for call, sample in zip(left, samples, strict=True):
            call.add(sample)


def _read_critiques(calls: Sequence[_Call], spec: JudgeSpec, settings: JudgeSettings, engine: Engine) -> None:
    turns = write([call.item for call in calls], engine, spec.thinking)
    places = [(call, turn, n) for call, turn in zip(calls, turns, strict=True) for n in range(len(call.sets))]
    read = read_verdicts(
        [call.item for call, _, _ in places],
        [turn if n == 0 else replace(turn, usage=Usage()) for _, turn, n in places],
        engine,
        [call.sets[n] for call, _, n in places],
        settings.rules,
    )
    for (call, _, _), sample in zip(places, read, strict=True):
        call.read.append(sample)
