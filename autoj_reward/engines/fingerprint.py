# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint is, by its bytes: equal fingerprints mean equal outputs, wherever the folder lies."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import tempfile
from pathlib import Path

from autoj_reward.errors import ConfigError
from autoj_reward.paths import cache_home

_PARTS = (
    "*.safetensors", "*.gguf", "pytorch_model*.bin", "adapter_model*.bin", "*.model",
    "config.json", "generation_config.json", "adapter_config.json", "quantize_config.json", "*.index.json",
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt",
    "chat_template*",
)  # fmt: skip
"""Files that can change what a model writes; training states and read-me files are not among them."""

_REMEMBER_ABOVE = 1 << 20
"""Bytes from which reading a file again costs more than looking its hash up."""


def engine_fingerprint(
    model: str, *, revision: str | None, dtype: str, adapter: str | None, quantization: object = None
) -> str:
    """What a model computes, whichever engine of this process runs it.

    Args:
        model: Checkpoint folder, taken by content, or hub name.
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
        "revision": revision,
        "dtype": dtype.removeprefix("torch."),
        "adapter": _identity(adapter),
        "quantization": repr(quantization),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]


def _identity(name: str | None) -> str | None:
    return checkpoint_fingerprint(Path(name)) if name is not None and Path(name).is_dir() else name


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
        return hashlib.sha256(real.read_bytes()).hexdigest()
    identity = f"{real}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}"
    note = cache_home() / "fingerprints" / hashlib.sha256(os.fsencode(identity)).hexdigest()
    try:
        return note.read_text(encoding="ascii")
    except FileNotFoundError:
        pass
    with open(real, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _remember(note, digest)
    return digest


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
