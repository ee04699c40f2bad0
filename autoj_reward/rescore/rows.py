# SPDX-License-Identifier: Apache-2.0
"""Recompute the judgments of an output file from the cache or from the critiques in its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from autoj_reward.criteria.rubric import Rubric
from autoj_reward.engines import Engine
from autoj_reward.engines.replay import MISSING, CritiqueEngine
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.judge.judge import Judge
from autoj_reward.judgments import Judgment, PairJudgment, RatingJudgment, RubricJudgment
from autoj_reward.rescore.cache import Aggregation, Outcome, Rescored, with_aggregation
from autoj_reward.rows.fields import Kind, RowFormat
from autoj_reward.rows.records import RowItem, RowTask
from autoj_reward.rows.source import Row
from autoj_reward.rows.tasks import compare_task, rate_task, rerank_task
from autoj_reward.types import Mode, Request

_MARKS: tuple[tuple[str, Kind], ...] = (("ranking", "rerank"), ("win_prob", "compare"), ("rating", "rate"))


def kind_of(row: Row, name: str) -> Kind:
    """Which command wrote a row.

    Raises:
        DataError: None did.
    """
    if row.get("strategy") not in (None, "pointwise"):
        raise DataError(
            f"was ranked by {row['strategy']}, which is not rescored",
            path=name,
            hint="run rerank again: its judgments come from the cache",
        )
    source = row.get("source")
    if "mode" not in row and isinstance(source, dict) and "template" in source:
        raise DataError(
            "is an output of label: preference data, which holds no judgments",
            path=name,
            hint="rescore outputs of rate, compare or rerank, or label again: its judgments are in the cache",
        )
    for mark, kind in _MARKS:
        if mark in row:
            return kind
    raise DataError("is not an output of rate, compare or rerank", path=name)


def mode_of(row: Row) -> Mode | None:
    """The mode in which a row was judged; None if the row does not name it."""
    mode = row.get("mode")
    return cast(Mode, mode) if mode in ("direct", "critique") else None


def has_flags(row: Row) -> bool:
    """Whether a row was judged with a guard."""
    entries = row.get("ranking") or [row]
    return any(entry.get("flags") is not None for entry in entries)


def is_by_criteria(row: Row) -> bool:
    """Whether a row was judged by a rubric of criteria; an input's own column `criteria` has no spread."""
    entries = row.get("ranking") or [row]
    return any(isinstance(entry.get("criteria"), list) and "spread" in entry for entry in entries)


class RescoringJudge(Judge):
    """A judge whose draws may be aggregated in another way."""

    aggregation: Aggregation = "mean"

    def rate_requests(self, requests: Sequence[Request]) -> list[RatingJudgment]:
        return [with_aggregation(j, self.aggregation) for j in super().rate_requests(requests)]

    def compare_requests(self, requests: Sequence[Request]) -> list[PairJudgment]:
        return [with_aggregation(j, self.aggregation) for j in super().compare_requests(requests)]


def judge_on(judge: Judge, engine: Engine, *, aggregation: Aggregation) -> Judge:
    """The same judge on another engine."""
    made = RescoringJudge(judge.spec, judge.settings, engine)
    made.aggregation = aggregation
    return made


def rescore_rows(items: Sequence[RowItem], kind: Kind, judge: Judge) -> Iterator[tuple[Row, Rescored | None]]:
    """Read rows again through a judge on a replaying engine.

    Gives for each row the new one and the change, or the old one and None if it cannot be replayed.
    """
    # Ties stay those of the engine that judged: a replayed answer does not say its dtype.
    ties = next((item.row["resolution"] for item in items if "resolution" in item.row), None)
    make: Callable[[Judge, RowFormat], RowTask] = {
        "rate": rate_task,
        "compare": compare_task,
        "rerank": lambda j, f: rerank_task(j, f, critiques="none", resolution=ties),
    }[kind]
    # The items have their requests already, so the format is not used.
    finished = make(judge, RowFormat(completions=())).judge(items)
    for item, done in zip(items, finished, strict=True):
        if any(map(_is_missing, done.judgments)):
            yield item.row, None
            continue
        added = _as_kept(item.row, done.added) if kind == "rerank" else done.added
        points = any(
            j.distribution is not None and j.distribution.exactness == "point" for j in done.judgments
        )
        before, after = _outcome(item.row, kind), replace(_outcome(added, kind), is_point=points)
        # The id stays that of the judge that answered.
        row = {**item.row, **added, "judge_id": item.row.get("judge_id")}
        if "judge_id" not in item.row:
            del row["judge_id"]
        yield row, Rescored(name=str(item.line), mode=judge.settings.mode, before=before, after=after)


def _is_missing(judgment: Judgment) -> bool:
    """Whether the cache lacks an answer that the judgment, or one of its criteria, is made of."""
    samples = list(judgment.samples)
    if isinstance(judgment, RubricJudgment):
        samples = [sample for verdict in judgment.criteria for sample in verdict.samples]
    return any(s.failure is not None and s.failure.detail == MISSING for s in samples)


def critiques_of(items: Sequence[RowItem], kind: Kind, judge: Judge) -> tuple[list[RowItem], CritiqueEngine]:
    """The rows with a critique, and an engine that returns those critiques.

    Raises:
        ConfigError: Rows of this kind do not hold all critiques, or the judge rates in lists or by criteria.
    """
    if line := next((item.line for item in items if isinstance(item.requests[0].rubric, Rubric)), None):
        raise ConfigError(
            f"--critiques: line {line} was judged by criteria, each with a verdict of its own",
            hint="rescore with the cache that the run wrote",
        )
    if judge.spec.rating is not None and judge.spec.rating.listing is not None:
        raise ConfigError(
            f"--critiques: {judge.spec.name!r} rates completions in lists, and no row says where it was "
            "in its list",
            hint="rescore with the cache that the run wrote",
        )
    if kind != "rate" or judge.settings.n_samples != 1:
        raise ConfigError(
            "only rows of rate with one sample hold all their critiques",
            hint="rescore with the cache that the run wrote",
        )
    kept = [item for item in items if isinstance(item.row.get("critique"), str)]
    return kept, CritiqueEngine(
        [(item.row["critique"], "length" if _reason(item.row) == "truncated" else "stop") for item in kept]
    )


def _as_kept(row: Row, added: Row) -> Row:
    """A new ranking with as many entries as the old one kept, and its critiques."""
    before: dict[Any, Any] = {entry["index"]: entry for entry in row["ranking"]}
    ranking = []
    for entry in added["ranking"][: len(before)]:
        written = before.get(entry["index"], {})
        kept = () if entry["critique"] else ("critique", "critique_rating")
        ranking.append({**entry, **{name: written[name] for name in kept if name in written}})
    return {**added, "ranking": ranking}


def _outcome(row: Row, kind: Kind) -> Outcome:
    if kind == "rerank":
        best = row.get("best")
        if best is None:
            return Outcome(failure=_reason(row["ranking"][0]) or "no_verdict")
        return Outcome(verdict=f"index {best}")
    verdict, number = ("rating", "expected_rating") if kind == "rate" else ("preference", "win_prob")
    return Outcome(verdict=row.get(verdict), number=row.get(number), failure=_reason(row))


def _reason(row: Row) -> str | None:
    failure: Any = row.get("failure")
    return failure.get("reason") if isinstance(failure, dict) else None
