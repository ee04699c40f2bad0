# SPDX-License-Identifier: Apache-2.0
"""Engines that replay stored readings or critiques, without a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from autoj_reward.cache.codec import decode
from autoj_reward.cache.key import HALF, Setup, parts_of, readout_of, segments_hash
from autoj_reward.cache.store import JudgmentStore
from autoj_reward.types import (
    ContinuationLogprobs,
    ContinuationQuery,
    Failure,
    FailureReason,
    FinishReason,
    JudgeInput,
    JudgeOutput,
)

MISSING = "this answer is not in the cache"
"""Detail of the failure of an input without a stored output."""


@dataclass(frozen=True, slots=True)
class StoredReading:
    """A stored reading with its readout and the hash of its prefill."""

    prefill: bytes
    readout: ContinuationQuery
    output: JudgeOutput


class ReplayEngine:
    """Answers from a store without a model.

    A reading of more verdicts answers for a subset of them, so another verdict set can be replayed if its
    verdicts were read.

    Args:
        store: The store.
        fingerprint: Of the engine that gave the outputs.
        points: Whether a verdict that a critique states, and that was not read, counts as certain (a point).
            False makes it a failure.
    """

    def __init__(self, store: JudgmentStore, fingerprint: str, *, points: bool) -> None:
        self.fingerprint = fingerprint
        self.n_replayed = 0
        """Outputs found."""
        self.n_missing = 0
        """Outputs not found."""
        self.n_points = 0
        """Stated verdicts without a reading."""
        self._store = store
        self._points = points

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Stored answers; a `Failure` for each that is missing."""
        parts = parts_of(inputs, self.fingerprint)
        found = self._store.get([part.key for part in parts])
        answers: list[JudgeOutput | Failure] = []
        for item, part in zip(inputs, parts, strict=True):
            output: JudgeOutput | None = None
            if part.key in found:
                output = decode(found[part.key], item.readout)
            elif item.readout is not None:
                output = covering(self._readings(part.key[:HALF], part.setup), part.prefill, item.readout)
            if output is not None:
                self.n_replayed += 1
            elif item.readout is not None and self._points:
                self.n_points += 1
                output = UNREAD
            else:
                self.n_missing += 1
            answers.append(output or Failure(reason=FailureReason.ENGINE, detail=MISSING))
        return answers

    def close(self) -> None:
        """The store stays open."""

    def _readings(self, body: bytes, setup: Setup) -> Iterable[StoredReading]:
        for record in self._store.records(body=body):
            same = (record.setup.engine, record.setup.wrapper) == (setup.engine, setup.wrapper)
            readout = readout_of(record.setup.settings) if same else None
            if readout is not None:
                yield StoredReading(record.prefill, readout, decode(record.value, readout))


class GroupEngine:
    """Answers from the stored outputs for one text.

    Args:
        texts: Generated texts by prefill hash and draw.
        readings: Readings.
    """

    fingerprint = "replay"

    def __init__(
        self, texts: Mapping[tuple[bytes, int], JudgeOutput], readings: Sequence[StoredReading]
    ) -> None:
        self._texts = texts
        self._readings = readings

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Stored outputs; a stated verdict without a reading is a point."""
        return [self._answer(item) for item in inputs]

    def close(self) -> None:
        """Nothing is held open."""

    def _answer(self, item: JudgeInput) -> JudgeOutput | Failure:
        prefill = segments_hash(item.prefill)
        if item.readout is None:
            output = self._texts.get((prefill, item.sample_index))
        else:
            output = covering(self._readings, prefill, item.readout)
            if output is None and self._texts:
                output = UNREAD
        return output or Failure(reason=FailureReason.ENGINE, detail=MISSING)


class CritiqueEngine:
    """Returns given critiques in the order of the inputs, and no readings.

    Args:
        critiques: For each input its text and finish reason.
    """

    fingerprint = "critiques"

    def __init__(self, critiques: Sequence[tuple[str, FinishReason]]) -> None:
        self._critiques = critiques

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """The critiques; for readouts, an output without a reading."""
        if inputs and inputs[0].readout is not None:
            return [UNREAD] * len(inputs)
        return [
            JudgeOutput(text=text, finish_reason=finish)
            for (text, finish), _ in zip(self._critiques, inputs, strict=True)
        ]

    def close(self) -> None:
        """Nothing is held open."""


UNREAD = JudgeOutput(text="", finish_reason="read")
"""The output for a readout without a reading: the stated verdict then counts as certain."""


def covering(
    readings: Iterable[StoredReading], prefill: bytes, wanted: ContinuationQuery
) -> JudgeOutput | None:
    """A reading after the same prefill that has every wanted verdict, reduced to them; None without one.

    Of several, the one with the lowest `follow_above`. Its `unread_prob` stays a valid bound for fewer
    verdicts.
    """
    fitting = [
        r
        for r in readings
        if r.prefill == prefill
        and r.output.reading is not None
        and replace(r.readout, continuations=(), follow_above=0.0)
        == replace(wanted, continuations=(), follow_above=0.0)
        and set(r.readout.continuations) >= set(wanted.continuations)
    ]
    if not fitting:
        return None
    best = min(fitting, key=lambda r: r.readout.follow_above).output
    assert best.reading is not None
    by_text = {path.text: path for path in best.reading.paths}
    paths = tuple(by_text[text] for text in wanted.continuations)
    return replace(best, reading=ContinuationLogprobs(paths=paths, unread_prob=best.reading.unread_prob))
