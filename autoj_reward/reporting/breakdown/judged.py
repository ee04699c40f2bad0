# SPDX-License-Identifier: Apache-2.0
"""Read the criteria and members of a judgment from an output row."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple


class CriterionScore(NamedTuple):
    """What was said of one criterion: a score in [0, 1], or the reason of a failure."""

    name: str
    weight: float
    essential: bool
    score: float | None
    failure: str | None


class MemberValue(NamedTuple):
    """What one member said: its value on the panel's scale, or the reason of a failure.

    A member that judged by a rubric of criteria has its verdicts on them, and their score in [0, 1].
    """

    name: str
    weight: float
    value: float | None
    failure: str | None
    criteria: tuple[CriterionScore, ...] = ()
    score: float | None = None


def criteria_of(judged: Mapping[str, Any]) -> tuple[CriterionScore, ...]:
    """The criteria of a judgment; none if it is not by a rubric of criteria.

    A column of that name in the input, which a judgment without criteria leaves as it is, has no verdicts.
    """
    return tuple(
        CriterionScore(
            sys.intern(str(one["name"])),
            float(one["weight"]),
            bool(one.get("essential")),
            one["score"],
            reason(one["failure"]),
        )
        for one in _listed(judged.get("criteria"), {"name", "weight", "score", "failure"})
    )


def members_of(judged: Mapping[str, Any]) -> tuple[MemberValue, ...]:
    """The members of a panel's judgment; none for one judge."""
    found = []
    for one in _listed(judged.get("members"), {"name", "weight", "value", "failure"}):
        criteria = criteria_of(one)
        found.append(
            MemberValue(
                sys.intern(str(one["name"])),
                float(one["weight"]),
                one["value"],
                reason(one["failure"]),
                criteria,
                one.get("score") if criteria else None,
            )
        )
    return tuple(found)


def reason(failure: Any) -> str | None:
    """The reason of a failure as a row holds it."""
    return failure.get("reason") if isinstance(failure, Mapping) else failure


def _listed(value: Any, fields: set[str]) -> list[Mapping[str, Any]]:
    """A list of objects with some fields; empty if the value is something else."""
    if not isinstance(value, list):
        return []
    return value if all(isinstance(one, Mapping) and fields <= one.keys() for one in value) else []
