# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoj_reward.judge.presets import load_spec
from autoj_reward.judgments import (
    PREFERENCES,
    PairJudgment,
    Provenance,
    RatingJudgment,
    Sample,
    VerdictDistribution,
    aggregate,
)
from autoj_reward.types import ContinuationLogprob, ContinuationLogprobs, Failure, FailureReason, Usage

SPEC = load_spec("autoj-13b")
assert SPEC.rating is not None
assert SPEC.comparison is not None
RATINGS, PAIRS = SPEC.rating.verdicts, SPEC.comparison.verdicts

weights = st.lists(st.floats(1e-6, 1.0), min_size=3, max_size=3)
mass = st.floats(0.2, 1.0)


def preference(probs: list[float]) -> VerdictDistribution:
    return VerdictDistribution(verdicts=PREFERENCES, probs=tuple(p / sum(probs) for p in probs))


def rating(probs: dict[float, float]) -> VerdictDistribution:
    return VerdictDistribution(verdicts=tuple(probs), probs=tuple(probs.values()))


def reading(probs: list[float], texts: tuple[str, ...]) -> ContinuationLogprobs:
    return ContinuationLogprobs(
        paths=tuple(
            ContinuationLogprob(text=t, path_logprob=math.log(p) if p else -math.inf, end_logprob=0.0)
            for t, p in zip(texts, probs, strict=True)
        )
    )


@given(probs=st.lists(st.floats(0.0, 1.0), min_size=19, max_size=19), share=mass)
def test_a_reading_becomes_a_distribution(probs: list[float], share: float) -> None:
    total = sum(probs)
    scaled = [p / total * share if total else 0.0 for p in probs]
    made = RATINGS.distribution(reading(scaled, RATINGS.texts), min_mass=0.1)
    if not total:
        assert isinstance(made, Failure)
        assert made.reason is FailureReason.LOW_MASS
        return
    assert isinstance(made, VerdictDistribution)
    assert math.fsum(made.probs) == pytest.approx(1.0)
    assert made.mass == pytest.approx(share)
    assert 1.0 <= made.expected_rating <= 10.0
    assert 0.0 <= made.entropy <= math.log(19) + 1e-9
    assert made.rating_variance >= -1e-9


def test_low_mass_is_a_failure_and_says_how_low() -> None:
    made = RATINGS.distribution(reading([0.001] * 19, RATINGS.texts), min_mass=0.1)
    assert isinstance(made, Failure)
    assert "0.019" in made.detail


@given(weights)
def test_swapping_twice_is_nothing_and_once_mirrors_the_win_probability(probs: list[float]) -> None:
    made = preference(probs)
    assert made.swapped().swapped() == made
    assert made.swapped().win_prob == pytest.approx(1.0 - made.win_prob)
    assert made.swapped().tie_prob == made.tie_prob
    assert 0.0 <= made.win_prob <= 1.0


@given(weights | st.tuples(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0)).map(lambda w: [w[0], w[0], w[1]]))
def test_the_preference_does_not_depend_on_who_stands_first(probs: list[float]) -> None:
    made = preference(probs)
    mirror = {"first": "second", "second": "first", "tie": "tie"}
    assert made.swapped().preference == mirror[made.preference]


def test_a_win_probability_is_at_most_one() -> None:
    """A softmax may sum to a little over 1."""
    over = VerdictDistribution(verdicts=PREFERENCES, probs=(1.0000000000000002, 0.0, 1e-17))
    assert over.win_prob == 1.0
    graded = VerdictDistribution(verdicts=(1.0, 0.0), probs=(1.0000000000000004, 0.0))
    assert graded.win_prob == 1.0


def test_equal_probabilities_prefer_neither() -> None:
    for probs in ([0.4, 0.4, 0.2], [0.5, 0.49999999999999994, 0.0], [0.49999999999999994, 0.5, 0.0]):
        assert preference(probs).preference == "tie"
    assert preference([0.4, 0.3999, 0.2001]).preference == "first"


@given(weights, weights)
def test_averaging_both_orders_is_symmetric(given_probs: list[float], swapped_probs: list[float]) -> None:
    """Exchanging the completions must exactly mirror the averaged verdict."""
    given_order, swapped_order = preference(given_probs), preference(swapped_probs)
    one = aggregate([given_order, swapped_order.swapped()])
    other = aggregate([swapped_order, given_order.swapped()])
    assert one is not None
    assert other is not None
    assert one.win_prob == pytest.approx(1.0 - other.win_prob)


@given(st.lists(weights, min_size=1, max_size=5))
def test_the_average_lies_between_its_parts(parts: list[list[float]]) -> None:
    made = [preference(p) for p in parts]
    merged = aggregate(made)
    assert merged is not None
    assert math.fsum(merged.probs) == pytest.approx(1.0)
    low, high = (f(d.win_prob for d in made) for f in (min, max))
    assert low - 1e-9 <= merged.win_prob <= high + 1e-9


def test_no_judgments_have_no_average_and_different_sets_do_not_mix() -> None:
    assert aggregate([]) is None
    with pytest.raises(ValueError, match="different verdict sets"):
        aggregate([preference([1, 1, 1]), rating({1.0: 1.0})])


def test_expected_rating_and_entropy_by_hand() -> None:
    made = rating({1.0: 0.25, 5.5: 0.25, 10.0: 0.5})
    assert made.expected_rating == pytest.approx(6.625)
    assert made.mode == 10.0
    assert made.entropy == pytest.approx(1.5 * math.log(2))
    assert made.prob(2.0) == 0.0


def pair(
    given_probs: list[float] | None, swapped_probs: list[float] | None, **stated: object
) -> PairJudgment:
    failure = Failure(reason=FailureReason.NO_VERDICT, detail="none")
    samples = tuple(
        Sample(
            distribution=None if probs is None else preference(probs),
            failure=failure if probs is None else None,
            swapped=swapped,
            stated=stated.get("swapped" if swapped else "given"),  # type: ignore[arg-type]
        )
        for swapped, probs in ((False, given_probs), (True, swapped_probs))
    )
    readable = [s.distribution for s in samples if s.distribution is not None]
    return PairJudgment(
        mode="direct",
        distribution=aggregate(readable) if len(readable) == 2 else None,
        samples=samples,
        failure=None if len(readable) == 2 else failure,
        usage=Usage(),
        provenance=Provenance(judge="j", template="t", engine="e"),
    )


def test_slot_bias_and_flips() -> None:
    biased = pair([0.8, 0.1, 0.1], [0.2, 0.7, 0.1])
    assert biased.order_preferences == ("first", "second")
    assert biased.flipped is True
    assert biased.slot_bias == pytest.approx(0.3)
    assert biased.win_prob == pytest.approx(0.55)
    steady = pair([0.8, 0.1, 0.1], [0.6, 0.3, 0.1])
    assert steady.flipped is False
    assert steady.preference == "first"


def test_a_tie_against_a_win_is_a_flip() -> None:
    assert pair([0.8, 0.1, 0.1], [0.1, 0.1, 0.8]).flipped is True


def test_the_stated_verdict_of_a_critique_decides_its_order() -> None:
    """A written decision counts as it stands, even where the distribution leans the other way."""
    stated = pair([0.4, 0.5, 0.1], [0.4, 0.5, 0.1], given="first", swapped="second")
    assert stated.order_preferences == ("first", "second")


def test_a_failed_order_fails_the_pair_and_is_never_a_number() -> None:
    """A swapped failure code -1 once became label 2: a tie."""
    failed = pair([0.8, 0.1, 0.1], None)
    for name in (
        "win_prob",
        "tie_prob",
        "reward",
        "preference",
        "slot_bias",
        "flipped",
        "order_win_probs",
        "mass",
    ):
        assert getattr(failed, name) is None


def test_one_critique_decides_the_rating_and_several_their_mean() -> None:
    made = rating({6.0: 0.4, 7.0: 0.6})

    def judged(*samples: Sample) -> RatingJudgment:
        return RatingJudgment(
            mode="critique",
            distribution=aggregate([s.distribution for s in samples if s.distribution]),
            samples=samples,
            failure=None,
            usage=Usage(),
            provenance=Provenance(judge="j", template="t", engine="e"),
        )

    one = judged(Sample(critique="c", stated=6.0, distribution=made))
    assert (one.rating, one.expected_rating) == (6.0, pytest.approx(6.6))
    several = judged(*(Sample(critique="c", stated=6.0, distribution=made) for _ in range(2)))
    assert several.rating == 7.0
    assert several.critique == "c"
