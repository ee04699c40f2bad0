# SPDX-License-Identifier: Apache-2.0
"""The probe of a model's real weights: few passes, and a wrong mask or a mixed batch is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from autoj_reward.engines.transformers.proof import NEVER, TRUSTED, Forms, probe
from autoj_reward.engines.transformers.small_copy import small_copy

IDS = [7, 31, 12, 44, 9, 23, 18, 5, 40, 27]


class IgnoresMask(LlamaForCausalLM):
    def forward(self, *args: Any, attention_mask: Any = None, position_ids: Any = None, **rest: Any) -> Any:
        return super().forward(*args, **rest)


class SeesSiblings(LlamaForCausalLM):
    def forward(self, *args: Any, attention_mask: Any = None, **rest: Any) -> Any:
        if attention_mask is not None and attention_mask.dim() == 4:
            n = attention_mask.shape[-2]
            new = torch.ones(n, n, dtype=torch.bool).tril()
            attention_mask = attention_mask.clone()
            attention_mask[..., -n:] = attention_mask[..., -n:].masked_fill(new, 0.0)
        return super().forward(*args, attention_mask=attention_mask, **rest)


class MixesRows(LlamaForCausalLM):
    def forward(self, *args: Any, **rest: Any) -> Any:
        out = super().forward(*args, **rest)
        out.logits = out.logits.flip(0)
        return out


def small(cls: type[LlamaForCausalLM]) -> Any:
    config = LlamaConfig(
        vocab_size=61, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    model, _ = small_copy(cls(config))
    return model


@pytest.mark.parametrize(
    ("cls", "left"),
    [
        (LlamaForCausalLM, TRUSTED),
        (IgnoresMask, Forms(equal_rows=True)),
        (SeesSiblings, replace(TRUSTED, tree=NEVER)),
        (MixesRows, Forms()),
    ],
)
def test_the_probe_keeps_what_the_weights_confirm(cls: type[LlamaForCausalLM], left: Forms) -> None:
    assert probe(small(cls), TRUSTED, IDS) == left


def test_the_probe_costs_seven_passes() -> None:
    model, passes = small(LlamaForCausalLM), []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    probe(model, TRUSTED, IDS)
    assert len(passes) == 7
