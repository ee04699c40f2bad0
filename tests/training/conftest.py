# SPDX-License-Identifier: Apache-2.0
"""A little data, a tiny random model, and a run over both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.training.config import TrainConfig, load_config
from tests.engines.tokenizers import save_random_model, whole_ten

TOPICS = ["rivers", "bread", "clocks", "violins", "whales", "bridges", "chess", "glass", "maps", "trains"]


# The tiny tokenizer cuts most words into bytes: long templates would make steps slow.
SHORT_JUDGE = """
extends = "autoj-13b"
name = "tiny"
model = "{model}"
[wrapper]
kind = "chat"
[rating]
template = "short rating"
text = "{{prompt}} {{completion}}"
verdict_prefix = "Rating: [["
[comparison]
template = "short comparison"
text = "{{prompt}} {{first}} {{second}}"
verdict_prefix = "So, the final decision is"
"""


def pair_rows(n: int = 60) -> list[dict[str, Any]]:
    """Pairs of whole completions; every fifth is a tie."""
    return [
        {
            "prompt": f"Tell me about {TOPICS[i % 10]}, part {i}.",
            "response_a": f"Here is what is known about {TOPICS[i % 10]} number {i}. It is quite a lot.",
            "response_b": f"About {TOPICS[i % 10]} {i}, in short. There is little to say about it here.",
            "label": 2 if i % 5 == 0 else i % 2,
        }
        for i in range(n)
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("tiny"), whole_ten())


@pytest.fixture
def config_file(tmp_path: Path, tiny_model: Path) -> Path:
    """A run of two short stages over sixty pairs, two of whose prompts are excluded."""
    rows = pair_rows()
    write_rows(tmp_path / "pairs.jsonl", rows)
    write_rows(
        tmp_path / "test.jsonl", [{"question": rows[3]["prompt"].upper()}, {"prompt": rows[4]["prompt"]}]
    )
    (tmp_path / "judge.toml").write_text(SHORT_JUDGE.format(model=tiny_model))
    path = tmp_path / "run.toml"
    path.write_text(
        """
judge = "judge.toml"
output = "out"
seed = 3
held_out = 0.3
measure_cases = 2
autocast = "none"
save_every = 2
exclude = ["test.jsonl"]
lora = { r = 4, alpha = 8 }

[[files]]
kind = "pairs"
path = "pairs.jsonl"

[[stages]]
name = "crossed"
examples = { crossed_ratings = 24 }
learning_rate = 5e-3
batch_size = 4
max_tokens = 400
measures = ["rating other_prompt"]

[[stages]]
name = "pairs"
examples = { pair_comparisons = 8, contrast_rating_critiques = 4 }
learning_rate = 5e-3
batch_size = 4
max_tokens = 600
measures = ["comparison human"]
"""
    )
    return path


@pytest.fixture
def config(config_file: Path) -> TrainConfig:
    return load_config(config_file)
