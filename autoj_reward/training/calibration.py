# SPDX-License-Identifier: Apache-2.0
"""Fit a temperature so that a judge's probabilities match how often it is right.

Each order's distribution p becomes p^(1/T), normalised, before orders are averaged. T does not change
what a single order finds most probable; it is fitted by the likelihood of the labels (Guo et al. 2017,
arXiv 1706.04599).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.judge.judge import Judge
from autoj_reward.judgments import PREFERENCES, Judgment, Preference, Verdict
from autoj_reward.rows.fields import RowProblem, message_field
from autoj_reward.rows.source import Row
from autoj_reward.statistics import Share, calibration_error
from autoj_reward.types import Text

_LEAST, _MOST = 0.05, 20.0
"""Range of the fit. A result at the border means that the probabilities say little about the labels."""

_FLOOR = 1e-12
"""Least probability of a label, so that a single 0 does not decide the fit."""

_RESAMPLES = 500

LEAST_ROWS = 20
"""Labelled judgments that a fit needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """One request with the verdict that people gave it; two completions make it a comparison."""

    prompt: Text
    completions: tuple[Text, ...]
    label: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The fitted temperature of one verdict set, and the calibration before and after.

    Attributes:
        protocol: `rating` or `comparison`.
        n: Labelled judgments of the fit.
        n_left_out: Judgments without a verdict, decided by a rule, or with a label that the judge does not
            know (a tie of two outcomes).
        temperature: To be stored with the judge: its present temperature times the fitted one.
        log_loss: Mean negative log-likelihood of the labels in nats, before and after.
        error_before: Expected calibration error in [0, 1] before, with its 95% interval.
        error_after: The same after; each half of the rows is scaled by the fit of the other half.
        accuracy: Share of rows whose most probable verdict is the label, in [0, 1].
    """

    protocol: str
    n: int
    n_left_out: int
    temperature: float
    log_loss: tuple[float, float]
    error_before: Share
    error_after: Share
    accuracy: float


def labelled_rows(rows: Iterable[tuple[int, Row]], *, path: str = "") -> list[Labelled]:
    """Rows with `prompt`, `completion`, `rating`, or `prompt`, `first`, `second`, `preference`.

    A preference is `first`, `second`, `tie`, or 0, 1, 2.

    Raises:
        DataError: A row is neither; names the line.
    """
    found = []
    for line, row in rows:
        names = ("completion",) if "completion" in row else ("first", "second")
        if missing := [name for name in ("prompt", *names) if name not in row]:
            raise DataError(
                "prompt and completion, or prompt, first and second are needed",
                path=path,
                line=line,
                field=missing[0],
            )
        try:
            prompt = message_field(row, "prompt", prompt=True)
            completions = tuple(message_field(row, name) for name in names)
        except RowProblem as problem:
            raise problem.at(path, line) from problem
        label = _rating(row.get("rating")) if len(names) == 1 else _preference(row.get("preference"))
        if label is None:
            wanted = "rating (a number)" if len(names) == 1 else "preference (first, second or tie)"
            raise DataError(f"{wanted} is needed", path=path, line=line)
        found.append(Labelled(prompt=prompt, completions=completions, label=label))
    return found


def _rating(value: object) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(cast(float, value)) if known else None


def _preference(value: object) -> Preference | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return PREFERENCES[value] if 0 <= value < len(PREFERENCES) else None
    return next((p for p in PREFERENCES if p == value), None)


def judge_labelled(judge: Judge, rows: Sequence[Labelled]) -> list[Judgment]:
    """Judgments of rows of one kind, in the same order."""
    prompts = [r.prompt for r in rows]
    columns = list(zip(*(r.completions for r in rows), strict=True))
    if len(columns) == 1:
        return list(judge.rate(prompts, columns[0]))
    return list(judge.compare(prompts, columns[0], columns[1]))


def calibrate(
    judgments: Sequence[Judgment], labels: Sequence[Verdict], *, own: float = 1.0, seed: int = 0
) -> Calibration:
    """Fit a temperature.

    Args:
        judgments: B judgments by one protocol.
        labels: B labels. A rating that is not on the judge's scale counts as the nearest one that is.
        own: The temperature that the judge already applies.
        seed: Seed of the halves and the intervals.

    Raises:
        ConfigError: Fewer than 20 judgments have a verdict.
    """
    read = [
        (j, label)
        for j, label in zip(judgments, labels, strict=True)
        if j.distribution is not None and not j.by_rule
    ]
    refuse_graded(read)
    # A judge of two outcomes says nothing about a tie.
    read = [(j, label) for j, label in read if not isinstance(label, str) or label in _verdicts(j)]
    if len(read) < LEAST_ROWS:
        raise ConfigError(f"only {len(read)} judgments have a verdict; a fit needs at least 20")
    verdicts = _verdicts(read[0][0])
    probs = _orders([j for j, _ in read])
    wanted = np.array([place(label, verdicts) for _, label in read])
    fitted = fit_temperature(probs, wanted)
    # Each half is scaled by the fit of the other half, so that "after" is not measured on its own fit.
    rng = np.random.default_rng(seed)
    half = rng.permutation(len(read)) % 2 == 0
    after = np.where(
        half[:, None],
        scaled(probs, fit_temperature(probs[~half], wanted[~half])),
        scaled(probs, fit_temperature(probs[half], wanted[half])),
    )
    before = scaled(probs, 1.0)
    return Calibration(
        protocol="rating" if isinstance(verdicts[0], float) else "comparison",
        n=len(read),
        n_left_out=len(judgments) - len(read),
        temperature=own * fitted,
        log_loss=(_log_loss(before, wanted), _log_loss(after, wanted)),
        error_before=_error(before, wanted, seed),
        error_after=_error(after, wanted, seed),
        accuracy=float((before.argmax(axis=1) == wanted).mean()),
    )


def refuse_graded(read: Iterable[tuple[Judgment, Verdict]]) -> None:
    """Raise ConfigError if a judgment with a verdict is a graded comparison."""
    if any(isinstance(label, str) and isinstance(_verdicts(j)[0], float) for j, label in read):
        raise ConfigError(
            "a graded comparison cannot be calibrated: labels say which completion is better, and no grade"
        )


def _verdicts(judgment: Judgment) -> tuple[Verdict, ...]:
    assert judgment.distribution is not None  # those without were left out
    return judgment.distribution.verdicts


def fit_temperature(probs: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The temperature in [0.05, 20] under which the labels are most probable.

    Args:
        probs: (B, S, V) distribution of each sample; nan for samples that a judgment lacks.
        labels: (B,) indices in the verdict set.
    """
    low, high = math.log(_LEAST), math.log(_MOST)
    # The loss is not convex in log T: a coarse grid finds the valley, golden section search its minimum.
    grid = np.linspace(low, high, 41)
    losses = [_log_loss(scaled(probs, math.exp(t)), labels) for t in grid]
    at = int(np.argmin(losses))
    a, b = float(grid[max(at - 1, 0)]), float(grid[min(at + 1, len(grid) - 1)])
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(40):
        c, d = b - ratio * (b - a), a + ratio * (b - a)
        if _log_loss(scaled(probs, math.exp(c)), labels) < _log_loss(scaled(probs, math.exp(d)), labels):
            b = d
        else:
            a = c
    return math.exp((a + b) / 2)


def scaled(probs: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Distributions at a temperature, samples averaged: (B, S, V), nan if missing, to (B, V)."""
    with np.errstate(divide="ignore"):
        logs = np.log(probs) / temperature
    weights = np.exp(logs - logs.max(axis=2, keepdims=True))
    averaged: NDArray[np.float64] = np.nanmean(weights / weights.sum(axis=2, keepdims=True), axis=1)
    return averaged


def _error(averaged: NDArray[np.float64], labels: NDArray[np.int64], seed: int) -> Share:
    confidence, right = averaged.max(axis=1), averaged.argmax(axis=1) == labels
    rng = np.random.default_rng(seed)
    n = len(labels)
    drawn = [
        calibration_error(confidence[i], right[i]) for i in (rng.integers(0, n, n) for _ in range(_RESAMPLES))
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Share(calibration_error(confidence, right), float(low), float(high), n)


def _log_loss(averaged: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return float(-np.log(np.maximum(averaged[np.arange(len(labels)), labels], _FLOOR)).mean())


def _orders(judgments: Sequence[Judgment]) -> NDArray[np.float64]:
    """Probabilities of each readable sample, (B, S, V), padded with nan."""
    read = [[s.distribution.probs for s in j.samples if s.distribution is not None] for j in judgments]
    probs = np.full((len(read), max(map(len, read)), len(read[0][0])), np.nan)
    for row, own in zip(probs, read, strict=True):
        row[: len(own)] = own
    return probs


def place(label: Verdict, verdicts: Sequence[Verdict]) -> int:
    """The label's index among the verdicts; of a rating that of the nearest one."""
    if isinstance(label, str):
        return verdicts.index(label)
    return min(range(len(verdicts)), key=lambda i: abs(float(verdicts[i]) - label))
