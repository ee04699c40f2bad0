# SPDX-License-Identifier: Apache-2.0
"""What the transformers engine reads is what the model computes, for every kind of attention."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.engines.transformers.engine import TransformersEngine
from autoj_reward.types import Sampling, Segment
from tests.engines.contract import outputs
from tests.engines.transformers.families import (
    FAMILIES,
    INPUTS,
    UNLIKE,
    Family,
    load_family,
    normal,
    own_noise,
    own_probs,
    read_probs,
    save_family,
)

pytestmark = pytest.mark.slow

Case = tuple[Family, TransformersEngine, Any]


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    family: Family = request.param
    engine, model = load_family(family, save_family(family, tmp_path_factory.mktemp("family")))
    yield family, engine, model
    engine.close()


def difference(got: Sequence[Sequence[float]], wanted: Sequence[Sequence[float]]) -> float:
    """Largest difference of a probability among the verdicts."""
    pairs = [(normal(a), normal(b)) for a, b in zip(got, wanted, strict=True)]
    return max(abs(g - w) for a, b in pairs for g, w in zip(a, b, strict=True))


def test_the_engine_reads_what_the_model_computes(case: Case) -> None:
    """A mask of ours once took the place of windows, chunks and states: other verdicts, or a crash."""
    family, engine, model = case
    assert min(len(ids) for ids in engine.tokenizer.encode_inputs([*INPUTS, *UNLIKE])) >= 100
    limit = max(1e-5, 3 * own_noise(model, engine, INPUTS[0]) if not family.by_length else 0.0)
    assert limit < 1e-3
    wanted = [own_probs(model, engine, item) for item in INPUTS]
    for item, own in zip(INPUTS, wanted, strict=True):
        assert difference(read_probs(engine, [item]), [own]) <= limit, "alone"
    assert difference(read_probs(engine, INPUTS), wanted) <= limit, "with a shared beginning"
    unlike = [own_probs(model, engine, item) for item in UNLIKE]
    assert difference(read_probs(engine, UNLIKE), unlike) <= limit, "in a batch"


def test_reading_with_a_plain_tree_mask_differs(case: Case) -> None:
    """The table's other half: where nothing differs under a mask of ours, the first half is blind."""
    from autoj_reward.engines.transformers.proof import TRUSTED

    family, engine, model = case
    if not family.windowed:
        pytest.skip("its tree reading is its own, or not to be had")
    item, own_forms = INPUTS[0], engine._forms
    engine._forms = TRUSTED
    try:
        (former,) = read_probs(engine, [item])
    finally:
        engine._forms = own_forms
    nats = [math.log(a / b) for a, b in zip(former, own_probs(model, engine, item), strict=True)]
    assert max(map(abs, nats)) > 0.1


@pytest.mark.parametrize("name", ["Llama", "Gemma 3", "Phi-3, long rotations", "LFM2", "Mamba 2"])
def test_a_batch_writes_what_its_rows_write_alone(name: str, tmp_path: Path) -> None:
    """Padding may change a state, or the rotations of a whole batch."""
    (family,) = (f for f in FAMILIES if f.name == name)
    engine, _ = load_family(family, save_family(family, tmp_path))
    items = [replace(i, readout=None, sampling=Sampling(max_new_tokens=6)) for i in (*INPUTS, *UNLIKE)]
    together = [answer.text for answer in outputs(engine, items)]
    assert together == [outputs(engine, [item])[0].text for item in items]


def test_a_model_without_windows_is_still_read_in_one_pass(mini_float32: TransformersEngine) -> None:
    assert mini_float32.describe()["reading"] == "all branches in one pass"


def test_a_proof_is_remembered_and_a_damaged_note_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autoj_reward.engines.transformers.proof import Forms

    monkeypatch.setenv("AUTOJ_REWARD_HOME", str(tmp_path / "home"))
    (family,) = (f for f in FAMILIES if f.name == "Mistral")
    folder = save_family(family, tmp_path / "model")
    first, _ = load_family(family, folder)
    assert first.describe()["reading"].startswith("all branches in one pass up to 32 tokens")
    n_proofs = []
    monkeypatch.setattr(
        "autoj_reward.engines.transformers.proof_store.prove", lambda model: n_proofs.append(1) or Forms()
    )
    again, _ = load_family(family, folder)
    assert again._forms == first._forms
    assert not n_proofs
    (note,) = (tmp_path / "home" / "attention").iterdir()
    note.write_text('{"tree": "all", "padded": null, "equal_rows": true}')
    load_family(family, folder)
    assert n_proofs == [1]


def test_an_input_within_the_window_is_read_in_one_pass(tmp_path: Path) -> None:
    """A window that nothing passes costs nothing."""
    (family,) = (f for f in FAMILIES if f.name == "Gemma 3")
    engine, model = load_family(family, save_family(family, tmp_path))
    short = replace(INPUTS[0], body=(Segment("Yes: 13 is."),))
    answers = outputs(engine, [short, INPUTS[0]])
    assert [answer.usage.n_requests == 1 for answer in answers] == [True, False]
    assert difference(read_probs(engine, [short]), [own_probs(model, engine, short)]) <= 1e-5
