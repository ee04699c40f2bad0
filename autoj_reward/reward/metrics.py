# SPDX-License-Identifier: Apache-2.0
"""Per-call reward metrics for trainer logs."""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from autoj_reward.reward.plan import ALONE, CompletionScore
from autoj_reward.statistics import correlation


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRow:
    """A row of the table of judgments.

    Attributes:
        prompt: As the judge saw it.
        completion: Likewise.
        critique: The judge's words, or None in direct mode.
        raw: Its rating, or its win probability; None with a failure.
        reward: What the trainer got.
        reason: Why there is no verdict, or None.
    """

    prompt: str
    completion: str
    critique: str | None
    raw: float | None
    reward: float | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallReport:
    """One call of a reward.

    Attributes:
        rows: The completions of this process, in order.
        metrics: Name to value; a metric without a value in this call is left out.
        logged: Whether the trainer took the metrics itself.
    """

    rows: tuple[JudgedRow, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    logged: bool = False


class ReportLog:
    """The latest reports, until they are taken. Safe to use from threads.

    Args:
        n_reports: Reports kept at most.
        n_rows: Rows kept at most, of the latest reports: a run may never take them.
    """

    def __init__(self, n_reports: int = 1000, n_rows: int = 2000) -> None:
        self._reports: deque[CallReport] = deque(maxlen=n_reports)
        self._n_rows = n_rows
        self._lock = threading.Lock()

    def add(self, report: CallReport) -> None:
        """Keep a report."""
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
        """All that is kept, oldest first; each is given once."""
        with self._lock:
            reports = list(self._reports)
            self._reports.clear()
        return reports


def failure_counts(outcomes: Sequence[CompletionScore]) -> dict[str, int]:
    """Failures by reason. A completion that was alone is none: nothing was judged."""
    return dict(Counter(o.reason for o in outcomes if o.reason is not None and o.reason != ALONE))


def failure_metrics(outcomes: Sequence[CompletionScore]) -> dict[str, float]:
    """The share of completions without a verdict, in [0, 1]: in all, and for each reason that there was."""
    counts = failure_counts(outcomes)
    n = max(len(outcomes), 1)
    shares = {f"failures/{reason}": number / n for reason, number in sorted(counts.items())}
    return {"failure_share": sum(counts.values()) / n, **shares}


def mean_metrics(reports: Sequence[CallReport]) -> dict[str, float]:
    """Each metric's mean over the reports that have it; `seconds` are added up."""
    values: dict[str, list[float]] = {}
    for report in reports:
        for name, value in report.metrics.items():
            values.setdefault(name, []).append(value)
    return {
        name: math.fsum(found) if name == "seconds" else math.fsum(found) / len(found)
        for name, found in values.items()
    }


def length_correlation(lengths: Sequence[int], outcomes: Sequence[CompletionScore]) -> float | None:
    """Correlation of the judge's raw value with completion length, over what was judged.

    Near 1 the judge may pay for length alone. See `correlation` for None.
    """
    known = [(n, o.raw) for n, o in zip(lengths, outcomes, strict=True) if o.raw is not None]
    return correlation([float(n) for n, _ in known], [raw for _, raw in known])
