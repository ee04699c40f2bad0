# SPDX-License-Identifier: Apache-2.0
"""The aggregation of criteria: its properties, to 1e-9."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoj_reward.criteria.aggregate import aggregate_criteria
from autoj_reward.criteria.rubric import Criterion
from autoj_reward.distributions import VerdictDistribution
from tests.conftest import examples

RATINGS = tuple(1 + n / 2 for n in range(19))
Read = tuple[Criterion, VerdictDistribution]


def near(value: float) -> object:
    return pytest.approx(value, abs=1e-9)


def over(*probs: float) -> VerdictDistribution:
    """A distribution over the scores of as many choices."""
    last = len(probs) - 1
    total = math.fsum(probs)
    return VerdictDistribution(
        verdicts=tuple(n / last for n in range(len(probs))), probs=tuple(p / total for p in probs)
    )


@st.composite
def criteria(draw: st.DrawFn) -> Read:
    probs = draw(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=5))
    weight = draw(st.floats(-3, 3).map(lambda w: round(w, 3)))
    criterion = Criterion(
        text=draw(st.sampled_from("abcdef")),
        weight=weight,
        choices=tuple(map(str, range(len(probs)))),
        essential=draw(st.booleans()) and draw(st.booleans()),
    )
    return criterion, over(*probs)


rubrics = st.lists(criteria(), min_size=1, max_size=5).filter(
    lambda read: any(c.weight or c.essential for c, _ in read)
)


@settings(max_examples=examples(50))
@given(rubrics, st.randoms(use_true_random=False))
def test_the_order_of_criteria_changes_nothing(read: list[Read], random: object) -> None:
    other = list(read)
    random.shuffle(other)  # type: ignore[attr-defined]
    one, two = aggregate_criteria(read, RATINGS), aggregate_criteria(other, RATINGS)
    assert (one.score, one.spread) == (near(two.score), near(two.spread))
    assert one.distribution.probs == pytest.approx(two.distribution.probs, abs=1e-9)


@settings(max_examples=examples(50))
@given(rubrics, criteria())
def test_a_weight_of_zero_counts_for_nothing_unless_essential(read: list[Read], further: Read) -> None:
    ignored = (replace(further[0], weight=0.0, essential=False), further[1])
    one, two = aggregate_criteria(read, RATINGS), aggregate_criteria([*read, ignored], RATINGS)
    assert (one.score, one.spread) == (near(two.score), near(two.spread))
    essential = aggregate_criteria([*read, (replace(ignored[0], essential=True), over(1, 0))], RATINGS)
    assert essential.score == 0.0


@settings(max_examples=examples(50))
@given(rubrics)
def test_a_criterion_given_twice_with_half_its_weight_is_given_once(read: list[Read]) -> None:
    (criterion, distribution), *others = read
    half = (replace(criterion, weight=criterion.weight / 2), distribution)
    one, two = aggregate_criteria(read, RATINGS), aggregate_criteria([half, half, *others], RATINGS)
    assert (one.score, one.spread) == (near(two.score), near(two.spread))
    assert one.distribution.probs == pytest.approx(two.distribution.probs, abs=1e-9)


@settings(max_examples=examples(50))
@given(rubrics)
def test_the_distribution_has_the_score_as_its_mean(read: list[Read]) -> None:
    made = aggregate_criteria(read, RATINGS)
    assert 0.0 <= made.score <= 1.0
    assert 0.0 <= made.spread <= 0.5 + 1e-9
    assert math.fsum(made.distribution.probs) == near(1.0)
    assert min(made.distribution.probs) >= 0.0
    assert made.distribution.expected_rating == near(1 + 9 * made.score)


@settings(max_examples=examples(50))
@given(rubrics)
def test_the_score_is_the_weighted_mean_over_all_verdicts(read: list[Read]) -> None:
    """Brute force: every combination of verdicts with its probability, where nothing is clipped or gated."""
    read = [(replace(c, weight=abs(c.weight) + 0.1, essential=False), d) for c, d in read]
    total = math.fsum(c.weight for c, _ in read)
    expected = 0.0
    for combination in itertools.product(*(zip(d.verdicts, d.probs, strict=True) for _, d in read)):
        prob = math.prod(p for _, p in combination)
        expected += (
            prob
            * math.fsum(c.weight * float(v) for (c, _), (v, _) in zip(read, combination, strict=True))
            / total
        )
    assert aggregate_criteria(read, RATINGS).score == near(expected)


def test_pitfalls_count_against_and_the_sum_is_clipped() -> None:
    good = Criterion(text="good", weight=2)
    pitfall = Criterion(text="bad", weight=-1)

    def score(a: float, b: float) -> float:
        return aggregate_criteria([(good, over(1 - a, a)), (pitfall, over(1 - b, b))], RATINGS).score

    assert score(1.0, 0.0) == near(1.0)
    assert score(1.0, 1.0) == near(0.5)
    assert score(0.5, 0.5) == near(0.25)
    assert score(0.0, 1.0) == 0.0


def test_pitfalls_alone_count_down_from_one() -> None:
    pitfalls = [(Criterion(text=t, weight=-w), over(1 - p, p)) for t, w, p in (("a", 1, 1.0), ("b", 3, 0.5))]
    assert aggregate_criteria(pitfalls, RATINGS).score == near(1 - (1 + 1.5) / 4)


def test_an_essential_criterion_gates_by_its_probability() -> None:
    plain = (Criterion(text="a", weight=1), over(0, 1))
    gate = (Criterion(text="b", weight=1, essential=True), over(0.25, 0.75))
    made = aggregate_criteria([plain, gate], RATINGS)
    assert made.score == near((1 + 0.75) / 2 * 0.75)
    pitfall = (Criterion(text="c", weight=-1, essential=True), over(0.25, 0.75))
    assert aggregate_criteria([plain, pitfall], RATINGS).score == near((1 - 0.75) * 0.25)


def test_the_spread_is_that_of_verdicts_that_rise_together() -> None:
    read = [(Criterion(text=t, weight=w), over(0.5, 0.5)) for t, w in (("a", 1), ("b", 3))]
    assert aggregate_criteria(read, RATINGS).spread == near(0.5)
    certain = aggregate_criteria([(Criterion(text="a"), over(0, 1))], RATINGS)
    assert (certain.score, certain.spread) == (1.0, 0.0)
