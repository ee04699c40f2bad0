# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from autoj_reward.engines import Engine
from autoj_reward.engines.transformers.engine import TransformersEngine
from autoj_reward.errors import ConfigError
from autoj_reward.types import JudgeOutput
from tests.engines.contract import RATINGS, EngineContract, check_closing, outputs, question
from tests.engines.tokenizers import save_random_model, whole_ten


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("model"), whole_ten())


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Iterator[TransformersEngine]:
    made = TransformersEngine(str(folder), dtype="float32")
    yield made
    made.close()


class TestTinyModel(EngineContract):
    @pytest.fixture
    def engine(self, tiny: TransformersEngine) -> Engine:
        return tiny


@pytest.mark.slow
class TestTransformers(EngineContract):
    @pytest.fixture
    def engine(self, mini_float32: TransformersEngine) -> Engine:
        return mini_float32


def probs(engine: Engine, text: str) -> list[float]:
    (answer,) = outputs(engine, [question(text, readout=RATINGS)])
    assert answer.reading is not None
    return [p.prob for p in answer.reading.paths]


@pytest.mark.slow
def test_shared_beginnings_and_batches_change_nothing(mini_float32: TransformersEngine) -> None:
    """Completions of one prompt share its keys and values; padding once leaked into short rows."""
    inputs = [question("A long prompt. " * 20 + f"Completion {n} " * n, readout=RATINGS) for n in range(9)]
    together = outputs(mini_float32, inputs)
    assert any(answer.usage.cached_tokens for answer in together)
    for item, answer in zip(inputs, together, strict=True):
        (alone,) = outputs(mini_float32, [item])
        assert answer.reading is not None
        assert alone.reading is not None
        assert [p.prob for p in answer.reading.paths] == pytest.approx(
            [p.prob for p in alone.reading.paths], abs=1e-5
        )


def test_a_lora_adapter_changes_verdicts_and_fingerprint(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(folder)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    plain = TransformersEngine(str(folder), dtype="float32")
    tuned = TransformersEngine(str(folder), dtype="float32", adapter=str(tmp_path / "adapter"))
    assert probs(plain, "Paris?") != pytest.approx(probs(tuned, "Paris?"), rel=1e-3)
    assert plain.fingerprint != tuned.fingerprint


def test_dtype_is_part_of_the_fingerprint(folder: Path) -> None:
    names = ("float32", "bfloat16")
    engines = [TransformersEngine(str(folder), dtype=name) for name in names]
    assert engines[0].fingerprint != engines[1].fingerprint


def test_closing(folder: Path) -> None:
    check_closing(TransformersEngine(str(folder)))


def test_batch_tokens_bound_a_batch_not_the_answers(folder: Path) -> None:
    small, large = (TransformersEngine(str(folder), dtype="float32", batch_tokens=n) for n in (64, 8192))
    inputs = [question(f"Text {n} " * (n + 1), readout=RATINGS) for n in range(12)]
    for one, other in zip(small.generate(inputs), large.generate(inputs), strict=True):
        assert isinstance(one, JudgeOutput)
        assert isinstance(other, JudgeOutput)
        assert one.reading is not None
        assert other.reading is not None
        assert [p.prob for p in one.reading.paths] == pytest.approx(
            [p.prob for p in other.reading.paths], abs=1e-6
        )


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("no/such-folder-anywhere/at-all", {}),
        ("FOLDER", {"dtype": "float31"}),
        ("FOLDER", {"adapter": "nowhere"}),
    ],
    ids=["model", "dtype", "adapter"],
)
def test_a_model_that_cannot_be_loaded_is_a_config_error(
    folder: Path, model: str, options: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match="cannot load"):
        TransformersEngine(str(folder) if model == "FOLDER" else model, **options)  # type: ignore[arg-type]
