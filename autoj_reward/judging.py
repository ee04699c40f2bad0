# SPDX-License-Identifier: Apache-2.0
"""What a local and a served judge have in common: their methods, and judgments as JSON between the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol, TypeVar, runtime_checkable

from autoj_reward.criteria.rubric import Criterion, Rubric
from autoj_reward.judgments import (
    Judgment,
    MemberVerdict,
    PairJudgment,
    Provenance,
    RatingJudgment,
    Sample,
    VerdictDistribution,
)
from autoj_reward.judgments.rubric import CriterionVerdict, RubricJudgment
from autoj_reward.types import Failure, FailureReason, Request, Rubrics, Text, Usage

J = TypeVar("J", RatingJudgment, PairJudgment)


@runtime_checkable
class Judging(Protocol):
    """The methods of `Judge` that `JudgeClient` has too, so that code takes either.

    They take columns of B texts or messages and return B judgments in the same order; see `Judge`.
    """

    def rate(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        *,
        rubrics: Rubrics | None = None,
        references: Sequence[str | None] | None = None,
        languages: Sequence[str | None] | None = None,
    ) -> list[RatingJudgment]: ...

    def compare(
        self,
        prompts: Sequence[Text],
        firsts: Sequence[Text],
        seconds: Sequence[Text],
        *,
        rubrics: Rubrics | None = None,
        references: Sequence[str | None] | None = None,
        languages: Sequence[str | None] | None = None,
    ) -> list[PairJudgment]: ...

    async def arate(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        *,
        rubrics: Rubrics | None = None,
        references: Sequence[str | None] | None = None,
        languages: Sequence[str | None] | None = None,
    ) -> list[RatingJudgment]: ...

    async def acompare(
        self,
        prompts: Sequence[Text],
        firsts: Sequence[Text],
        seconds: Sequence[Text],
        *,
        rubrics: Rubrics | None = None,
        references: Sequence[str | None] | None = None,
        languages: Sequence[str | None] | None = None,
    ) -> list[PairJudgment]: ...

    def rate_requests(self, requests: Sequence[Request]) -> list[RatingJudgment]: ...

    def compare_requests(self, requests: Sequence[Request]) -> list[PairJudgment]: ...

    def close(self) -> None: ...


def judgment_record(judgment: Judgment) -> dict[str, Any]:
    """A whole judgment as plain values: distribution, samples, usage and provenance."""
    return asdict(judgment)


def judgment_of(record: Mapping[str, Any], kind: type[J]) -> J:
    """The judgment that a record was made from.

    Of one by a rubric of criteria it is a `RubricJudgment`.

    Raises:
        KeyError, TypeError, ValueError: It is no such record.
    """
    made: type[J] = RubricJudgment if "criteria" in record else kind  # type: ignore[assignment]
    return made(
        mode=record["mode"],
        distribution=_distribution(record["distribution"]),
        samples=_samples(record),
        failure=_failure(record["failure"]),
        usage=Usage(**record["usage"]),
        provenance=Provenance(
            **{**record["provenance"], "cut_chars": tuple(record["provenance"]["cut_chars"])}
        ),
        flags=tuple(map(tuple, record["flags"])),
        penalties=tuple(record["penalties"]),
        by_rule=record["by_rule"],
        members=tuple(
            MemberVerdict(
                name=member["name"],
                weight=member["weight"],
                distribution=_distribution(member["distribution"]),
                judgment=judgment_of(member["judgment"], kind),
            )
            for member in record.get("members", ())
        ),
        **_of_rubric(record),
    )


def _of_rubric(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a judgment by a rubric of criteria has besides."""
    if "criteria" not in record:
        return {}
    criteria = tuple(
        CriterionVerdict(
            criterion=Criterion(**verdict["criterion"]),
            distribution=_distribution(verdict["distribution"]),
            failure=_failure(verdict["failure"]),
            critique=verdict["critique"],
            samples=_samples(verdict),
        )
        for verdict in record["criteria"]
    )
    return {"criteria": criteria, "score": record["score"], "spread": record["spread"]}


def request_row(request: Request) -> dict[str, Any]:
    """A request as a row of the server: its fields that are not None."""
    names = ("completion",) if len(request.completions) == 1 else ("first", "second")
    rubric = request.rubric.to_dict() if isinstance(request.rubric, Rubric) else request.rubric
    further = {"rubric": rubric, "reference": request.reference, "language": request.language}
    return {
        "prompt": request.prompt,
        **dict(zip(names, request.completions, strict=True)),
        **{name: value for name, value in further.items() if value is not None},
    }


def _samples(record: Mapping[str, Any]) -> tuple[Sample, ...]:
    return tuple(
        Sample(
            **{
                **sample,
                "distribution": _distribution(sample["distribution"]),
                "failure": _failure(sample["failure"]),
                "reread": _distribution(sample.get("reread")),
            }
        )
        for sample in record["samples"]
    )


def _distribution(record: Mapping[str, Any] | None) -> VerdictDistribution | None:
    if record is None:
        return None
    lists = {name: tuple(record[name]) for name in ("verdicts", "probs")}
    return VerdictDistribution(**{**record, **lists})


def _failure(record: Mapping[str, Any] | None) -> Failure | None:
    return None if record is None else Failure(**{**record, "reason": FailureReason(record["reason"])})
