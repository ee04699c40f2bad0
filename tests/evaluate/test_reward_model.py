# SPDX-License-Identifier: Apache-2.0
"""Scalar reward models, on a small one with random weights and the embedded model's tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autoj_reward.autoj.pairs import LabelledPair
from autoj_reward.cli.app import app
from autoj_reward.errors import ConfigError
from autoj_reward.evaluate.reward_model import score_pairs
from tests.cli.conftest import read_rows, write_rows

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    from autoj_reward.engines.checkpoint.embedded import embedded_checkpoint

    folder = tmp_path_factory.mktemp("reward") / "model"
    tokenizer = AutoTokenizer.from_pretrained(embedded_checkpoint())
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256, num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config.num_labels = 2
    LlamaForSequenceClassification(config).save_pretrained(folder.with_name("two"))
    tokenizer.save_pretrained(folder.with_name("two"))
    return folder


def pair(first: str, second: str) -> LabelledPair:
    return LabelledPair(prompt="Q?", first=first, second=second, preference="first", scenario="", group="")


def test_a_score_does_not_depend_on_the_other_completion_or_the_batch(reward_model: Path) -> None:
    """Padding in a batch once moved the place where the score is read."""
    texts = ["short", "a much longer completion " * 12, "x" * 3000, ""]
    scores = score_pairs(str(reward_model), [pair(a, b) for a in texts for b in texts])
    assert all(isinstance(s, float) for both in scores for s in both)
    for i, (a, b) in enumerate((a, b) for a in range(4) for b in range(4)):
        assert scores[i][0] == pytest.approx(scores[5 * a][0], abs=1e-5)
        assert scores[i][1] == pytest.approx(scores[5 * b][1], abs=1e-5)
    assert len({round(s[0] or 0.0, 6) for s in scores}) > 2


def test_the_command_scores_and_searches_a_threshold(reward_model: Path, tmp_path: Path) -> None:
    rows = [{"label": 0, "prompt": f"p{n}", "response 1": "aa " * n, "response 2": "b"} for n in range(6)]
    data, out = write_rows(tmp_path / "pairs.jsonl", rows), tmp_path / "scores.jsonl"
    arguments = ["evaluate", "pairwise", "--data", str(data), "--folds", "2", "--json"]
    done = CliRunner().invoke(
        app, [*arguments, "--reward-model", str(reward_model), "-o", str(out)], catch_exceptions=False
    )
    report = json.loads(done.stdout)
    assert report["tie_threshold"]["n_unreadable"] == 0
    assert len(read_rows(out)) == 6
    again = CliRunner().invoke(app, [*arguments, "--predictions", str(out)], catch_exceptions=False)
    read = json.loads(again.stdout)
    assert (read.pop("about")["judge"], report.pop("about")["judge"]) == (
        f"decisions of {out}", f"the reward model {reward_model}",
    )  # fmt: skip
    assert read == report


def test_other_models_than_reward_models_are_refused(reward_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has 2 outputs"):
        score_pairs(str(reward_model.with_name("two")), [pair("a", "b")])
    with pytest.raises(ConfigError, match="cannot load the reward model"):
        score_pairs(str(tmp_path), [pair("a", "b")])
