# SPDX-License-Identifier: Apache-2.0
"""A judge that finds colours: a criterion `It is red.` is met as far as an answer names the colour."""

from __future__ import annotations

import pytest

from autoj_reward.testing import ScriptedEngine, rendered_text, untrusted_texts
from autoj_reward.types import JudgeInput

COLOURS = [
    {"text": "It is red.", "weight": 2},
    {"criterion": "It is green.", "points": -1},
]


def read(item: JudgeInput) -> dict[str, float]:
    """0.9 for a colour that the answer names, else 0.2; ratings of other templates are 5."""
    assert item.readout is not None
    choices = item.readout.continuations
    if "Criterion: " not in rendered_text(item):
        return {"5": 1.0}
    *_, answer, criterion = untrusted_texts(item)
    colour = criterion.removeprefix("It is ").removesuffix(".")
    prob = 0.9 if colour in answer else 0.2
    return {choices[0]: 1 - prob, choices[-1]: prob}


RED = (2 * 0.9 - 0.2) / 2
"""Score of an answer that names red alone."""
GREEN = 0.0
"""Score of one that names green alone: (2 * 0.2 - 0.9) / 2, clipped."""


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(read=read)
