# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from autoj_reward.autoj.scenarios.embedded import EmbeddedClassifier, LinearModel, load_model, save_model
from autoj_reward.autoj.scenarios.features import shortened
from autoj_reward.autoj.scenarios.generative import GenerativeClassifier
from autoj_reward.autoj.scenarios.names import classifier_labels
from autoj_reward.autoj.scenarios.training import nearest_centroid, train
from autoj_reward.engines.recorded import RecordedEngine
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.testing import ScriptedEngine, rendered_text
from autoj_reward.types import Failure, FailureReason, JudgeInput, JudgeOutput
from tests.cli.conftest import write_rows
from tests.hostile import hostile_text

pytest.importorskip("sklearn", reason="needs the scenarios extra")

WORDS = {
    "writing_email": ["write an email to {}", "compose a mail for my {}", "draft an email about {}"],
    "code_generation": ["write a python function for {}", "implement {} in code", "code a class {} = x"],
    "default": ["{} and so on", "well {} ok", "here is {}"],
}
THINGS = ["boss", "sorting", "holidays", "friends", "numbers", "tea", "rain", "music"]


@pytest.fixture(scope="module")
def labelled() -> tuple[list[str], list[str]]:
    rows = [(t.format(thing), label) for label, texts in WORDS.items() for t in texts for thing in THINGS]
    return [text for text, _ in rows], [label for _, label in rows]


@pytest.fixture(scope="module")
def small(labelled: tuple[list[str], list[str]]) -> LinearModel:
    return train(*labelled, n_hashed=1 << 12)


def test_a_trained_model_tells_what_it_was_shown(
    small: LinearModel, labelled: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    save_model(small, tmp_path / "m.npz")
    classifier = EmbeddedClassifier(tmp_path / "m.npz")
    found = classifier.classify(["please write an email to the plumber", "a python function, please"])
    assert [a.scenario for a in found] == ["writing_email", "code_generation"]
    assert all(a.prob is not None and 1 / 3 < a.prob <= 1.0 for a in found)
    assert small.facts["n_rows"] == 72
    assert small.facts["held_out_accuracy"] > 0.9
    assert nearest_centroid(*labelled, ["draft an email about rain"], n_hashed=1 << 12) == ["writing_email"]


def test_the_file_gives_back_the_model_and_holds_no_code(small: LinearModel, tmp_path: Path) -> None:
    save_model(small, tmp_path / "m.npz")
    again = load_model(tmp_path / "m.npz")
    queries = ["write an email", "well tea ok"]
    assert np.array_equal(small.probs(queries), again.probs(queries))
    with np.load(tmp_path / "m.npz", allow_pickle=False) as arrays:
        assert {array.dtype.kind for array in arrays.values()} <= set("iuf")


class Planted:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("planted",))


def test_a_planted_file_is_refused_and_not_run(
    small: LinearModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("object.npz", known=np.array([Planted()], dtype=object), weights=np.zeros(1))
    Path("pickle.npz").write_bytes(pickle.dumps(Planted()))
    Path("text.npz").write_text("hello")
    save_model(small, "m.npz")
    with np.load("m.npz") as arrays:
        np.savez("other_shape.npz", **{**arrays, "idf": arrays["idf"][:-1]})
        np.savez("wrong_place.npz", **{**arrays, "columns": arrays["columns"] + (1 << 30)})
        np.savez("not_json.npz", **{**arrays, "known": np.zeros(3, dtype=np.uint8)})
        known = json.loads(arrays["known"].tobytes()) | {"format": 2}
        np.savez(
            "later.npz", **{**arrays, "known": np.frombuffer(json.dumps(known).encode(), dtype=np.uint8)}
        )
    for name in ("object", "pickle", "text", "other_shape", "wrong_place", "not_json", "later", "missing"):
        with pytest.raises(ConfigError, match="scenario classifier"):
            EmbeddedClassifier(f"{name}.npz")
    assert not Path("planted").exists()


def test_uncertain_answers_are_default(small: LinearModel, tmp_path: Path) -> None:
    save_model(dataclasses.replace(small, sharpness=1.0), tmp_path / "m.npz")
    unsure = EmbeddedClassifier(tmp_path / "m.npz", min_prob=0.99).classify(["an email in code"])[0]
    assert unsure.scenario == "default"
    assert unsure.best in ("writing_email", "code_generation")
    with pytest.raises(ConfigError, match="not in"):
        EmbeddedClassifier(tmp_path / "m.npz", min_prob=1.5)


@given(hostile_text)
def test_any_text_gets_a_label_and_a_probability(text: str) -> None:
    answer = _shipped().classify([text])[0]
    assert answer.scenario in classifier_labels()
    assert answer.prob is not None
    assert 0.0 < answer.prob <= 1.0


_kept: list[EmbeddedClassifier] = []


def _shipped() -> EmbeddedClassifier:
    if not _kept:
        _kept.append(EmbeddedClassifier())
    return _kept[0]


def test_the_same_query_gets_the_same_answer_in_any_batch() -> None:
    queries = ["Write a haiku about tea.", "", "Fix this code: x = = 1", "word " * 5000]
    together = _shipped().classify(queries)
    assert together == [_shipped().classify([q])[0] for q in queries]
    assert _shipped().classify([]) == []


def test_long_queries_keep_their_ends() -> None:
    text = "a" * 600 + "b" * 10_000 + "c" * 300
    assert shortened(text) == "a" * 600 + " " + "c" * 300
    assert shortened("short") == "short"


def test_training_refuses_what_cannot_be_learned(labelled: tuple[list[str], list[str]]) -> None:
    queries, labels = labelled
    with pytest.raises(DataError, match="2 queries and 1 labels"):
        train(["a", "b"], ["x"])
    with pytest.raises(DataError, match="'rare' has 1 rows"):
        train([*queries, "z"], [*labels, "rare"])
    with pytest.raises(ConfigError, match="power of two"):
        train(queries, labels, n_hashed=1000)


GENERATED = [
    {"contains": ["haiku"], "reading": {"creative_writing": 0.7, "default": 0.1}},
    {"contains": ["mumble"], "reading": {"chitchat": 0.3, "default": 0.2, "planning": 0.2}},
    {"contains": ["nothing"], "reading": {}},
]


@pytest.fixture
def generative(tmp_path: Path) -> GenerativeClassifier:
    path = write_rows(tmp_path / "answers.jsonl", GENERATED)
    return GenerativeClassifier(engine=RecordedEngine(path), min_prob=0.5)


def test_the_large_classifier_reads_the_probability_of_every_label(generative: GenerativeClassifier) -> None:
    sure, unsure, none, unknown = generative.classify(["a haiku", "mumble", "nothing", "unrecorded"])
    assert (sure.scenario, sure.prob) == ("creative_writing", pytest.approx(0.875))
    assert (unsure.scenario, unsure.best, unsure.prob) == ("default", "chitchat", pytest.approx(3 / 7))
    assert (none.scenario, none.best, none.problem) == ("default", None, "no probability fell on a scenario")
    assert (unknown.scenario, unknown.problem) == ("default", "no recorded reading answers this input")
    generative.close()
    generative.close()


def writing_engine(text: str) -> ScriptedEngine:
    """Cannot read probabilities, and has room for 300 characters."""

    def too_long(item: JudgeInput) -> Failure | None:
        over = len(rendered_text(item)) - 300
        if over <= 0:
            return None
        return Failure(reason=FailureReason.TOO_LONG, detail="too long", overflow_tokens=over // 4 + 1)

    return ScriptedEngine(
        read=lambda item: too_long(item) or JudgeOutput(text="", finish_reason="read"),
        write=lambda item: too_long(item) or text,
    )


@pytest.mark.parametrize(
    ("text", "scenario"),
    [("chitchat", "chitchat"), (" Chitchat.\nmore", "chitchat"), ("no_such", "default"), ("", "default")],
)
def test_the_written_label_counts_without_a_reading(text: str, scenario: str) -> None:
    answer = GenerativeClassifier(engine=writing_engine(text)).classify(["hello"])[0]
    assert answer.scenario == scenario
    assert bool(answer.problem) == (text in ("no_such", ""))


def test_a_query_that_does_not_fit_loses_its_middle() -> None:
    engine = writing_engine("planning")
    answer = GenerativeClassifier(engine=engine).classify(["begin " + "x" * 5000 + " end"])[0]
    assert answer.scenario == "planning"
    assert "begin" in rendered_text(engine.inputs[-1])
    assert " end" in rendered_text(engine.inputs[-1])
    assert rendered_text(engine.inputs[-1]).startswith("Identify the scenario for the user's query")
