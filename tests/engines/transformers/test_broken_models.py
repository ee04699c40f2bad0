# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are no judge, hold no numbers, or say nothing of their context."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from autoj_reward.cache.store import JudgmentStore
from autoj_reward.engines.cached import CachedEngine
from autoj_reward.engines.transformers.engine import TransformersEngine
from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.presets import load_spec
from autoj_reward.testing import ScriptedEngine
from autoj_reward.types import (
    Failure,
    FailureReason,
    JudgeInput,
    PlainWrapper,
    Sampling,
)
from tests.engines.contract import RATINGS, question
from tests.engines.tokenizers import save_random_model, whole_ten
from tests.engines.transformers.families import FAMILIES, save_family


def family(name: str, folder: Path) -> Path:
    (found,) = (f for f in FAMILIES if f.name == name)
    return save_family(found, folder)


def refusal(model: Path, **options: Any) -> str:
    """What loading says against a model; empty where it loads."""
    try:
        TransformersEngine(str(model), dtype="float32", **options).close()
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("Gemma 3, composite", 1024), ("MPT", 2048), ("Mamba 2", 8192), ("Llama", 1024)],
)
def test_every_model_has_a_context(name: str, tokens: int, tmp_path: Path) -> None:
    """The context of a configuration with a part for images was None, and any length was judged."""
    engine = TransformersEngine(str(family(name, tmp_path)), dtype="float32")
    assert engine.context_tokens == tokens
    (answer,) = engine.generate(
        [replace(question("word " * tokens, readout=RATINGS), wrapper=PlainWrapper())]
    )
    assert isinstance(answer, Failure)
    assert answer.reason is FailureReason.TOO_LONG


def test_a_scalar_reward_model_is_no_judge(tmp_path: Path) -> None:
    """Its head was made of random numbers, other ones at each load, and all was rated."""
    folder = save_random_model(tmp_path, whole_ten())
    config = transformers.AutoConfig.from_pretrained(folder, num_labels=1)
    transformers.LlamaForSequenceClassification(config).save_pretrained(folder)
    assert "--reward-model" in refusal(folder)


def test_a_checkpoint_without_its_head_is_no_judge(tmp_path: Path) -> None:
    folder = save_random_model(tmp_path, whole_ten())
    rewrite(folder, without="lm_head.weight")
    assert "lm_head.weight" in refusal(folder)


def test_an_adapter_for_scores_is_no_judge(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    folder = save_random_model(tmp_path / "base", whole_ten())
    base = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    adapter = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="SEQ_CLS"))
    adapter.save_pretrained(tmp_path / "adapter")
    assert "SEQ_CLS" in refusal(folder, adapter=str(tmp_path / "adapter"))


def test_an_encoder_with_a_decoder_is_refused_with_what_can_serve_it(tmp_path: Path) -> None:
    folder = save_random_model(tmp_path, whole_ten())
    config = transformers.BartConfig(
        vocab_size=400, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16,
        encoder_attention_heads=2, decoder_attention_heads=2,
    )  # fmt: skip
    transformers.BartForConditionalGeneration(config).save_pretrained(folder)
    assert "--engine server:" in refusal(folder)


def test_weights_that_do_not_match_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = save_random_model(tmp_path, whole_ten())
    rewrite(folder, without="model.norm.weight", extra="extra.weight")
    with caplog.at_level(logging.WARNING, logger="autoj_reward"):
        assert refusal(folder) == ""
    said = " ".join(r.getMessage() for r in caplog.records if r.name == "autoj_reward")
    assert "model.norm.weight" in said
    assert "extra.weight" in said


def test_nan_is_a_failure_of_its_row_alone(tmp_path: Path) -> None:
    """A rating of 1.0 with a reward of NaN came out, and the other rows of a request were lost with it."""
    folder = save_random_model(tmp_path, whole_ten())
    engine = broken_for(folder, "~")
    items = [question(text, readout=RATINGS) for text in ("Paris", "Paris ~", "London")]
    bad = [isinstance(answer, Failure) for answer in engine.generate(items)]
    assert bad == [False, True, False]
    judge = Judge.load(load_spec("mini"), engine=engine, mode="direct", min_mass=1e-12)
    good, broken = judge.rate(["Q?", "Q?"], ["Paris", "~"])
    assert good.failure is None
    assert broken.failure is not None
    assert broken.failure.reason is FailureReason.ENGINE
    assert broken.expected_rating is None


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_while_writing_is_a_failure_of_its_row_alone(temperature: float, tmp_path: Path) -> None:
    folder = save_random_model(tmp_path, whole_ten())
    engine = broken_for(folder, "~")
    sampling = Sampling(max_new_tokens=4, temperature=temperature, seed=1)
    items = [replace(question(text), sampling=sampling) for text in ("Paris", "Paris ~")]
    try:
        answers = engine.generate(items)
    except RuntimeError as error:
        pytest.fail(f"the whole call was lost: {error}")
    assert [isinstance(answer, Failure) for answer in answers] == [False, True]


def engine_that_reads_nan() -> ScriptedEngine:
    def read(item: JudgeInput) -> dict[str, float]:
        assert item.readout is not None
        return dict.fromkeys(item.readout.continuations, math.nan)

    return ScriptedEngine(read=read)


def test_nan_from_any_engine_is_a_failure_and_is_not_kept(tmp_path: Path) -> None:
    judge = Judge.load(load_spec("mini"), engine=engine_that_reads_nan(), mode="direct")
    (rating,) = judge.rate(["Q?"], ["A"])
    (pair,) = judge.compare(["Q?"], ["A"], ["B"])
    for judgment in (rating, pair):
        assert judgment.failure is not None
        assert judgment.failure.reason is FailureReason.ENGINE
    cached = CachedEngine(engine_that_reads_nan(), JudgmentStore(tmp_path / "store.sqlite"))
    (answer,) = cached.generate([question("Hi", readout=RATINGS)])
    assert isinstance(answer, Failure)
    cached.generate([question("Hi", readout=RATINGS)])
    assert cached.stats.n_cached == 0
    cached.close()


def rewrite(folder: Path, *, without: str, extra: str | None = None) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[without]
    if extra is not None:
        weights[extra] = torch.zeros(2)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def broken_for(folder: Path, text: str) -> TransformersEngine:
    """A model for which any input with a text computes NaN."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    for token in range(len(tokenizer)):
        if text in tokenizer.decode([token]):
            weights["model.embed_tokens.weight"][token] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return TransformersEngine(str(folder), dtype="float32")
