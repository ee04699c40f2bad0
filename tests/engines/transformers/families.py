# SPDX-License-Identifier: Apache-2.0
"""Tiny random models of many families, with windows of 32 tokens, and what they compute for a verdict."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import transformers as T  # noqa: N812
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from autoj_reward.engines.transformers.engine import TransformersEngine
from autoj_reward.types import ContinuationQuery, JudgeInput, JudgeOutput, PlainWrapper, Segment
from tests.engines.tokenizers import whole_ten

Way = Literal["alone", "padded", "cached"]
SHARED = "13 is a prime above ten. " * 6
READOUT = ContinuationQuery(
    verdict_prefix="[[", continuations=("1", "2.5", "7", "10"), terminators=("]", ":", ".")
)
INPUTS = tuple(
    JudgeInput(
        body=(Segment(SHARED + "Right. " * n + "Yes"),),
        wrapper=PlainWrapper(),
        prefill=(Segment("[[", True),),
        readout=READOUT,
    )
    for n in (0, 3, 11)
)
"""Three inputs of different lengths, over 100 tokens each, that begin alike."""

UNLIKE = tuple(
    JudgeInput(
        body=(Segment(f"{n} " + SHARED + "Right. " * n + "Yes"),),
        wrapper=PlainWrapper(),
        prefill=(Segment("[[", True),),
        readout=READOUT,
    )
    for n in (1, 4, 9)
)
"""Three that begin differently, so that nothing is shared."""


@dataclass(frozen=True)
class Family:
    """A kind of model.

    Attributes:
        name: Its name.
        make: A configuration of it, given the settings that all share.
        windowed: Whether a mask of ours hides its window or chunk.
        by_branch: Whether its layers carry a state.
        by_length: Whether it computes otherwise from some length on, so that a padded row differs.
        attention: The implementation that it needs; None is the library's choice.
        options: For the engine.
    """

    name: str
    make: Callable[[dict[str, Any]], Any]
    windowed: bool = False
    by_branch: bool = False
    by_length: bool = False
    attention: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


_COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.5,
    "max_position_embeddings": 1024,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
_WINDOW = 32
_TWO = ["sliding_attention", "full_attention"]
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def _gemma3(common: dict[str, Any]) -> Any:
    own = common | {"head_dim": 8, "sliding_window": _WINDOW, "layer_types": _TWO}
    return T.Gemma3TextConfig(**own)


def _gemma3_composite(common: dict[str, Any]) -> Any:
    vision = T.SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    return T.Gemma3Config(
        text_config=_gemma3(common).to_dict(),
        vision_config=vision.to_dict(),
        mm_tokens_per_image=4,
        image_token_index=common["vocab_size"] - 1,
        boi_token_index=common["vocab_size"] - 2,
        eoi_token_index=common["vocab_size"] - 3,
    )


def _mla(common: dict[str, Any]) -> Any:
    own = {
        "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
        "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_group": 1, "topk_group": 1,
        "first_k_dense_replace": 1, "num_key_value_heads": 4,
    }  # fmt: skip
    return T.DeepseekV3Config(**common | own)


def _long_rope(common: dict[str, Any]) -> Any:
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0, 3.0, 4.0, 5.0]}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 126, **factors}
    return T.Phi3Config(**common | {"original_max_position_embeddings": 126, "rope_parameters": rope})


def _growing_rope(common: dict[str, Any]) -> Any:
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    return T.LlamaConfig(**common | {"rope_parameters": rope, "max_position_embeddings": 126})


FAMILIES = (
    Family("Llama", lambda c: T.LlamaConfig(**c)),
    Family("Mistral", lambda c: T.MistralConfig(**c, sliding_window=_WINDOW), windowed=True),
    Family(
        "Gemma 2",
        lambda c: T.Gemma2Config(**c, head_dim=8, sliding_window=_WINDOW, layer_types=_TWO),
        windowed=True,
    ),
    Family("Gemma 3", _gemma3, windowed=True),
    Family("Gemma 3, composite", _gemma3_composite, windowed=True),
    Family("Qwen2", lambda c: T.Qwen2Config(**c)),
    Family(
        "Qwen2, windowed",
        lambda c: T.Qwen2Config(**c, use_sliding_window=True, sliding_window=_WINDOW, max_window_layers=0),
        windowed=True,
    ),
    Family("Qwen3", lambda c: T.Qwen3Config(**c, head_dim=8)),
    Family("Qwen3-MoE", lambda c: T.Qwen3MoeConfig(**c, head_dim=8, **_EXPERTS)),
    Family("Phi-3", lambda c: T.Phi3Config(**c)),
    Family("Phi-3, windowed", lambda c: T.Phi3Config(**c, sliding_window=_WINDOW), windowed=True),
    Family("Phi-3, long rotations", _long_rope, by_length=True),
    Family("Llama, growing rotations", _growing_rope, by_length=True, options={"context_tokens": 1024}),
    Family("GPT-NeoX", lambda c: T.GPTNeoXConfig(**c)),
    Family("DeepSeek-V3", _mla),
    Family(
        "gpt-oss",
        lambda c: T.GptOssConfig(
            **c, head_dim=8, sliding_window=_WINDOW, layer_types=_TWO, num_local_experts=4, num_experts_per_tok=2
        ),
        windowed=True,
        attention="eager",
    ),
    Family(
        "Bloom",
        lambda c: T.BloomConfig(vocab_size=c["vocab_size"], hidden_size=32, n_layer=2, n_head=4, initializer_range=0.5),
    ),
    Family(
        "MPT",
        lambda c: T.MptConfig(
            vocab_size=c["vocab_size"], d_model=32, n_heads=4, n_layers=2, expansion_ratio=2, initializer_range=0.5
        ),
    ),
    Family(
        "Llama 4",
        lambda c: T.Llama4TextConfig(
            **c, head_dim=8, attention_chunk_size=_WINDOW, num_local_experts=2, intermediate_size_mlp=64,
            layer_types=["chunked_attention", "full_attention"], no_rope_layers=[1, 0],
        ),
        windowed=True,
    ),
    Family(
        "LFM2",
        lambda c: T.Lfm2Config(**c, layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False),
        by_branch=True,
    ),
    Family(
        "Qwen3-Next",
        lambda c: T.Qwen3NextConfig(
            **c, head_dim=8, layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2,
            linear_num_value_heads=2, linear_key_head_dim=8, linear_value_head_dim=8,
            shared_expert_intermediate_size=32, **_EXPERTS,
        ),
        by_branch=True,
    ),
    Family(
        "Mamba 2",
        lambda c: T.Mamba2Config(
            vocab_size=c["vocab_size"], hidden_size=32, num_heads=8, head_dim=8, state_size=8, n_groups=1,
            num_hidden_layers=2, initializer_range=0.5, bos_token_id=1, eos_token_id=2, pad_token_id=2,
        ),
        by_branch=True,
    ),
)  # fmt: skip


def load_family(family: Family, folder: Path) -> tuple[TransformersEngine, Any]:
    """The engine on a family's checkpoint, and the same model for itself."""
    how = {} if family.attention is None else {"attn_implementation": family.attention}
    engine = TransformersEngine(str(folder), dtype="float32", **how, **family.options)  # type: ignore[arg-type]
    return engine, AutoModelForCausalLM.from_pretrained(folder, **how).float().eval()


def save_family(family: Family, folder: Path) -> Path:
    """A random model of a family as a checkpoint folder."""
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=whole_ten(), bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = family.make(_COMMON | {"vocab_size": len(tokenizer)})
    model = AutoModelForCausalLM.from_config(config).float().eval()
    model.save_pretrained(folder)
    return folder


def own_probs(model: Any, engine: Any, item: JudgeInput, way: Way = "alone") -> list[float]:
    """P(each continuation, then an end) by the model's own forward passes, a token after the other.

    Args:
        model: The model.
        engine: For its tokenizer.
        item: What is asked.
        way: How a row is given to the model: alone, padded beside a longer one, or after its own cache.
    """
    assert item.readout is not None
    tokenizer = engine.tokenizer
    ends = list(tokenizer.ids_beginning_with(item.readout.terminators))
    start = tokenizer.encode_input(item)
    known: dict[tuple[int, ...], torch.Tensor] = {}

    def at(node: tuple[int, ...]) -> torch.Tensor:
        if node not in known:
            known[node] = _logprobs(model, [*start, *node], way)
        return known[node]

    found = []
    for text in item.readout.continuations:
        path = tuple(tokenizer.continuation_ids(item.readout.verdict_prefix, text))
        total = sum(float(at(path[:n])[token]) for n, token in enumerate(path))
        found.append(math.exp(total + float(at(path)[ends].logsumexp(0))))
    return found


def normal(probs: Sequence[float]) -> list[float]:
    """Probabilities among the verdicts."""
    return [p / math.fsum(probs) for p in probs]


def own_noise(model: Any, engine: Any, item: JudgeInput) -> float:
    """Largest difference of a verdict's probability between the ways in which a model may be given a row."""
    alone = normal(own_probs(model, engine, item))
    others = [normal(own_probs(model, engine, item, way)) for way in ("padded", "cached")]
    return max(abs(a - b) for other in others for a, b in zip(alone, other, strict=True))


def read_probs(engine: Any, items: Sequence[JudgeInput]) -> list[list[float]]:
    """What an engine reads for inputs of one call."""
    found = []
    for answer in engine.generate(list(items)):
        assert isinstance(answer, JudgeOutput), answer
        assert answer.reading is not None
        found.append(list(answer.reading.probs))
    return found


def _logprobs(model: Any, ids: Sequence[int], way: Way) -> torch.Tensor:
    takes = inspect.signature(model.forward).parameters
    for module in model.modules():
        # Rotations that grow with the longest input so far begin again.
        if hasattr(module, "max_seq_len_cached"):
            module.max_seq_len_cached = 0
    one = torch.tensor([list(ids)])
    with torch.inference_mode():
        if way == "padded":
            rows = torch.cat([torch.full((1, 7), 2), one], dim=1)
            rows = torch.cat([rows, rows.roll(3, dims=1)])
            mask = torch.ones_like(rows)
            mask[0, :7] = 0
            places = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0)} if "position_ids" in takes else {}
            logits = model(input_ids=rows, attention_mask=mask, **places).logits
        elif way == "cached" and "past_key_values" in takes:
            before = model(input_ids=one[:, :-1], use_cache=True).past_key_values
            logits = model(input_ids=one[:, -1:], past_key_values=before).logits
        else:
            logits = model(input_ids=one).logits
    return torch.log_softmax(logits[0, -1].double(), dim=-1)
