# SPDX-License-Identifier: Apache-2.0
"""Rubrics from columns and files, in the formats that others publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.criteria.readers import load_rubric, read_rubric
from autoj_reward.criteria.rubric import Criterion, Rubric
from autoj_reward.errors import ConfigError, DataError

OWN = Rubric(
    criteria=(
        Criterion(name="Time", text="Says how long.", weight=3, essential=True),
        Criterion(name="Clear", text="Easy to follow.", choices=("1", "2", "3")),
        Criterion(text="Talks about something else.", weight=-1),
    ),
    criteria_per_call=2,
)

FORMS: dict[str, tuple[Any, list[tuple[str, str, float]]]] = {
    "texts": (["Says how long.", "Is short."], [("Says how long.", "Says how long.", 1), ("Is short.", "Is short.", 1)]),
    "names and texts": ({"Correctness": "Is it right?"}, [("Correctness", "Is it right?", 1)]),
    "HealthBench's column": (
        [{"criterion": "Advises to see a doctor.", "points": 7, "tags": ["axis:accuracy"]},
         {"criterion": "Names a dose.", "points": -6, "tags": []}],
        [("Advises to see a doctor.", "Advises to see a doctor.", 7), ("Names a dose.", "Names a dose.", -6)],
    ),
    "RubricHub's reward_model": (
        {"ground_truth": "", "style": "rubric", "rubrics": [{"criterion": "Names both.", "points": 5}]},
        [("Names both.", "Names both.", 5)],
    ),
    "a table of lists": (
        {"criterion": ["Names both.", "Is short."], "points": [5, 1]},
        [("Names both.", "Names both.", 5), ("Is short.", "Is short.", 1)],
    ),
    "Rubrics as Rewards": (
        [{"title": "Dose", "description": "Pitfall Criteria: Names a dose.", "weight": -1}],
        [("Dose", "Pitfall Criteria: Names a dose.", -1)],
    ),
    "JSON": (json.dumps([{"text": "Is short.", "weight": 2}]), [("Is short.", "Is short.", 2)]),
    "messages": (
        [{"role": "user", "content": "Write a rubric."}, {"role": "assistant", "content": '["Is short."]'}],
        [("Is short.", "Is short.", 1)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_published_forms_are_read(form: str) -> None:
    value, expected = FORMS[form]
    read = read_rubric(value)
    assert isinstance(read, Rubric)
    assert [(c.name, c.text, c.weight) for c in read.criteria] == expected


def test_hard_rules_of_openrubrics_are_essential() -> None:
    read = read_rubric("1. Names exactly five. [Hard Rule]\n2. Is engaging. [Principle]\n")
    assert isinstance(read, Rubric)
    assert [(c.text, c.essential) for c in read.criteria] == [
        ("Names exactly five.", True),
        ("Is engaging.", False),
    ]


def test_verifiers_choices_and_scales() -> None:
    items = [
        {"name": "a", "text": "A", "choices": ["poor", "fair", "good"]},
        {"text": "B", "scale": [1, 3]},
        {"text": "C", "scale": {"low": 0, "high": 1, "step": 0.5}},
    ]
    read = read_rubric({"criteria": items, "criteria_per_call": None})
    assert isinstance(read, Rubric)
    assert read.criteria_per_call is None
    assert [c.choices for c in read.criteria] == [
        ("poor", "fair", "good"),
        ("1", "2", "3"),
        ("0", "0.5", "1"),
    ]
    assert read.criteria[0].scores == {"poor": 0.0, "fair": 0.5, "good": 1.0}


@pytest.mark.parametrize(
    "text", ["Be brief. [Not JSON", "[1] Be brief, {please}", "Name five. [Hard Rule]\nBe kind."]
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert read_rubric(text) == text


def test_a_rubric_is_read_back() -> None:
    assert read_rubric(OWN.to_dict()) == OWN
    assert read_rubric(json.dumps(OWN.to_dict())) == OWN


def test_files(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(json.dumps(OWN.to_dict()), encoding="utf-8")
    (tmp_path / "v.toml").write_text('[[criteria]]\nname = "a"\ntext = "A"\nweight = 2\n', encoding="utf-8")
    (tmp_path / "no.json").write_text('"words"', encoding="utf-8")
    (tmp_path / "bad.json").write_text("[", encoding="utf-8")
    assert load_rubric(tmp_path / "own.json") == OWN
    assert load_rubric(tmp_path / "v.toml") == Rubric(criteria=(Criterion(name="a", text="A", weight=2),))
    for name in ("no.json", "bad.json", "none.json"):
        with pytest.raises(DataError, match=name):
            load_rubric(tmp_path / name)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "a rubric must be"),
        (5, "a rubric must be"),
        ({"points": 3}, "is a table of points"),
        ([{"points": 3}], r"criteria\[0\]: has no text; its fields are points"),
        (["a", 3], r"criteria\[1\]: must be a text or a table"),
        ([{"text": "a", "weight": "3"}], "its weight must be a number"),
        ([{"text": "a", "weight": float("nan")}], "is not finite"),
        ([{"text": "a", "choices": ["yes"]}], "must be 2 to 101, are 1"),
        ([{"text": "a", "choices": ["yes", "YES "]}], "hold 'yes' twice"),
        ([{"text": "a", "choices": ["yes", "[no]"]}], "without brackets"),
        ([{"text": "a", "scale": [3, 1]}], "has not 2 to 101 numbers"),
        ([{"text": "a", "scale": [1, 3], "choices": ["x", "y"]}], "both choices and a scale"),
        ([{"text": "a", "essential": "yes"}], "essential must be true or false"),
        ([{"text": "a", "weight": 0}], "a criterion with a weight"),
        ({"criteria": ["a"], "criteria_per_call": 0}, "criteria_per_call = 0 is not at least 1"),
        ({"criteria": ["a"], "criteria_per_call": "2"}, "must be a whole number"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_rubric(value)
