# SPDX-License-Identifier: Apache-2.0
"""The three things done with rows (rate, compare, rerank), and the fields each adds to a row.

A number that is missing is null, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from autoj_reward.judge.judge import Judge
from autoj_reward.judge.template import Template
from autoj_reward.judgments import Judgment, PairJudgment, RatingJudgment
from autoj_reward.reward.rank import Candidate, rank_judged
from autoj_reward.rows.fields import RowFormat
from autoj_reward.rows.run import Finished, Item, Work
from autoj_reward.rows.source import Row
from autoj_reward.types import Failure

Critiques = Literal["none", "ends", "all"]

ADDED_FIELDS = {
    "rate": ("rating", "expected_rating", "reward", "critique", "mass", "mode", "cut_chars", "failure"),
    "compare": (
        "preference", "win_prob", "tie_prob", "reward", "flipped", "slot_bias", "order_preferences",
        "order_win_probs", "critique", "mass", "mode", "cut_chars", "failure",
    ),
    "rerank": ("ranking", "best", "mode"),
}  # fmt: skip
"""What each command adds to a row, in this order."""


def rate_work(judge: Judge, row_format: RowFormat) -> Work:
    """Rate each row's completion."""

    def judged(items: Sequence[Item]) -> list[Finished]:
        judgments = judge.rate_requests([item.requests[0] for item in items])
        return [Finished(_rating_fields(j), [j]) for j in judgments]

    return _work("rate", judge, row_format, judged)


def compare_work(judge: Judge, row_format: RowFormat) -> Work:
    """Compare each row's two completions, in both orders unless the judge is told otherwise."""

    def judged(items: Sequence[Item]) -> list[Finished]:
        judgments = judge.compare_requests([item.requests[0] for item in items])
        return [Finished(_pair_fields(j), [j]) for j in judgments]

    return _work("compare", judge, row_format, judged)


def rerank_work(judge: Judge, row_format: RowFormat, *, critiques: Critiques) -> Work:
    """Rate each row's group of completions and order it, best first.

    Args:
        judge: Rates them.
        row_format: Where rows keep them.
        critiques: For a direct judge, who gets a critique written: nobody, the best and the worst of
            each group, or all. It explains; the ranking is the direct reading's. In critique mode
            everybody has one.
    """

    def judged(items: Sequence[Item]) -> list[Finished]:
        judgments = iter(judge.rate_requests([r for item in items for r in item.requests]))
        groups = [[next(judgments) for _ in item.requests] for item in items]
        rankings = [
            rank_judged(item.requests[0].prompt, [r.completions[0] for r in item.requests], group)
            for item, group in zip(items, groups, strict=True)
        ]
        wanted = [
            (n, c.index)
            for n, ranking in enumerate(rankings)
            for c in _explained(ranking.candidates, critiques, judge)
        ]
        written = _write_critiques(judge, items, wanted)
        return [
            Finished(
                {
                    "ranking": [_candidate_fields(c, written.get((n, c.index))) for c in ranking.candidates],
                    "best": ranking.best,
                    "mode": judge.settings.mode,
                },
                group,
                [written[n, c.index] for c in ranking.candidates if (n, c.index) in written],
            )
            for n, (ranking, group) in enumerate(zip(rankings, groups, strict=True))
        ]

    return _work("rerank", judge, row_format, judged)


def _work(label: str, judge: Judge, row_format: RowFormat, judged: object) -> Work:
    protocol = judge.spec.comparison if label == "compare" else judge.spec.rating
    template: Template | None = protocol.template if protocol is not None else None
    return Work(
        label=label,
        row_format=row_format,
        optional=frozenset({"rubric", "reference"}) & (template.fields if template else frozenset()),
        check=judge.check,
        judge=judged,  # type: ignore[arg-type]
    )


def _explained(candidates: Sequence[Candidate], critiques: Critiques, judge: Judge) -> Sequence[Candidate]:
    if critiques == "none" or judge.settings.mode == "critique":
        return []
    readable = [c for c in candidates if c.reward is not None]
    return readable if critiques == "all" else [*readable[:1], *readable[1:][-1:]]


def _write_critiques(
    judge: Judge, items: Sequence[Item], wanted: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], RatingJudgment]:
    if not wanted:
        return {}
    critic = Judge(judge.spec, replace(judge.settings, mode="critique"), judge.engine)
    judgments = critic.rate_requests([items[n].requests[index] for n, index in wanted])
    return dict(zip(wanted, judgments, strict=True))


def _candidate_fields(candidate: Candidate, explanation: RatingJudgment | None) -> Row:
    judgment = candidate.judgment
    return {
        "index": candidate.index,
        "reward": candidate.reward,
        "rating": judgment.rating,
        "expected_rating": judgment.expected_rating,
        "mass": judgment.mass,
        "critique": (explanation or judgment).critique,
        "cut_chars": sum(judgment.provenance.cut_chars),
        "failure": _failure_fields(judgment.failure),
    }


def _rating_fields(judgment: RatingJudgment) -> Row:
    return {
        "rating": judgment.rating,
        "expected_rating": judgment.expected_rating,
        "reward": judgment.reward,
        **_common_fields(judgment),
    }


def _pair_fields(judgment: PairJudgment) -> Row:
    preferences, win_probs = judgment.order_preferences, judgment.order_win_probs
    return {
        "preference": judgment.preference,
        "win_prob": judgment.win_prob,
        "tie_prob": judgment.tie_prob,
        "reward": judgment.reward,
        "flipped": judgment.flipped,
        "slot_bias": judgment.slot_bias,
        "order_preferences": list(preferences) if preferences is not None else None,
        "order_win_probs": list(win_probs) if win_probs is not None else None,
        **_common_fields(judgment),
    }


def _common_fields(judgment: Judgment) -> Row:
    return {
        "critique": judgment.critique,
        "mass": judgment.mass,
        "mode": judgment.mode,
        "cut_chars": sum(judgment.provenance.cut_chars),
        "failure": _failure_fields(judgment.failure),
    }


def _failure_fields(failure: Failure | None) -> Row | None:
    return None if failure is None else {"reason": failure.reason.value, "detail": failure.detail}
