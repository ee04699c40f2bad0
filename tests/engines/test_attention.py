# SPDX-License-Identifier: Apache-2.0
"""What the transformers engine reads is what the model computes, for every kind of attention."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from autoj_reward.engines.transformers import TransformersEngine
from autoj_reward.types import JudgeInput, Sampling
from tests.engines.contract import outputs
from tests.engines.families import (
    APART,
    FAMILIES,
    INPUTS,
    Family,
    load_family,
    normal,
    own_noise,
    own_probs,
    read_probs,
    save_family,
)

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
    assert min(len(ids) for ids in engine.tokenizer.encode_inputs([*INPUTS, *APART])) >= 100
    limit = max(1e-5, 3 * own_noise(model, engine, INPUTS[0]) if not family.by_length else 0.0)
    assert limit < 1e-3
    wanted = [own_probs(model, engine, item) for item in INPUTS]
    for item, own in zip(INPUTS, wanted, strict=True):
        assert difference(read_probs(engine, [item]), [own]) <= limit, "alone"
    assert difference(read_probs(engine, INPUTS), wanted) <= limit, "with a shared beginning"
    apart = [own_probs(model, engine, item) for item in APART]
    assert difference(read_probs(engine, APART), apart) <= limit, "in a batch"
