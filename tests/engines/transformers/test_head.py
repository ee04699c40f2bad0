# SPDX-License-Identifier: Apache-2.0
"""Logits of a model in 16 bits are computed in float32, and everything else as the model does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as T  # noqa: N812

from autoj_reward import Judge
from autoj_reward.engines.transformers.engine import TransformersEngine
from autoj_reward.engines.transformers.forward import last_logprobs
from autoj_reward.engines.transformers.head import head_dtype
from autoj_reward.ranking.resolution import engine_resolution
from tests.engines.tokenizers import save_random_model, whole_ten

SIZES = {
    "vocab_size": 40_000, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 64,
}  # fmt: skip
"""A vocabulary of more rows than are converted at a time."""

CAP = 2.0
IDS = torch.arange(3 * 11).reshape(3, 11) * 7


def made(kind: str) -> Any:
    torch.manual_seed(3)
    config = {
        "llama": T.LlamaConfig(**SIZES),
        "capped": T.Gemma2Config(**SIZES, final_logit_softcapping=CAP),
        "biased": T.PhiConfig(**SIZES),
    }[kind]
    model = T.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    head = model.get_output_embeddings()
    torch.nn.init.normal_(head.weight, std=0.6)
    if head.bias is not None:
        torch.nn.init.normal_(head.bias)
    return model


@pytest.mark.parametrize("kind", ["llama", "capped", "biased"])
def test_logits_are_those_of_the_hidden_states_without_rounding(kind: str) -> None:
    model = made(kind)
    head = model.get_output_embeddings()
    with torch.inference_mode():
        found = last_logprobs(model, 4, input_ids=IDS, use_cache=False)
        rounded = model(IDS, use_cache=False).logits[:, -4:].double().log_softmax(-1)
        hidden = model.model(IDS, use_cache=False).last_hidden_state[:, -4:].double()
        logits = hidden @ head.weight.double().T
        logits = logits if head.bias is None else logits + head.bias.double()
        logits = torch.tanh(logits / CAP) * CAP if kind == "capped" else logits
    exact = logits.log_softmax(-1)
    assert found.dtype == torch.float32
    assert float((found - exact).abs().max()) < 1e-4
    assert float((rounded - exact).abs().max()) > 1e-3


def test_the_model_is_as_before_afterwards() -> None:
    model = made("llama")
    with torch.inference_mode():
        before = model(IDS, use_cache=False).logits
        last_logprobs(model, 1, input_ids=IDS, use_cache=False)
        with pytest.raises(IndexError):
            last_logprobs(model, 1, input_ids=IDS + 40_000, use_cache=False)
        assert model(IDS, use_cache=False).logits.dtype == torch.bfloat16
        assert torch.equal(model(IDS, use_cache=False).logits, before)


def test_autocast_does_not_round_them() -> None:
    model = made("llama")
    with torch.inference_mode():
        plain = last_logprobs(model, 1, input_ids=IDS, use_cache=False)
        with torch.autocast("cpu", torch.bfloat16):
            found = last_logprobs(model, 1, input_ids=IDS, use_cache=False)
    assert torch.allclose(found, plain, atol=1e-4)


def test_a_layer_that_is_not_plain_keeps_its_own_arithmetic() -> None:
    class Quantized(torch.nn.Linear):
        def __init__(self) -> None:
            super().__init__(32, 40_000, bias=False)
            self.weight = torch.nn.Parameter(torch.zeros(40_000, 32, dtype=torch.int8), requires_grad=False)

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden.new_zeros(*hidden.shape[:-1], 40_000)

    model = made("llama")
    model.set_output_embeddings(Quantized())
    assert head_dtype(model) == "bfloat16"
    with torch.inference_mode():
        found = last_logprobs(model, 1, input_ids=IDS, use_cache=False)
    assert torch.allclose(found, found.new_full((), -10.5966), atol=1e-3)


def test_the_engine_says_so_and_the_resolution_follows(tmp_path: Path) -> None:
    folder = str(save_random_model(tmp_path / "model", whole_ten()))
    fine, exact = (TransformersEngine(folder, dtype=name) for name in ("bfloat16", "float32"))
    assert (fine.describe()["head_dtype"], exact.describe()["head_dtype"]) == ("float32", "float32")
    assert fine.describe()["facts"]["head_dtype"] == "float32"
    assert "head_dtype" not in exact.describe()["facts"]
    planned = Judge.load("mini", engine="transformers", dtype="bfloat16")
    other = Judge.load("mini", engine="vllm", dtype="bfloat16")
    asked = Judge.load("mini", engine="vllm", dtype="bfloat16", hf_overrides={"head_dtype": "float32"})
    assert [j.head_dtype for j in (planned, other, asked)] == ["float32", "bfloat16", "float32"]
    steps = [engine_resolution(j, pairwise=False) for j in (planned, other, asked)]
    assert steps == pytest.approx([0.03, 0.1, 0.03])
