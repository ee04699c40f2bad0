# SPDX-License-Identifier: Apache-2.0
"""Judgments: the full record of one request, also of one by a rubric of criteria."""

from autoj_reward.distributions import (
    EXCHANGED,
    PREFERENCES,
    Exactness,
    Preference,
    Verdict,
    VerdictDistribution,
    aggregate,
    agreement,
    as_preference,
    is_even,
    mirrored,
)
from autoj_reward.judgments.records import (
    Judgment,
    MemberVerdict,
    PairJudgment,
    Provenance,
    RatingJudgment,
    Sample,
)
from autoj_reward.judgments.rubric import CriterionVerdict, RubricJudgment, rubric_judgment

__all__ = [
    "EXCHANGED",
    "PREFERENCES",
    "CriterionVerdict",
    "Exactness",
    "Judgment",
    "MemberVerdict",
    "PairJudgment",
    "Preference",
    "Provenance",
    "RatingJudgment",
    "RubricJudgment",
    "Sample",
    "Verdict",
    "VerdictDistribution",
    "aggregate",
    "agreement",
    "as_preference",
    "is_even",
    "mirrored",
    "rubric_judgment",
]
