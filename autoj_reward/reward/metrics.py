# SPDX-License-Identifier: Apache-2.0
"""Per-call reward metrics for trainer logs."""

from __future__ import annotations

import math
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from autoj_reward.reward.plan import ALONE, RawScore
from autoj_reward.statistics import correlation


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRow:
    """One judged completion, for logs.

    Attributes:
        prompt: As the judge saw it.
        completion: Likewise.
        critique: The judge's critique; None in direct mode.
        raw: Rating or win probability; None with a failure.
        reward: What the trainer got.
        reason: Reason of a failure, or None.
        columns: The dataset's columns of the row, if the reward keeps them (`BatchReward.keep_columns`).
    """

    prompt: str
    completion: str
    critique: str | None
    raw: float | None
    reward: float | None
    reason: str | None
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallReport:
    """One call of a reward.

    Attributes:
        rows: The completions of this process, in order.
        metrics: Values by name; those undefined for this call are left out.
        logged: Whether the trainer logged the metrics itself.
    """

    rows: tuple[JudgedRow, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    logged: bool = False


class ReportLog:
    """A thread-safe buffer of the latest reports and, of the latest of these, `n_rows` rows."""

    def __init__(self, n_reports: int = 1000, n_rows: int = 2000) -> None:
        self._reports: deque[CallReport] = deque(maxlen=n_reports)
        self._n_rows = n_rows
        self._lock = threading.Lock()

    def add(self, report: CallReport) -> None:
        """Add a report; drop what is over the limits, oldest first."""
        with self._lock:
            self._reports.append(report)
            left = self._n_rows
            for n in reversed(range(len(self._reports))):
                rows = self._reports[n].rows
                if not rows:
                    break
                if left < len(rows) and n < len(self._reports) - 1:
                    self._reports[n] = replace(self._reports[n], rows=())
                left -= len(rows)

    def take(self) -> list[CallReport]:
        """Remove and return all reports, oldest first."""
        with self._lock:
            reports = list(self._reports)
            self._reports.clear()
        return reports


def failure_counts(scores: Sequence[RawScore]) -> dict[str, int]:
    """Failures by reason. A completion that was alone in its group does not count."""
    return dict(Counter(s.reason for s in scores if s.reason is not None and s.reason != ALONE))


def failure_metrics(scores: Sequence[RawScore]) -> dict[str, float]:
    """Share of completions without a verdict, in [0, 1]: in total and by reason."""
    counts = failure_counts(scores)
    n = max(len(scores), 1)
    shares = {f"failures/{reason}": number / n for reason, number in sorted(counts.items())}
    return {"failure_share": sum(counts.values()) / n, **shares}


def mean_metrics(reports: Sequence[CallReport]) -> dict[str, float]:
    """Each metric's mean over the reports that have it; the sum for `seconds`."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for report in reports:
        for name, value in report.metrics.items():
            values[name].append(value)
    return {name: math.fsum(v) if name == "seconds" else math.fsum(v) / len(v) for name, v in values.items()}


def length_correlation(lengths: Sequence[int], scores: Sequence[RawScore]) -> float | None:
    """Correlation of raw values with completion length; failures are left out. See `correlation` for None.

    Near 1 the judge may reward length alone.
    """
    known = [(n, s.raw) for n, s in zip(lengths, scores, strict=True) if s.raw is not None]
    return correlation([float(n) for n, _ in known], [raw for _, raw in known])
