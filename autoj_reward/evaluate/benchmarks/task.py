# SPDX-License-Identifier: Apache-2.0
"""Judge benchmark items as rows: rate every completion, or compare the item's pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from autoj_reward.errors import ConfigError
from autoj_reward.evaluate.benchmarks.items import ADDED_FIELDS, By
from autoj_reward.evaluate.benchmarks.readers import TIES
from autoj_reward.evaluate.predictions import decision_of
from autoj_reward.judge.judge import Judge
from autoj_reward.judgments import Judgment, PairJudgment, RatingJudgment
from autoj_reward.rows.fields import RowFormat
from autoj_reward.rows.records import RowItem, RowResult, RowTask
from autoj_reward.rows.source import Row
from autoj_reward.types import Request

ITEM_FORMAT = RowFormat(completions=("completions",), grouped=True)
"""Where an item's row keeps what is judged."""


def benchmark_task(judge: Judge, row_format: RowFormat = ITEM_FORMAT, *, name: str, by: By) -> RowTask:
    """Judge every item, each completion by itself or its pairs.

    Args:
        judge: The judge.
        row_format: Where rows keep prompt and completions.
        name: The benchmark's name.
        by: Rate or compare; RewardBench 2's ties are always rated.

    Raises:
        ConfigError: The judge does not rate or compare.
    """
    wanted = judge.spec.rating if by == "rating" else judge.spec.comparison
    if wanted is None:
        raise ConfigError(
            f"judge {judge.spec.name!r} gives no {by}",
            hint=f"--by {'comparison' if by == 'rating' else 'rating'}",
        )

    def check(requests: Sequence[Request]) -> None:
        judge.check(requests[:1] if by == "rating" else [requests[0].paired_with(requests[1])])

    def judged(items: Sequence[RowItem]) -> list[RowResult]:
        asked = [_requests(item, by) for item in items]
        left = iter(judge.judge_requests([request for requests in asked for request in requests]))
        answered = [[next(left) for _ in requests] for requests in asked]
        return [
            RowResult(_added(judge, answers, by=_by(item.row, by)), answers)
            for item, answers in zip(items, answered, strict=True)
        ]

    return RowTask(
        label=f"evaluate benchmark {name}",
        row_format=row_format,
        optional=frozenset(),
        check=check,
        judge=judged,
        added_fields=ADDED_FIELDS,
        inputs_per_request=None,
    )


def inputs_of(row: Row, by: By, *, n_samples: int, both_orders: bool) -> int:
    """How many inputs to the model an item takes."""
    if _by(row, by) == "rating":
        return len(row["completions"]) * n_samples
    return len(row["pairs"]) * n_samples * (2 if both_orders else 1)


def _by(row: Row, by: By) -> By:
    return "rating" if row["subsets"] == [TIES] else by


def _requests(item: RowItem, by: By) -> list[Request]:
    if _by(item.row, by) == "rating":
        return item.requests
    return [item.requests[i].paired_with(item.requests[j]) for i, j in item.row["pairs"]]


def _added(judge: Judge, answers: Sequence[Judgment], *, by: By) -> Row:
    added: dict[str, Any] = dict.fromkeys(ADDED_FIELDS)
    if by == "rating":
        added["scores"] = [cast(RatingJudgment, answer).expected_rating for answer in answers]
    else:
        pairs = [cast(PairJudgment, answer) for answer in answers]
        games = [decision_of(pair, judge.settings.both_orders) for pair in pairs]
        added["win_probs"] = [pair.win_prob for pair in pairs]
        added["decisions"] = [[game.given, game.swapped] for game in games]
    failure = next((answer.failure for answer in answers if answer.failure is not None), None)
    return {
        **added,
        "mode": judge.settings.mode,
        "judge_id": answers[0].provenance.judge_id or None,
        "failure": None if failure is None else failure.to_dict(),
    }
