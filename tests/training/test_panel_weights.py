# SPDX-License-Identifier: Apache-2.0
"""Weights of a panel: those that made the labels are found, and the figures are what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoj_reward import Judge, Panel
from autoj_reward.errors import ConfigError
from autoj_reward.testing import ScriptedEngine
from autoj_reward.training.panel_weights import agreement_of, fit_panel, fit_weights, mixed
from tests.conftest import examples
from tests.quality import as_read


def drawn(weights: list[float], *, n: int, seed: int = 0) -> tuple[Any, Any]:
    """Distributions of members, and labels drawn from their mixture."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet([0.5, 0.5, 0.5], size=(n, len(weights)))
    return probs, np.array([rng.choice(3, p=p / p.sum()) for p in mixed(probs, np.array(weights))])


@pytest.mark.parametrize("weights", [[0.7, 0.3], [0.1, 0.2, 0.7], [0.5, 0.5, 0.0]])
def test_the_weights_that_made_the_labels_are_found(weights: list[float]) -> None:
    probs, labels = drawn(weights, n=6000)
    assert fit_weights(probs, labels) == pytest.approx(weights, abs=0.05)


@settings(max_examples=examples(40), deadline=None)
@given(st.integers(0, 10_000))
def test_no_other_weights_make_the_labels_likelier(seed: int) -> None:
    probs, labels = drawn([0.6, 0.3, 0.1], n=60, seed=seed)
    fitted = fit_weights(probs, labels)
    assert fitted.sum() == pytest.approx(1.0)

    def likelihood(weights: Any) -> float:
        # With the prior of one row for each member that the fit has.
        of_label = mixed(probs, weights)[np.arange(len(labels)), labels]
        return float(np.log(np.maximum(of_label, 1e-9)).sum() + np.log(np.maximum(weights, 1e-12)).sum())

    for other in np.random.default_rng(seed).dirichlet([1.0, 1.0, 1.0], size=20):
        assert likelihood(fitted) >= likelihood(other) - 1e-6


def test_one_good_and_one_useless_member_are_told_apart_on_forty_rows() -> None:
    def good(item: Any) -> dict[str, float]:
        """Reads which of the two completions has the mark."""
        text = "".join(segment.text for segment in item.body)
        first = text.index("right") < text.index("wrong")
        return as_read({"Response 1": 0.8 if first else 0.1, "Response 2": 0.1 if first else 0.8, "Tie": 0.1})

    useless = as_read({"Response 1": 0.3, "Response 2": 0.3, "Tie": 0.4})
    judges = [Judge.load("mini", engine=ScriptedEngine(read=r), mode="direct") for r in (good, useless)]
    n = 40
    firsts = ["right" if i % 2 else "wrong" for i in range(n)]
    seconds = ["wrong" if i % 2 else "right" for i in range(n)]
    labels = ["first" if i % 2 else "second" for i in range(n)]
    judgments = Panel(judges, names=["good", "useless"], weights=[1, 9]).compare(["p"] * n, firsts, seconds)
    fit = fit_panel(judgments, labels)  # type: ignore[arg-type]
    assert fit.weights["good"] > 0.9
    assert (fit.n, fit.n_left_out) == (n, 0)
    assert fit.after.accuracy.value == fit.alone["good"].accuracy.value == 1.0
    assert fit.before.accuracy.value == 0.0
    assert fit.after.log_loss < fit.before.log_loss
    assert fit.after.kappa == 1.0


def test_rows_without_every_member_are_left_out_and_few_rows_refused() -> None:
    judge = Judge.load("mini", engine=ScriptedEngine(read={"7": 1.0}), mode="direct")
    broken = Judge.load("mini", engine=ScriptedEngine(read={"7": 1e-9}), mode="direct")
    panel = Panel([judge, broken], names=["a", "b"], on_missing="leave_out")
    judgments = panel.rate(["p"] * 30, [f"c{i}" for i in range(30)])
    with pytest.raises(ConfigError, match="only 0 judgments have a verdict of every member"):
        fit_panel(judgments, [7.0] * 30)


def test_agreement_is_by_the_most_probable_verdict() -> None:
    probs = np.array([[0.6, 0.4], [0.2, 0.8], [0.9, 0.1]])
    found = agreement_of(probs, np.array([0, 1, 1]))
    assert found.accuracy.value == pytest.approx(2 / 3)
    assert found.log_loss == pytest.approx(-np.log([0.6, 0.8, 0.1]).mean())
