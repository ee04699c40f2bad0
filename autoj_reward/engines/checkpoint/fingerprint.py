# SPDX-License-Identifier: Apache-2.0
"""Fingerprint a checkpoint by its content or hub commit: equal fingerprints mean equal outputs.

A folder counts by content, wherever it is; a hub name by its current commit, so that a moved branch is
another model; a LoRA adapter's folder together with its base model. Nothing is loaded for it.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autoj_reward.engines.checkpoint.file_hash import file_hash, normal_json
from autoj_reward.engines.checkpoint.hub import kept_commit, kept_snapshot
from autoj_reward.errors import ConfigError

_PARTS: Mapping[str, tuple[str, ...]] = {
    "weights": ("*.safetensors", "*.gguf", "*.bin", "*.pt", "*.pth"),
    "chat_template": ("chat_template*", "*.jinja", "additional_chat_templates/*"),
    "tokenizer": (
        "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model",
        "*.tiktoken", "tekken.json",
    ),
    "code": ("*.py",),
    "settings": ("*.json",),
}  # fmt: skip
"""The parts of a checkpoint. A file belongs to the first part that matches; other files do not count."""

_LEFT_OUT = (
    "optimizer*", "scheduler*", "scaler*", "rng_state*", "training_args*", "trainer_state.json", "run.json",
    "all_results.json", "train_results.json", "eval_results.json", "*.run.json",
)  # fmt: skip
"""Files that training saves beside a model."""

_NOTES = ("transformers_version", "_name_or_path", "_model_name_or_path", "base_model_name_or_path")
"""Keys that vary between copies of the same model. An adapter's base counts separately, if it is loaded."""

_HUB_SECONDS = 10.0
_COMMIT = re.compile(r"[0-9a-f]{40}")

_LAYOUT = 2
"""Incremented when the same model gets another fingerprint than before."""


def engine_facts(
    kind: str,
    model: str,
    *,
    revision: str | None,
    dtype: str,
    adapter: str | None,
    quantization: object = None,
) -> dict[str, Any]:
    """Everything that a model's outputs depend on, by name.

    Args:
        kind: The library that runs the model: `transformers` or `vllm`.
        model: Checkpoint folder or file (counts by content), or hub name (by commit).
        revision: Hub revision, or None.
        dtype: Of the computation: `bfloat16`, with or without `torch.` before it.
        adapter: Folder (by content) or hub name of a LoRA adapter, or None.
        quantization: Settings that change the weights or the cache on loading; None for none.

    Raises:
        ConfigError: A folder cannot be read, or holds no checkpoint.
    """
    options = dict(quantization) if isinstance(quantization, Mapping) else {"": quantization}
    named = {
        f"option {name}".strip(): _option(name, value) for name, value in options.items() if value is not None
    }
    computed = dtype.removeprefix("torch.")
    # The transformers engine computes the logits of such models in float32.
    widened = kind == "transformers" and computed in ("bfloat16", "float16")
    return {
        "engine": kind,
        **_model_facts("model", model, revision, options.get("subfolder")),
        **({} if adapter is None else _adapter_facts(adapter)),
        "dtype": computed,
        **({"head_dtype": "float32"} if widened else {}),
        **named,
    }


def digest_of(facts: Mapping[str, Any]) -> str:
    """A hash of facts, 32 hexadecimal digits: a fingerprint."""
    text = json.dumps({"layout": _LAYOUT, **facts}, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def check_unchanged(before: Mapping[str, Any], after: Mapping[str, Any], model: str) -> None:
    """Compare a model's facts before and after it was loaded.

    Raises:
        ConfigError: They differ, so the weights in memory are unknown.
    """
    # The dtype may be known only after loading.
    changed = sorted(k for k in {*before, *after} - {"dtype", "head_dtype"} if before.get(k) != after.get(k))
    if changed:
        raise ConfigError(
            f"the judge model {model!r} changed while it was loaded: {', '.join(changed)}",
            hint="wait until the checkpoint is written, and start again",
        )


def _option(name: str, value: object) -> object:
    """An option's value; for a folder its content."""
    if name == "hf_config_path" and isinstance(value, str) and Path(value).is_dir():
        return checkpoint_fingerprint(Path(value))
    return value if isinstance(value, str | int | float | bool) else repr(value)


def _model_facts(
    name: str, model: str, revision: str | None, subfolder: object = None, seen: tuple[str, ...] = ()
) -> dict[str, Any]:
    path = Path(model)
    if not path.exists():
        return {name: model, f"{name} commit": hub_commit(model, revision)}
    pinned = {} if revision is None else {f"{name} revision": revision}
    if not path.is_dir():
        return {f"{name} weights": _file_content(path), **pinned}
    parts = checkpoint_parts(path)
    found = {**pinned, **{f"{name} {part}": value for part, value in parts.items()}}
    if isinstance(subfolder, str) and (path / subfolder).is_dir():
        found[f"{name} subfolder"] = checkpoint_fingerprint(path / subfolder)
    base = base_of(path)
    if base is None or base in seen:
        return found
    # The folder's adapter is loaded on top of its base.
    return {**found, **_model_facts("base", base, revision, seen=(*seen, base))}


def _adapter_facts(adapter: str) -> dict[str, Any]:
    path = Path(adapter)
    if path.is_dir():
        return {f"adapter {part}": value for part, value in checkpoint_parts(path).items()}
    return {"adapter": adapter, "adapter commit": hub_commit(adapter, None)}


def base_of(folder: Path) -> str | None:
    """The base model of a folder that holds only an adapter; None for other folders."""
    if (folder / "config.json").exists():
        return None
    base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    return base if isinstance(base, str) and base else None


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none."""
    try:
        known: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def hub_commit(name: str, revision: str | None) -> str | None:
    """The current commit of a hub name and revision.

    If the hub cannot be reached, it is the commit of the files in the local hub cache, which would be loaded.

    Args:
        name: Hub name, or a folder or file.
        revision: Branch, tag or commit; None is the main branch.

    Returns:
        40 hexadecimal digits; `revision` unchanged for a path, or if the commit is unknown.
    """
    if Path(name).exists() or (revision is not None and _COMMIT.fullmatch(revision)):
        return revision
    if importlib.util.find_spec("huggingface_hub") is None:
        return revision
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    try:
        return HfApi().model_info(name, revision=revision, timeout=_HUB_SECONDS).sha or revision
    except HFValidationError:
        return revision
    except Exception:
        # Without a network, the error's type depends on the version of huggingface_hub.
        return kept_commit(name, revision) or revision


def is_certain(name: str, revision: str | None) -> bool:
    """Whether a model is fixed: a path, or a hub name with a commit."""
    return Path(name).exists() or (revision is not None and _COMMIT.fullmatch(revision) is not None)


def checkpoint_dtype(model: str, revision: str | None) -> str | None:
    """The dtype in a checkpoint's configuration, such as `bfloat16`.

    Returns:
        None if the configuration is not on this machine or names no dtype, or the weights are quantised: then
        the dtype is known only after loading.
    """
    path = Path(model) / "config.json"
    if Path(model).is_dir() and (base := base_of(Path(model))) is not None and base != model:
        return checkpoint_dtype(base, revision)
    if not Path(model).exists():
        commit = hub_commit(model, revision)
        snapshot = None if commit is None else kept_snapshot(model, commit)
        path = path if snapshot is None else snapshot / "config.json"
    config = read_json(path)
    if "quantization_config" in config:
        return None
    named = config.get("dtype", config.get("torch_dtype"))
    return named.removeprefix("torch.") if isinstance(named, str) else None


def checkpoint_fingerprint(folder: Path) -> str:
    """Hash of the contents of a checkpoint's or adapter's folder, 32 hexadecimal digits.

    Raises:
        ConfigError: The folder holds no part of a checkpoint, or cannot be read.
    """
    return digest_of(checkpoint_parts(folder))


def checkpoint_parts(folder: Path) -> dict[str, str]:
    """Hashes of a checkpoint's weights, tokenizer, chat_template, code and settings, as far as it has them.

    Raises:
        ConfigError: The folder holds no part of a checkpoint, or cannot be read.
    """
    hashes: dict[str, Any] = {}
    try:
        for name, part in sorted(_files(folder)):
            own = hashes.setdefault(part, hashlib.sha256())
            path = folder / name
            if name.endswith("config.json"):
                content = path.read_bytes()
                without = (*_NOTES, "chat_template") if name == "tokenizer_config.json" else _NOTES
                digest = hashlib.sha256(normal_json(content, without=without)).hexdigest()
                template = read_json(path).get("chat_template") if name == "tokenizer_config.json" else None
                if template is not None:
                    written = hashes.setdefault("chat_template", hashlib.sha256())
                    written.update(f"{name}\0{json.dumps(template, sort_keys=True)}\n".encode())
            else:
                digest = file_hash(path)
            own.update(f"{name}\0{digest}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise ConfigError(f"the checkpoint {folder} cannot be read: {error}") from error
    if not hashes:
        raise ConfigError(f"{folder} holds no weights, tokenizer or configuration")
    return {part: own.hexdigest()[:32] for part, own in sorted(hashes.items())}


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """Names of the files of a checkpoint, each with its part."""
    shards = {
        name
        for index in folder.glob("*.index.json")
        for name in dict(read_json(index).get("weight_map") or {}).values()
        if isinstance(name, str) and "/" in name
    }
    inside = [*folder.glob("*"), *folder.glob("additional_chat_templates/*"), *folder.rglob("*.py")]
    for name in {path.relative_to(folder).as_posix() for path in inside if path.is_file()} | shards:
        if name in shards:
            yield name, "weights"
        elif not any(fnmatch.fnmatchcase(name, pattern) for pattern in _LEFT_OUT):
            top = "/" not in name
            for part, patterns in _PARTS.items():
                if any(fnmatch.fnmatchcase(name, p) for p in patterns if top or part != "weights"):
                    yield name, part
                    break


def _file_content(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise ConfigError(f"the checkpoint {path} cannot be read: {error}") from error
