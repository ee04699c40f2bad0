# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoj_reward.ranking.evidence import Answers, Compared, Evidence, Round
from autoj_reward.ranking.strategies import compared_standing
from autoj_reward.reward.groups import Item, find_groups, flat_share, n_incomplete
from autoj_reward.reward.plan import ALONE, Plan, RawScore, make_plan
from tests.quality import quality, win_prob


def group(*qualities: float, prompt: str = "P") -> list[Item]:
    return [Item(prompt=prompt, completion=f"q={q:g}") for q in qualities]


def judged(plan: Plan, failing: str = "-") -> list[RawScore]:
    """What a judge that goes by qualities says."""
    verdicts = []
    for request in plan.requests:
        texts = [str(c) for c in request.completions]
        if any(failing == t for t in texts):
            verdicts.append(RawScore(raw=None, reason="low_mass"))
        elif len(texts) == 1:
            verdicts.append(RawScore(raw=quality(texts[0])))
        else:
            verdicts.append(RawScore(raw=win_prob(quality(texts[0]), quality(texts[1])), critique="why"))
    return verdicts


def raws(plan: Plan, failing: str = "-") -> list[float | None]:
    return [o.raw for o in plan.scores(judged(plan, failing))]


def shares(*qualities: float) -> list[float]:
    """Win probabilities against the group, fitted to all comparisons of the qualities."""
    evidence = Evidence(n=len(qualities), seed=0)
    pairs = tuple(combinations(range(len(qualities)), 2))
    wins = tuple(Compared(win_prob(qualities[i], qualities[j])) for i, j in pairs)
    evidence.add(Round(compare=pairs), Answers(comparisons=wins))
    found: list[float] = compared_standing(evidence).rewards.tolist()
    return found


def test_groups_are_found_by_prompt() -> None:
    """OnlineDPO's order, a shuffled one, and groups of different size; strides would mix them up."""
    items = [Item(prompt=p, completion=c) for p, c in zip("ABABBC", "uvwxyz", strict=True)]
    assert find_groups(items) == [[0, 2], [1, 3, 4], [5]]
    assert n_incomplete(find_groups(items), 2) == 2
    assert n_incomplete(find_groups(items), None) == 1
    # A prompt that is drawn twice is a whole group of twice the size.
    assert n_incomplete([[0, 1, 2, 3]], 2) == 0


def test_one_prompt_with_two_references_is_two_groups() -> None:
    items = [Item(prompt="P", completion="c", reference=r) for r in ("7", "13", "7")]
    assert find_groups(items) == [[0, 2], [1]]


def test_ratings_are_asked_once_for_equal_completions() -> None:
    plan = make_plan([*group(3, 9, 3), *group(3, prompt="Q")], "rating")
    assert len(plan.requests) == 3
    assert raws(plan) == [3, 9, 3, 3]


@pytest.mark.parametrize(("schedule", "n", "pairs"), [
    ("ring", 1, 0), ("ring", 2, 1), ("ring", 3, 3), ("ring", 8, 8),
    ("all", 1, 0), ("all", 2, 1), ("all", 3, 3), ("all", 8, 28),
])  # fmt: skip
def test_number_of_comparisons(schedule: str, n: int, pairs: int) -> None:
    plan = make_plan(group(*range(1, n + 1)), "pairwise", schedule)  # type: ignore[arg-type]
    made = [request.completions for request in plan.requests]
    assert len(made) == len({frozenset(map(str, p)) for p in made}) == pairs
    if n > 2:
        per_member = Counter(str(c) for pair in made for c in pair)
        assert set(per_member.values()) == {2 if schedule == "ring" else n - 1}


def test_all_pairs() -> None:
    plan = make_plan(group(2, 3, 5), "pairwise", "all")
    expected = shares(2, 3, 5)
    assert raws(plan) == pytest.approx(expected)
    # With three, each has both others as neighbours.
    assert raws(make_plan(group(2, 3, 5), "pairwise", "ring")) == pytest.approx(expected)


def test_a_failed_comparison_leaves_the_others() -> None:
    plan = make_plan(group(2, 3, 5), "pairwise", "all")
    outcomes = plan.scores(judged(plan, failing="q=5"))
    # As in a group without it.
    assert [outcomes[0].raw, outcomes[1].raw] == pytest.approx(shares(2, 3))
    assert (outcomes[2].raw, outcomes[2].reason) == (None, "low_mass")
    assert outcomes[0].reason is None


def test_copies_share_their_reward() -> None:
    plan = make_plan(group(2, 5, 2), "pairwise", "ring")
    assert len(plan.requests) == 1
    low, high = shares(2, 5)
    assert raws(plan) == pytest.approx([low, high, low])
    assert raws(make_plan(group(2, 5, 2), "pairwise", "all")) == pytest.approx([low, high, low])


def test_groups_of_one() -> None:
    alone = make_plan(group(4), "pairwise").scores([])
    assert [(o.raw, o.reason) for o in alone] == [(None, ALONE)]
    same = make_plan(group(4, 4), "pairwise")
    assert same.requests == ()
    assert raws(same) == [0.5, 0.5]


def test_against_a_given_completion() -> None:
    items = [Item(prompt="P", completion=f"q={q}", baseline="q=4") for q in (2, 4, 2)]
    plan = make_plan(items, "pairwise", "baseline")
    assert len(plan.requests) == 2
    assert raws(plan) == pytest.approx([win_prob(2, 4), 0.5, win_prob(2, 4)])


@given(st.lists(st.integers(1, 6), min_size=1, max_size=9), st.randoms(use_true_random=False),
       st.sampled_from(["ring", "all"]))  # fmt: skip
def test_rewards_do_not_depend_on_the_order(qualities: list[int], rng: random.Random, schedule: str) -> None:
    """Two processes hold a group's completions in another order than one does."""
    items = [*group(*qualities), *group(3, 4, prompt="Q")]
    order = list(range(len(items)))
    rng.shuffle(order)
    straight = raws(make_plan(items, "pairwise", schedule))  # type: ignore[arg-type]
    shuffled = raws(make_plan([items[i] for i in order], "pairwise", schedule))  # type: ignore[arg-type]
    for place, i in enumerate(order):
        assert shuffled[place] == pytest.approx(straight[i])


@given(st.lists(st.integers(1, 6), min_size=2, max_size=9), st.sampled_from(["ring", "all"]))
def test_win_probabilities_of_a_group(qualities: list[int], schedule: str) -> None:
    found = raws(make_plan(group(*qualities), "pairwise", schedule))  # type: ignore[arg-type]
    assert all(r is not None and 0 <= r <= 1 for r in found)
    if len(set(qualities)) == len(qualities):
        assert sum(r for r in found if r is not None) == pytest.approx(len(qualities) / 2)


def test_flat_groups() -> None:
    assert flat_share([[0, 1], [2, 3], [4]], [1.0, 1.0, 1.0, 2.0, 3.0]) == 0.5
    assert flat_share([[0, 1, 2]], [1.0, None, 1.0]) == 1.0
    assert flat_share([[0, 1]], [1.0, None]) is None
