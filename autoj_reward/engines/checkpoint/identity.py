# SPDX-License-Identifier: Apache-2.0
"""Predict an engine's fingerprint without loading it, so a fully cached run never loads the model.

`auto` dtypes are resolved here and passed to the engine so, so that what is predicted is what runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoj_reward.engines.checkpoint.embedded import resolve_model
from autoj_reward.engines.checkpoint.fingerprint import (
    checkpoint_dtype,
    digest_of,
    engine_facts,
    hub_commit,
    is_certain,
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
"""Options of `from_pretrained` that say where a model lies and where it runs, not what it computes."""

_OWN = frozenset({"dtype", "device", "revision", "adapter", "context_tokens", "batch_tokens"})
"""What the transformers engine takes itself and does not pass on."""


def output_affecting_options(model_options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options of `from_pretrained` that may change what a model computes; None without any."""
    chosen = {k: v for k, v in sorted(model_options.items()) if k not in _NEUTRAL and v is not None}
    return chosen or None


def resolve_settings(engine: str, model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """An engine's settings with the hub revision as a commit and, where the checkpoint names it, the dtype.

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
        # vLLM runs float32 checkpoints, and float16 ones of a few families, in another dtype, which
        # depends on the device: it decides, and says so when it is loaded.
        takes = {"transformers": _DTYPES, "vllm": ("bfloat16",)}[engine]
        if saved in takes or (engine == "vllm" and saved == "float16" and _is_llama(path)):
            found["dtype"] = saved
    return found


def predict_fingerprint(engine: str, model: str, settings: Mapping[str, Any]) -> str | None:
    """The fingerprint that an engine of these settings will have; None where only loading tells."""
    facts = predicted_facts(engine, model, settings)
    return None if facts is None else digest_of(facts)


def predicted_facts(engine: str, model: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What decides the answers of an engine of these settings; None where only loading tells.

    Args:
        engine: `transformers` or `vllm`.
        model: Checkpoint folder, hub name, or the embedded model's name.
        settings: Keyword arguments of the engine, `resolve_settings`.
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
        # A quantised model's dtype is that of whichever weights were left as they are.
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


def _is_llama(path: str) -> bool:
    try:
        config: Any = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "llama"


_CHANGES_TEXT = (
    "quantization", "quantization_config", "kv_cache_dtype", "hf_overrides", "load_format", "rope_scaling",
    "config_format", "hf_config_path", "logits_processors", "model_impl", "override_generation_config",
    "tokenizer_mode", "tokenizer_revision",
)  # fmt: skip


def text_options(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options that change what a model computes, for its fingerprint; None without any."""
    chosen = {k: options[k] for k in _CHANGES_TEXT if options.get(k) not in (None, "auto", {})}
    return chosen or None
