# SPDX-License-Identifier: Apache-2.0
"""Check the names of engine options without importing an engine, so that a typo is reported at once."""

from __future__ import annotations

import ast
import difflib
import functools
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError

OWN_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "transformers": ("adapter", "batch_tokens", "context_tokens", "device", "dtype", "revision"),
    "vllm": (
        "adapter", "block_size", "context_tokens", "dtype", "memory_share", "revision", "sleep",
        "tensor_parallel_size",
    ),
    "vllm-server": (
        "adapter", "allow_plain_http", "api_key", "api_key_env", "block_size", "concurrency",
        "context_tokens", "data_parallel_size", "devices", "dtype", "endpoints", "fingerprint",
        "memory_share", "name", "python", "revision", "start_seconds", "tensor_parallel_size",
        "timeout_seconds",
    ),
}  # fmt: skip
"""Options of each engine, besides those of its library."""

_FACTORY = ("memory_check",)
_REFUSED_WITH_REASON = {
    "transformers": ("quantization", "kv_cache_dtype"),
    "vllm-server": ("api_server_count", "host", "port", "sleep"),
}
"""Options that are refused later, with a better message."""

_FROM_PRETRAINED = (
    "attn_implementation", "cache_dir", "code_revision", "device_map", "distributed_config",
    "experts_implementation", "force_download", "gguf_file", "ignore_mismatched_sizes", "key_mapping",
    "local_files_only", "low_cpu_mem_usage", "max_memory", "offload_buffers", "offload_folder", "proxies",
    "quantization_config", "sliding_window", "rope_scaling", "rope_parameters", "subfolder", "token",
    "tp_plan", "tp_size", "trust_remote_code", "use_kernels", "use_safetensors", "variant", "weights_only",
)  # fmt: skip
"""Options of transformers' `from_pretrained`, and fields of a configuration that users change."""

_ENGINE_ARGS = ("engine/arg_utils.py",)
_SERVER_ARGS = (
    "entrypoints/common/cli_args.py", "entrypoints/launchers/cli_args.py", "entrypoints/openai/cli_args.py",
)  # fmt: skip
"""Files of vLLM's argument classes, the newest version's first (0.33, 0.27, 0.23)."""
_LIBRARIES = {
    "transformers": "from_pretrained of transformers",
    "vllm": "vLLM's EngineArgs",
    "vllm-server": "`vllm serve`",
}
_CLASSES = ("EngineArgs", "AsyncEngineArgs", "BaseFrontendArgs", "FrontendArgs")


def check_options(name: str, options: Iterable[str]) -> None:
    """Raise ConfigError, with similar names, for options that an engine lacks."""
    own = {*OWN_OPTIONS[name], *_FACTORY, *_REFUSED_WITH_REASON.get(name, ())}
    if not (left := sorted(set(options) - own)):
        return
    library = set(_FROM_PRETRAINED) if name == "transformers" else _vllm_options(name)
    # Without the library installed, the server checks its options.
    if not library or not (unknown := [option for option in left if option not in library]):
        return
    near = {n: difflib.get_close_matches(n, own | library, n=1) for n in unknown}
    meant = "; ".join(f"{n}: did you mean {found[0]}?" for n, found in near.items() if found)
    raise ConfigError(
        f"the engine {name!r} has no option {', '.join(unknown)}" + (f" ({meant})" if meant else ""),
        hint=f"it has {', '.join(OWN_OPTIONS[name])}, and the options of {_LIBRARIES[name]}",
    )


def refuse_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise ConfigError for any option, for an engine that has none."""
    if options:
        raise ConfigError(f"the engine {name!r} has no option {', '.join(sorted(options))}; it has none")


@functools.cache
def _vllm_options(name: str) -> frozenset[str]:
    """Fields of vLLM's argument classes, parsed from its source because importing it takes seconds."""
    found = importlib.util.find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        return frozenset()
    folder = Path(found.submodule_search_locations[0])
    names: set[str] = set()
    for files in (_ENGINE_ARGS, _SERVER_ARGS) if name == "vllm-server" else (_ENGINE_ARGS,):
        file = next((folder / f for f in files if (folder / f).is_file()), None)
        if file is None:
            return frozenset()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name in _CLASSES:
                names.update(
                    field.target.id
                    for field in node.body
                    if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
                )
    return frozenset(names)
