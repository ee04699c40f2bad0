# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoj_reward.ranking.bradley_terry import (
    cyclic_triads,
    find_cycles,
    fit_strengths,
    fit_under_priors,
)

PAIRS = np.array(list(combinations(range(4), 2)))


def fit(win: list[float], tie: list[float], variance: float = 4.0, n: int = 4, pairs=PAIRS):  # type: ignore[no-untyped-def]
    return fit_strengths(
        pairs, np.array(win), np.array(tie), prior_mean=np.zeros(n), prior_variance=np.full(n, variance)
    )


def test_strengths_are_where_the_gradient_of_the_posterior_is_zero() -> None:
    """The optimum is checked by finite differences of the model as its docstring states it."""
    win, tie = np.array([0.7, 0.2, 0.6, 0.1, 0.5, 0.9]), np.array([0.1, 0.3, 0.0, 0.2, 0.5, 0.05])
    found = fit(win.tolist(), tie.tolist())

    def objective(s: np.ndarray, log_tie: float) -> float:
        d = s[PAIRS[:, 0]] - s[PAIRS[:, 1]]
        weights = np.stack([np.exp(d / 2), np.exp(np.full_like(d, log_tie)), np.exp(-d / 2)])
        logs = np.log(weights / weights.sum(axis=0))
        said = np.stack([win, tie, 1 - win - tie])
        return float((said * logs).sum() - (s**2).sum() / 8 - 0.05 * (log_tie + 1) ** 2)

    at = objective(found.values, found.log_tie)
    hessian = np.zeros((5, 5))
    step = 1e-4
    moves = np.eye(5) * step
    for a in range(5):
        for b in range(5):
            around = [
                objective(found.values + x[:4], found.log_tie + x[4])
                for x in (moves[a] + moves[b], moves[a] - moves[b], moves[b] - moves[a], -moves[a] - moves[b])
            ]
            hessian[a, b] = -(around[0] - around[1] - around[2] + around[3]) / (4 * step**2)
        assert objective(found.values + moves[a][:4], found.log_tie + moves[a][4]) <= at
        assert objective(found.values - moves[a][:4], found.log_tie - moves[a][4]) <= at
    assert found.covariance == pytest.approx(np.linalg.inv(hessian)[:4, :4], rel=1e-3, abs=1e-4)


def test_without_ties_it_is_the_bradley_terry_of_choix() -> None:
    choix = pytest.importorskip("choix", reason="needs choix: the dev group")
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 6, (4, 4))
    data = [(i, j) for i in range(4) for j in range(4) if i != j for _ in range(counts[i, j])]
    pairs = np.array(data)
    ours = fit_strengths(
        pairs,
        np.ones(len(pairs)),
        np.zeros(len(pairs)),
        prior_mean=np.zeros(4),
        prior_variance=np.full(4, 1e3),
    )
    theirs = choix.ilsr_pairwise(4, data, alpha=1e-6)
    assert ours.values - ours.values.mean() == pytest.approx(theirs - theirs.mean(), abs=0.02)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=6, max_size=6))
def test_swapping_every_pair_changes_nothing_and_probabilities_stay_in_bounds(
    said: list[tuple[float, float]],
) -> None:
    win = np.array([w * (1 - t) for w, t in said])
    tie = np.array([t for _, t in said])
    one = fit(win.tolist(), tie.tolist())
    other = fit((1 - win - tie).tolist(), tie.tolist(), pairs=PAIRS[:, ::-1])
    assert one.values == pytest.approx(other.values, abs=1e-4)
    means, errors = one.against_group()
    assert ((means >= 0) & (means <= 1)).all()
    assert (errors >= 0).all()
    assert one.win_probs() + one.win_probs().T == pytest.approx(np.ones((4, 4)))


def test_more_comparisons_make_it_surer_and_an_undefeated_one_stays_finite() -> None:
    few = fit([1.0, 1.0, 1.0, 0.5, 0.5, 0.5], [0.0] * 6)
    pairs = np.concatenate([PAIRS] * 5)
    many = fit([1.0, 1.0, 1.0, 0.5, 0.5, 0.5] * 5, [0.0] * 30, pairs=pairs)
    assert np.isfinite(few.values).all()
    assert few.values.argmax() == 0
    assert (many.against_group()[1] < few.against_group()[1]).all()
    rng = np.random.default_rng(0)
    assert many.best_probs(rng)[0] > few.best_probs(rng)[0]
    assert few.best_probs(rng).sum() == pytest.approx(1.0)


def test_without_comparisons_the_estimate_is_the_prior() -> None:
    none = np.empty((0, 2), dtype=np.int64)
    found = fit_under_priors(
        none, np.empty(0), np.empty(0), np.array([[1.0, 0.0], [0.0, 2.0]]), np.ones((2, 2))
    )
    assert [f.values.tolist() for f in found] == [[1.0, 0.0], [0.0, 2.0]]
    assert found[0].covariance == pytest.approx(np.eye(2))


def beats(*pairs: tuple[int, int], n: int = 5) -> np.ndarray:
    won = np.zeros((n, n), dtype=bool)
    for i, j in pairs:
        won[i, j] = True
    return won


@pytest.mark.parametrize(
    ("won", "cycles", "triads"),
    [
        (beats((0, 1), (1, 2), (0, 2)), [], (0, 1)),
        (beats((0, 1), (1, 2), (2, 0)), [[0, 1, 2]], (1, 1)),
        (beats((0, 1), (1, 2), (2, 3), (3, 0), (4, 0)), [[0, 1, 2, 3]], (0, 0)),
        (beats(), [], (0, 0)),
    ],
    ids=["order", "triangle", "square", "nothing"],
)
def test_cycles(won: np.ndarray, cycles: list[list[int]], triads: tuple[int, int]) -> None:
    assert find_cycles(won) == cycles
    assert cyclic_triads(won) == triads
