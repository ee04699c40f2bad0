# SPDX-License-Identifier: Apache-2.0
"""Records of a row run: its items and results, the task, the settings and the totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from autoj_reward.errors import DataError, TooManyFailures
from autoj_reward.judgments import Judgment, PairJudgment, RatingJudgment
from autoj_reward.progress import RunProgress
from autoj_reward.ranking.strategies import Strategy
from autoj_reward.rows.fields import RowFormat
from autoj_reward.rows.source import Row
from autoj_reward.types import EngineStats, Request, Usage

_LEAST_FOR_LIMIT = 64
"""With fewer judgments the share of failures says little."""


@dataclass(frozen=True, slots=True)
class RowItem:
    """A row that passed the check, with its requests."""

    line: int
    row: Row
    requests: list[Request]


@dataclass(frozen=True, slots=True)
class RowResult:
    """The result of a row.

    Attributes:
        added: The fields that are added to the row.
        judgments: What they were made from.
        explanations: Judgments made for their critiques only; they cost tokens and are not in the reward.
    """

    added: Row
    judgments: Sequence[Judgment]
    explanations: Sequence[Judgment] = ()


class RowExpansion(Protocol):
    """Turns what was added to a row into the output's rows, and counts them."""

    def add(self, added: Row) -> Iterable[Row]:
        """The output's rows for one input row."""
        ...

    def as_record(self) -> Row:
        """The counts, for the run's record."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTask:
    """How the rows of a file are judged.

    Attributes:
        label: The command's name.
        row_format: Where rows keep their prompt and completions.
        optional: Which of `rubric`, `reference` and `language` the judge takes.
        check: Raises TemplateError if a request does not fit the template.
        judge: Judges the items of a chunk; one result for each, in order.
        added_fields: The fields that are added to a row; they replace the row's fields of those names.
        inputs_per_request: Inputs to the model for each request; None if the strategy decides.
        strategy: How each group is ranked; None if each request is judged by itself.
        expansion: Turns a row into several or none; None adds the fields to the row.
        further: What is asked besides, for the plan of the run; empty for nothing.
    """

    label: str
    row_format: RowFormat
    optional: frozenset[str]
    check: Callable[[Sequence[Request]], None]
    judge: Callable[[Sequence[RowItem]], list[RowResult]]
    added_fields: Sequence[str] = ()
    inputs_per_request: int | None = 1
    strategy: Strategy | None = None
    expansion: RowExpansion | None = None
    further: str = ""


@dataclass(slots=True)
class Summary:
    """Totals of a run, for its last line and its record."""

    n_rows: int = 0
    n_resumed: int = 0
    n_failed_rows: int = 0
    """Rows of which every judgment failed, those that an interrupted run wrote included."""
    n_judgments: int = 0
    n_explanations: int = 0
    n_cut: int = 0
    n_forced: int = 0
    n_contradicted: int = 0
    seconds: float = 0.0
    loading_seconds: float = 0.0
    """The part of `seconds` until the judge was loaded."""
    verdicts: Counter[str] = field(default_factory=Counter)
    """Judgments by verdict: the rating, or first, second or tie."""
    rewards: Counter[Any] = field(default_factory=Counter)
    """Sums of rewards of ratings and of win probabilities, and how many of each: `reward`, `n reward`, ..."""
    failures: Counter[str] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)
    """Of all judgments; with a cache, only what this run spent."""
    spending: EngineStats | None = None

    @property
    def reasons(self) -> str:
        """The failures by reason: `3 too_long, 1 unparsed`."""
        return ", ".join(f"{n:,} {reason}" for reason, n in self.failures.most_common())

    def means(self) -> dict[str, float]:
        """Mean `reward` of the ratings, and mean `win_prob` of the first completion in comparisons."""
        counted = {name: self.rewards[f"n {name}"] for name in ("reward", "win_prob")}
        return {name: self.rewards[name] / n for name, n in counted.items() if n}

    def _count_verdict(self, judgment: Judgment) -> None:
        if isinstance(judgment, RatingJudgment) and judgment.rating is not None:
            self.verdicts[f"{judgment.rating:g}"] += 1
            self.rewards.update({"n reward": 1, "reward": judgment.reward})
        elif isinstance(judgment, PairJudgment) and judgment.preference is not None:
            self.verdicts[judgment.preference] += 1
            self.rewards.update({"n win_prob": 1, "win_prob": judgment.reward})

    def add(self, finished: Sequence[RowResult]) -> None:
        """Count a chunk."""
        self.n_failed_rows += sum(
            bool(f.judgments) and all(j.failure is not None for j in f.judgments) for f in finished
        )
        for judgment in (j for f in finished for j in f.judgments):
            self.n_judgments += 1
            self.usage += judgment.usage
            self.n_cut += any(judgment.provenance.cut_chars)
            self.n_forced += judgment.n_forced
            self.n_contradicted += judgment.n_contradicted
            self._count_verdict(judgment)
            if judgment.failure is not None:
                self.failures[judgment.failure.reason.value] += 1
        for explanation in (j for f in finished for j in f.explanations):
            self.n_explanations += 1
            self.usage += explanation.usage

    def merge(self, other: Summary) -> None:
        """Add the counts of another part of the run, except its rows."""
        self.n_failed_rows += other.n_failed_rows
        self.n_judgments += other.n_judgments
        self.n_explanations += other.n_explanations
        self.n_cut += other.n_cut
        self.n_forced += other.n_forced
        self.n_contradicted += other.n_contradicted
        self.verdicts += other.verdicts
        self.rewards.update(other.rewards)
        self.failures += other.failures
        self.usage += other.usage

    def as_record(self) -> dict[str, Any]:
        """For the run's record file."""
        spending = self.spending
        cached = {} if spending is None else {"from_cache": spending.n_cached, "asked": spending.n_asked}
        return {
            "rows": self.n_rows,
            "failed_rows": self.n_failed_rows,
            "judgments": self.n_judgments,
            "failures": dict(self.failures),
            "forced": self.n_forced,
            "contradicted": self.n_contradicted,
            "verdicts": dict(self.verdicts),
            **{f"mean_{name}": round(mean, 6) for name, mean in self.means().items()},
            "seconds": round(self.seconds, 3),
            "loading_seconds": round(self.loading_seconds, 3),
            "prompt_tokens": self.usage.prompt_tokens,
            "cached_tokens": self.usage.cached_tokens,
            "completion_tokens": self.usage.completion_tokens,
            **cached,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How rows are read and written.

    Attributes:
        split: Of a data set.
        skip_bad: Write bad rows to OUT.bad.jsonl; otherwise they stop the run before it begins.
        overwrite: Replace an existing output; otherwise an interrupted one is continued.
        max_failures: Largest share of judgments that may fail, in [0, 1].
        chunk_requests: Requests judged, and then written, at a time.
    """

    split: str = "train"
    skip_bad: bool = False
    overwrite: bool = False
    max_failures: float = 1.0
    chunk_requests: int = 1024


class RunListener:
    """Callbacks of a run. These ignore everything; override what you need."""

    def note(self, text: str) -> None:
        """One line about the run."""

    def bad_rows(self, problems: Sequence[DataError]) -> None:
        """What is wrong with the input's rows."""

    def judge_known(self, facts: Mapping[str, str]) -> None:
        """Who judges, before the first chunk."""

    def judged(self, items: Sequence[RowItem], results: Sequence[RowResult]) -> None:
        """A chunk is written."""

    def finished(self, summary: Summary) -> None:
        """The output is complete; not called if a former run had completed it."""

    def progress(
        self, label: str, total: int, status: Callable[[], str], loaded: Callable[[], bool]
    ) -> RunProgress:
        """A progress display for `total` requests; `loaded` is whether the judge is loaded."""
        return RunProgress(label, total, quiet=True)


def refuse_no_verdict(summary: Summary) -> None:
    """Raise TooManyFailures if every row failed."""
    if summary.n_rows and summary.n_failed_rows >= summary.n_rows:
        reasons = f" ({summary.reasons})" if summary.failures else ""
        raise TooManyFailures(
            f"no row has a verdict: all {summary.n_rows:,} failed{reasons}",
            hint="look at the rows' 'failure' fields; --retry-failed judges them again",
        )


def stop_past(limit: float, summary: Summary) -> None:
    """Raise TooManyFailures if the share of failed judgments is over the limit."""
    failed = summary.failures.total()
    if summary.n_judgments >= _LEAST_FOR_LIMIT and failed > limit * summary.n_judgments:
        raise TooManyFailures(
            f"{failed} of {summary.n_judgments} judgments failed ({summary.reasons}), more than {limit:.0%}",
            hint="look at the rows' 'failure' fields; --max-failures sets the limit",
        )


def without_verdict(row: Row) -> bool:
    """Whether every judgment of an output row failed."""
    ranking: Any = row.get("ranking")
    if isinstance(ranking, list) and ranking:
        return all(isinstance(entry, dict) and entry.get("failure") is not None for entry in ranking)
    return row.get("failure") is not None


def has_failed(row: Row) -> bool:
    """Whether an output row holds a failure, its own or one in its ranking."""
    ranking: Any = row.get("ranking") or ()
    return row.get("failure") is not None or any(c.get("failure") is not None for c in ranking)
