# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint is, by its bytes or its hub commit: equal fingerprints mean equal outputs.

A folder counts by content, wherever it lies; a hub name counts by the commit it stands for at this moment,
so that a moved branch is another model. All of it is known without loading the model.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.util
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.paths import cache_home

_PARTS = (
    "*.safetensors", "*.gguf", "pytorch_model*.bin", "adapter_model*.bin", "consolidated*", "*.model",
    "config.json", "generation_config.json", "adapter_config.json", "quantize_config.json", "*.index.json",
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt",
    "chat_template*", "*.tiktoken", "*.py",
)  # fmt: skip
"""Files that can change what a model writes; training states and read-me files are not among them."""

_NOTES = ("transformers_version", "_name_or_path", "_model_name_or_path", "base_model_name_or_path")
"""What saving tools note in a JSON file about themselves: the same weights saved again are the same model."""

_HUB_SECONDS = 10.0
_COMMIT = re.compile(r"[0-9a-f]{40}")

_REMEMBER_ABOVE = 1 << 20
"""Bytes from which reading a file again costs more than looking its hash up."""


def engine_fingerprint(
    model: str, *, revision: str | None, dtype: str, adapter: str | None, quantization: object = None
) -> str:
    """What a model computes, whichever engine runs it.

    Args:
        model: Checkpoint folder or file, taken by content, or hub name, taken by its commit.
        revision: Hub revision, or None.
        dtype: What it computes in: `bfloat16`, with or without `torch.` before it.
        adapter: Folder, taken by content, or hub name of a LoRA adapter, or None.
        quantization: Settings that change the weights or the cache on loading; None for none.

    Returns:
        32 hexadecimal digits.

    Raises:
        ConfigError: A folder cannot be read, or holds no checkpoint.
    """
    known = {
        "model": _identity(model),
        "revision": hub_commit(model, revision),
        "dtype": dtype.removeprefix("torch."),
        "adapter": _identity(adapter),
        "adapter_revision": None if adapter is None else hub_commit(adapter, None),
        "quantization": repr(quantization),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]


def hub_commit(name: str, revision: str | None) -> str | None:
    """The commit that a hub name and revision stand for now.

    The hub is asked; where it cannot be reached, the files that are already here say which commit they
    are, which is also what a model library would load.

    Args:
        name: Hub name, or a folder or file.
        revision: Branch, tag or commit; None is the main branch.

    Returns:
        40 hexadecimal digits; the revision as it was given for a path, and where nobody can tell.
    """
    if Path(name).exists() or (revision is not None and _COMMIT.fullmatch(revision)):
        return revision
    if importlib.util.find_spec("huggingface_hub") is None:
        return revision
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HFValidationError

    try:
        return HfApi().model_info(name, revision=revision, timeout=_HUB_SECONDS).sha or revision
    except HFValidationError:
        return revision
    except Exception:
        # Without a network the error is that of the hub's HTTP library, which changes with its version.
        kept = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "refs" / (revision or "main")
    try:
        return kept.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return revision


def checkpoint_dtype(model: str, revision: str | None) -> str | None:
    """The dtype that a checkpoint was saved in, by its configuration alone: `bfloat16`.

    Returns:
        None where the configuration is not on this machine, or names none, or says that the weights are
        quantised: then only loading tells what the model computes in.
    """
    path = Path(model) / "config.json"
    if not Path(model).exists():
        path = _hub_file(model, "config.json", hub_commit(model, revision)) or path
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(config, Mapping) or "quantization_config" in config:
        return None
    named = config.get("dtype", config.get("torch_dtype"))
    return named.removeprefix("torch.") if isinstance(named, str) else None


def _hub_file(name: str, file: str, commit: str | None) -> Path | None:
    """A hub file that is already on this machine."""
    if commit is None or importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, file, revision=commit)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _identity(name: str | None) -> str | None:
    if name is None or not Path(name).exists():
        return name
    path = Path(name)
    if path.is_dir():
        return checkpoint_fingerprint(path)
    try:
        return _file_hash(path)
    except OSError as error:
        raise ConfigError(f"the checkpoint {path} cannot be read: {error}") from error


def checkpoint_fingerprint(folder: Path) -> str:
    """Hash of a checkpoint's weights, tokenizer, chat template and configuration, by content.

    Large files are hashed once and remembered by path, size, modification time and inode, so a copy
    or a changed file is read again and an unchanged one is not.

    Args:
        folder: A checkpoint's, or an adapter's.

    Returns:
        32 hexadecimal digits.

    Raises:
        ConfigError: The folder holds nothing of a checkpoint, or cannot be read.
    """
    try:
        names = sorted(
            p.name
            for p in folder.iterdir()
            if p.is_file() and any(fnmatch.fnmatch(p.name, part) for part in _PARTS)
        )
        if not names:
            raise ConfigError(f"{folder} holds no weights, tokenizer or configuration")
        whole = hashlib.sha256()
        for name in names:
            whole.update(f"{name}\0{_file_hash(folder / name)}\n".encode())
    except OSError as error:
        raise ConfigError(f"the checkpoint {folder} cannot be read: {error}") from error
    return whole.hexdigest()[:32]


def _file_hash(path: Path) -> str:
    real = path.resolve()
    status = real.stat()
    if status.st_size < _REMEMBER_ABOVE:
        return hashlib.sha256(_without_notes(path.name, real.read_bytes())).hexdigest()
    identity = f"{real}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}"
    note = cache_home() / "fingerprints" / hashlib.sha256(os.fsencode(identity)).hexdigest()
    try:
        known = note.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        known = ""
    if re.fullmatch(r"[0-9a-f]{64}", known):
        return known
    with open(real, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _remember(note, digest)
    return digest


def _without_notes(name: str, content: bytes) -> bytes:
    """A configuration without what saving tools note about themselves; other files as they are."""
    if not name.endswith("config.json"):
        return content
    try:
        known: Any = json.loads(content)
    except ValueError:
        return content
    if isinstance(known, dict):
        known = {key: value for key, value in known.items() if key not in _NOTES}
    return json.dumps(known, sort_keys=True).encode()


def _remember(note: Path, digest: str) -> None:
    """Write a note whole or not at all; without a place to write, the file is hashed each time."""
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(dir=note.parent)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(digest)
        os.replace(scratch, note)
    except OSError:
        return
