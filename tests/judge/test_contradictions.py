# SPDX-License-Identifier: Apache-2.0
"""Critiques whose verdict contradicts them: found by the verdict's probability, or by reading them once more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from autoj_reward import Judge, Panel, RatingJudgment
from autoj_reward.criteria.rubric import Criterion, Rubric
from autoj_reward.errors import ConfigError
from autoj_reward.judging import judgment_of, judgment_record
from autoj_reward.rows.records import RowResult, Summary
from autoj_reward.testing import ScriptedEngine, untrusted_texts
from autoj_reward.types import JudgeInput
from tests.quality import as_read


def is_second_reading(item: JudgeInput) -> bool:
    return "A judge wrote this" in item.body[0].text


def judge(
    critique: str, alone: dict[str, float], stated: dict[str, float] | None = None, **options: Any
) -> Judge:
    """Writes this critique; reads `stated` at its verdict, and `alone` from the critique without the request."""

    def read(item: JudgeInput) -> dict[str, float]:
        return alone if is_second_reading(item) else (stated or {"9": 1.0})

    engine = ScriptedEngine(read=read, write=critique)
    return Judge.load("mini", engine=engine, mode="critique", **options)


@pytest.mark.parametrize(
    ("alone", "contradicted"),
    [({"1": 1.0}, 1), ({"5": 1.0}, 1), ({"7": 1.0}, 0), ({"9": 1.0}, 0), ({"9": 0.5, "1": 0.5}, 1)],
)
def test_a_rating_far_from_what_its_critique_supports_is_counted(
    alone: dict[str, float], contradicted: int
) -> None:
    with judge("It is wrong in every way.\n\nRating: [[9]]", alone, check_critiques=True) as own:
        (judged,) = own.rate(["p"], ["c"])
        again = [item for item in own.engine.inputs if is_second_reading(item)]
    assert judged.n_contradicted == contradicted
    assert judged.to_dict()["contradicted"] == contradicted
    assert judged.rating == 9.0
    # It is shown the critique without its verdict, and neither prompt nor completion.
    assert untrusted_texts(again[0]) == ["It is wrong in every way."]
    assert judged.usage.n_requests == 3
    assert judgment_of(json.loads(json.dumps(judgment_record(judged))), RatingJudgment) == judged


def test_without_the_check_only_an_improbable_verdict_counts() -> None:
    with judge("It is fine.\n\nRating: [[9]]", {"1": 1.0}) as own:
        (judged,) = own.rate(["p"], ["c"])
        assert (judged.n_contradicted, judged.samples[0].reread) == (0, None)
    with judge("It is fine.\n\nRating: [[9]]", {"1": 1.0}, {"9": 0.04, "2": 0.96}) as own:
        assert own.rate(["p"], ["c"])[0].n_contradicted == 1


@pytest.mark.parametrize(("alone", "contradicted"), [("Response 1", 1), ("Response 2", 1)])
def test_a_comparison_is_checked_in_each_order_in_its_own_terms(alone: str, contradicted: int) -> None:
    """The judge always decides for the first that it is shown; its critique alone always supports one slot."""
    critique = "The second is better.\n\nSo, the final decision is Response 1"
    own = judge(critique, as_read({alone: 1.0}), as_read({"Response 1": 1.0}), check_critiques=True)
    with own:
        (judged,) = own.compare(["p"], ["a"], ["b"])
    assert len(judged.samples) == 2
    expected = 2 if alone == "Response 2" else 0
    assert judged.n_contradicted == expected
    assert all(s.contradicted == (expected > 0) for s in judged.samples)


def test_a_panel_and_a_summary_add_them_up() -> None:
    def member(alone: str) -> Judge:
        return judge("Bad.\n\nRating: [[9]]", {alone: 1.0}, check_critiques=True)

    (judged,) = Panel([member("1"), member("9"), member("1")]).rate(["p"], ["c"])
    assert judged.n_contradicted == 2
    summary = Summary(n_rows=1)
    summary.add([RowResult({}, [judged])])
    assert summary.as_record()["contradicted"] == 2


def test_direct_mode_has_nothing_to_check() -> None:
    with pytest.raises(ConfigError, match="direct mode writes none"):
        Judge.load("mini", mode="direct", check_critiques=True)
    with judge("[[9]]", {"1": 1.0}, check_critiques=True) as own:
        assert own.rate(["p"], ["c"])[0].n_contradicted == 0


@pytest.mark.parametrize(("yes", "contradicted"), [(0.9, 0), (0.1, 1)])
def test_a_criterions_critique_is_read_again_with_its_own_verdicts(yes: float, contradicted: int) -> None:
    """It was read with those of a rating: never for yes and no, and with false alarms for other choices."""

    def read(item: JudgeInput) -> dict[str, float]:
        return {"Yes": yes, "No": 1 - yes} if is_second_reading(item) else {"Yes": 1.0}

    engine = ScriptedEngine(write="It names the colour.\nVerdict: [[Yes]]", read=read)
    own = Judge.load("mini", engine=engine, mode="critique", check_critiques=True)
    rubric = Rubric(criteria=(Criterion(text="It names a colour."),))
    (judged,) = own.rate(["p"], ["Red."], rubrics=[rubric])
    assert judged.n_contradicted == contradicted
