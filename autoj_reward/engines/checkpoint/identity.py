# SPDX-License-Identifier: Apache-2.0
"""Predict an engine's fingerprint without loading it, so a fully cached run never loads the model.

`auto` dtypes are resolved here and passed to the engine, so that the prediction holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoj_reward.engines.checkpoint.dtype import automatic_dtype
from autoj_reward.engines.checkpoint.embedded import resolve_model
from autoj_reward.engines.checkpoint.fingerprint import (
    checkpoint_dtype,
    engine_facts,
    hub_commit,
    is_certain,
    read_json,
)

_SHORT = {"half": "float16", "float": "float32"}
_DTYPES = ("bfloat16", "float16", "float32")
_NEUTRAL = frozenset(
    {
        "attn_implementation", "cache_dir", "device_map", "force_download", "local_files_only",
        "low_cpu_mem_usage", "max_memory", "offload_folder", "offload_state_dict", "proxies", "token",
        "tp_plan", "trust_remote_code", "use_safetensors",
    }
)  # fmt: skip
"""Options of `from_pretrained` that do not affect outputs: where a model is stored and where it runs."""

_OWN = frozenset({"dtype", "device", "revision", "adapter", "context_tokens", "batch_tokens"})
"""Options of the transformers engine itself."""


def output_affecting_options(model_options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options of `from_pretrained` that may change outputs; None without any."""
    chosen = {k: v for k, v in sorted(model_options.items()) if k not in _NEUTRAL and v is not None}
    return chosen or None


def resolve_settings(engine: str, model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """An engine's settings with the revision's commit and, if known, the dtype that `auto` stands for.

    Args:
        engine: `transformers` or `vllm`.
        model: Checkpoint folder, hub name, or the embedded model's name.
        settings: Keyword arguments of the engine.
    """
    path = resolve_model(model)
    commit = hub_commit(path, settings.get("revision"))
    found = {**settings, "revision": commit}
    if settings.get("dtype", "auto") == "auto":
        saved = checkpoint_dtype(path, commit)
        llama = read_json(Path(path) / "config.json").get("model_type") == "llama"
        quantised = settings.get("quantization_config") is not None
        dtype = None if quantised else automatic_dtype(engine, saved, settings)
        # Of the float16 checkpoints that vLLM runs as they are, Llama's are certain.
        if dtype is None and engine == "vllm" and saved == "float16" and llama:
            dtype = saved
        if dtype is not None:
            found["dtype"] = dtype
    return found


def predicted_facts(engine: str, model: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `engine_facts` that an engine with these settings will have; None if known only after loading.

    Args:
        engine: `transformers` or `vllm`.
        model: Checkpoint folder, hub name, or the embedded model's name.
        settings: Keyword arguments of the engine, from `resolve_settings`.
    """
    dtype = str(settings.get("dtype", "auto")).removeprefix("torch.")
    dtype = _SHORT.get(dtype, dtype)
    path = resolve_model(model)
    if dtype not in _DTYPES or not is_certain(path, settings.get("revision")):
        return None
    if engine == "vllm":
        quantization = text_options(settings)
    else:
        quantization = output_affecting_options({k: v for k, v in settings.items() if k not in _OWN})
        # A quantised model's dtype is that of the weights that are not quantised.
        if quantization is not None or checkpoint_dtype(path, settings.get("revision")) is None:
            return None
    return engine_facts(
        engine,
        path,
        revision=settings.get("revision"),
        dtype=dtype,
        adapter=settings.get("adapter"),
        quantization=quantization,
    )


_CHANGES_TEXT = (
    "quantization", "quantization_config", "kv_cache_dtype", "hf_overrides", "load_format", "rope_scaling",
    "config_format", "hf_config_path", "logits_processors", "model_impl", "override_generation_config",
    "tokenizer_mode", "tokenizer_revision",
)  # fmt: skip


def text_options(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """vLLM's options that change outputs; None without any."""
    chosen = {k: options[k] for k in _CHANGES_TEXT if options.get(k) not in (None, "auto", {})}
    return chosen or None
