# SPDX-License-Identifier: Apache-2.0
"""Describe an engine before it is built, from its settings and small files; nothing is loaded or fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoj_reward.engines.checkpoint.dtype import automatic_dtype
from autoj_reward.engines.checkpoint.embedded import converted_model, existing_checkpoint
from autoj_reward.engines.checkpoint.fingerprint import checkpoint_dtype, read_json
from autoj_reward.engines.checkpoint.hub import is_here, is_hub_name, kept_snapshot, weights_source
from autoj_reward.identity import library_versions, short_id

_LIBRARIES = {
    "transformers": ("transformers", "torch", "tokenizers"),
    "vllm": ("vllm", "transformers", "torch"),
    "server": ("httpx",),
    "decisions": ("httpx",),
}
_SOLE = ("endpoints", "fingerprint", "tokenizer", "adapter", "dtype", "quantization", "kv_cache_dtype")
"""Settings that a description shows if they are given."""


def planned_engine(
    name: str, model: str, revision: str | None, context_tokens: int | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The description of an engine that is not built yet; see `DescribedEngine.describe`.

    `name` is that of `make_engine`; `revision` and `context_tokens` are the judge's, or None.
    """
    kind, _, place = name.partition(":")
    if kind == "recorded":
        return {"engine": kind, "fingerprint": None, "source": place}
    known: dict[str, Any] = {"engine": "vllm" if kind == "vllm-server" else kind, "fingerprint": None}
    folder = local_checkpoint(model, revision)
    files = {} if folder is None else checkpoint_facts(folder)
    limits = [
        n for n in (context_tokens, settings.get("context_tokens"), files.pop("context_tokens", None)) if n
    ]
    if kind in ("server", "decisions"):
        known |= {"model": settings.get("model"), "source": place or settings.get("endpoints")}
    else:
        known |= {"model": model, "source": source_of(model, revision, folder)}
    if kind in ("transformers", "vllm", "vllm-server") and settings.get("dtype", "auto") == "auto":
        dtype = automatic_dtype(str(known["engine"]), _saved_dtype(model, folder), settings)
        settings = {**settings, "dtype": dtype}
    known |= {key: settings[key] for key in _SOLE if settings.get(key) is not None}
    if (head := _head_dtype(kind, settings)) is not None:
        known["head_dtype"] = head
    known |= {**files, "context_tokens": min(limits, default=None)}
    versions = library_versions(*_LIBRARIES.get(str(known["engine"]), ()))
    return {**known, "versions": versions}


def source_of(model: str, revision: str | None, folder: Path | None) -> str:
    """Where a model's weights come from, and whether they are on this machine."""
    if (named := converted_model(model)) is not None:
        return f"{named.origin} ({'not converted yet' if folder is None else folder})"
    if not is_hub_name(model):
        return weights_source(model)
    pinned = weights_source(model, revision)
    if folder is None:
        return f"{pinned} on the hub ({'another revision is' if is_here(model) else 'not'} on this machine)"
    return f"{pinned} on the hub ({folder})"


def _head_dtype(kind: str, settings: Mapping[str, Any]) -> str | None:
    if kind == "transformers":
        return "float32"
    overrides = settings.get("hf_overrides")
    named = overrides.get("head_dtype") if isinstance(overrides, Mapping) else None
    return None if named in (None, "model") else str(named).removeprefix("torch.")


def _saved_dtype(model: str, folder: Path | None) -> str | None:
    if converted_model(model) is not None:
        return "bfloat16"
    return None if folder is None else checkpoint_dtype(str(folder), None)


def local_checkpoint(model: str, revision: str | None) -> Path | None:
    """The folder of a model on this machine; None if it is not here, or a file."""
    if converted_model(model) is not None:
        return existing_checkpoint(model)
    path = Path(model)
    if path.exists():
        return path if path.is_dir() else None
    return kept_snapshot(model, revision)


def checkpoint_facts(folder: Path) -> dict[str, Any]:
    """The chat template's short id and the context limit of a checkpoint, or None each."""
    config = read_json(folder / "config.json")
    inner = config.get("text_config")
    limits = [
        part["max_position_embeddings"]
        for part in (config, inner if isinstance(inner, dict) else {})
        if type(part.get("max_position_embeddings")) is int
    ]
    try:
        template: Any = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except (OSError, ValueError):
        template = read_json(folder / "tokenizer_config.json").get("chat_template")
    return {
        "chat_template": None if template is None else short_id(template),
        "context_tokens": min(limits, default=None),
    }
