# SPDX-License-Identifier: Apache-2.0
"""Temperatures: fitted, applied, and what they may not change."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from autoj_reward.cli.app import app
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.judge.presets import load_spec
from autoj_reward.judgments import PairJudgment, Provenance, Sample, VerdictDistribution
from autoj_reward.statistics import calibration_error
from autoj_reward.training.calibration import calibrate, fit_temperature, labelled_rows, scaled
from autoj_reward.types import ContinuationLogprob, ContinuationLogprobs, Failure, FailureReason, Usage
from tests.training.conftest import SHORT_JUDGE, pair_rows, write_rows


def drawn(temperature: float, *, n: int, orders: int, seed: int = 0) -> tuple[Any, Any]:
    """Distributions, and labels drawn from them at a temperature."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet([0.6, 0.6, 0.6], size=(n, orders))
    true = scaled(probs, temperature)
    return probs, np.array([rng.choice(3, p=p) for p in true])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("orders", [1, 2])
def test_the_temperature_that_made_the_labels_is_found(temperature: float, orders: int) -> None:
    probs, labels = drawn(temperature, n=4000, orders=orders)
    assert fit_temperature(probs, labels) == pytest.approx(temperature, rel=0.15)


def test_unreadable_samples_and_verdicts_by_rule_are_left_out() -> None:
    """A judgment with one draw of two left counts as one draw; the guard's verdict counts as none."""
    whole, n = [0.7, 0.2, 0.1], 30

    def judgment(*samples: list[float] | None, by_rule: bool = False) -> PairJudgment:
        read_ = [None if s is None else Sample(distribution=read(s, 1.0)) for s in samples]
        return PairJudgment(
            mode="critique",
            distribution=read(whole, 1.0),
            samples=tuple(
                s or Sample(failure=Failure(reason=FailureReason.TRUNCATED, detail="")) for s in read_
            ),
            failure=None,
            usage=Usage(),
            provenance=Provenance(judge="j", template="t", engine="e"),
            by_rule=by_rule,
        )

    labels: list[Any] = ["first", "second", "tie"] * (n // 3)
    single = calibrate([judgment(whole)] * n, labels)
    ragged = calibrate(
        [judgment(whole, None)] * 15 + [judgment(whole, whole)] * 15 + [judgment(by_rule=True)],
        [*labels, "first"],
    )
    assert ragged.n == n
    assert ragged.n_left_out == 1
    assert ragged.temperature == pytest.approx(single.temperature)


@pytest.mark.parametrize("rating", [float("nan"), float("inf"), -float("inf"), "7", True, None])
def test_a_rating_that_is_no_number_is_refused(rating: Any) -> None:
    """NaN counted as the lowest rating."""
    with pytest.raises(DataError, match="rating \\(a number\\) is needed"):
        labelled_rows([(1, {"prompt": "p", "completion": "c", "rating": rating})])


def test_labels_that_verdicts_say_nothing_about_flatten_them() -> None:
    probs, _ = drawn(1.0, n=2000, orders=1)
    labels = np.random.default_rng(5).integers(0, 3, 2000)
    assert fit_temperature(probs, labels) > 5


@pytest.mark.parametrize(
    "confidence, right, error",
    [
        ([1.0, 1.0, 1.0, 1.0], [True, True, True, True], 0.0),
        ([1.0, 1.0], [True, False], 0.5),
        ([0.75, 0.75, 0.75, 0.75], [True, True, True, False], 0.0),
        ([0.55, 0.95], [True, False], (0.45 + 0.95) / 2),
    ],
    ids=["sure and right", "sure and half right", "as often as said", "two bins"],
)
def test_calibration_error(confidence: list[float], right: list[bool], error: float) -> None:
    assert calibration_error(np.array(confidence), np.array(right)) == pytest.approx(error)


def read(probs: list[float], temperature: float) -> VerdictDistribution:
    comparison = load_spec("mini").comparison
    assert comparison is not None
    verdicts = replace(comparison.verdicts, temperature=temperature)
    result = verdicts.distribution(reading(probs), min_mass=1e-9)
    assert isinstance(result, VerdictDistribution)
    return result


def reading(probs: list[float]) -> ContinuationLogprobs:
    return ContinuationLogprobs(
        paths=tuple(ContinuationLogprob(text="", path_logprob=math.log(p), end_logprob=0.0) for p in probs)
    )


probabilities = st.lists(st.floats(1e-6, 0.33), min_size=3, max_size=3)


@given(probs=probabilities, temperature=st.floats(0.05, 20.0))
def test_a_temperature_keeps_the_mass_and_the_order_of_verdicts(
    probs: list[float], temperature: float
) -> None:
    plain, changed = read(probs, 1.0), read(probs, temperature)
    assert changed.mass == plain.mass
    assert sum(changed.probs) == pytest.approx(1.0)
    for a in range(3):
        for b in range(3):
            if probs[a] > probs[b] * (1 + 1e-9):
                assert changed.probs[a] >= changed.probs[b]
    if temperature > 1:
        assert max(changed.probs) <= max(plain.probs) + 1e-12


def test_the_temperature_is_part_of_the_judges_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "judge.toml"
    path.write_text('extends = "mini"\nname = "own"\n')
    same = load_spec(str(path))
    path.write_text('extends = "mini"\nname = "own"\n[comparison]\ntemperature = 1.75\n')
    warmer = load_spec(str(path))
    assert warmer.comparison is not None
    assert warmer.comparison.verdicts.temperature == 1.75
    assert same.fingerprint != warmer.fingerprint
    path.write_text('extends = "mini"\nname = "own"\n[rating]\ntemperature = 0\n')
    with pytest.raises(ConfigError, match="temperature = 0 is not above 0"):
        load_spec(str(path))


@pytest.mark.parametrize(
    "row, said",
    [
        ({"prompt": "p", "completion": "c"}, "rating"),
        ({"prompt": "p", "completion": "c", "rating": True}, "rating"),
        ({"prompt": "p", "first": "a", "second": "b", "preference": 3}, "preference"),
        ({"prompt": "p", "first": "a"}, "prompt, first and second"),
    ],
    ids=["no rating", "a truth value", "no such preference", "one completion of two"],
)
def test_a_wrong_row_is_named(row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        labelled_rows([(7, row)])
    assert caught.value.line == 7


def test_labels_as_words_and_as_numbers_are_the_same() -> None:
    pair = {"prompt": "p", "first": "a", "second": "b"}
    words = labelled_rows([(1, {**pair, "preference": "second"}), (2, {**pair, "preference": "tie"})])
    numbers = labelled_rows([(1, {**pair, "preference": 1}), (2, {**pair, "preference": 2})])
    assert words == numbers


def test_the_command_prints_what_goes_into_the_judges_file(tmp_path: Path, tiny_model: Path) -> None:
    judge = tmp_path / "judge.toml"
    judge.write_text(SHORT_JUDGE.format(model=tiny_model))
    rows: list[dict[str, Any]] = [
        {"prompt": r["prompt"], "first": r["response_a"], "second": r["response_b"], "preference": r["label"]}
        for r in pair_rows(24)
    ]
    rows += [
        {"prompt": r["prompt"], "completion": r["first"], "rating": 1 + i % 10} for i, r in enumerate(rows)
    ]
    data = write_rows(tmp_path / "labelled.jsonl", rows)
    # A random model puts next to nothing on any verdict.
    judge.write_text("min_mass = 1e-30\n" + judge.read_text())
    options = ["--judge", str(judge), "--mode", "direct", "--engine", "transformers", "--no-cache"]
    result = CliRunner().invoke(app, ["calibrate", str(data), "--json", *options])
    assert result.exit_code == 0, result.output
    rating, comparison = json.loads(result.stdout)
    assert (rating["protocol"], comparison["protocol"]) == ("rating", "comparison")
    assert rating["n"] == comparison["n"] == 24
    text = CliRunner().invoke(app, ["calibrate", str(data), *options]).stdout
    assert f"[comparison]\ntemperature = {comparison['temperature']:.3f}" in text


def test_too_few_rows_are_said(tmp_path: Path, tiny_model: Path) -> None:
    judge = tmp_path / "judge.toml"
    judge.write_text("min_mass = 1e-30\n" + SHORT_JUDGE.format(model=tiny_model))
    rows = [{"prompt": "p", "completion": "c", "rating": 5}]
    data = write_rows(tmp_path / "labelled.jsonl", rows)
    with pytest.raises(ConfigError, match="at least 20"):
        CliRunner().invoke(
            app,
            ["calibrate", str(data), "--judge", str(judge), "--engine", "transformers", "--no-cache"],
            catch_exceptions=False,
        )
