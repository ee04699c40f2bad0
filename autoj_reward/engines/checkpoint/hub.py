# SPDX-License-Identifier: Apache-2.0
"""Locate hub models on disk, and explain what to do when the hub cannot be reached."""

from __future__ import annotations

import os
from pathlib import Path


def hub_cache() -> Path:
    """The local hub cache folder, which may not exist.

    Follows the environment variables of `huggingface_hub`, which not every engine installs.
    """
    for variable, *below in (
        ("HF_HUB_CACHE",),
        ("HUGGINGFACE_HUB_CACHE",),
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface", "hub"),
    ):
        if folder := os.environ.get(variable):
            return Path(os.path.expandvars(folder)).expanduser().joinpath(*below)
    return Path.home() / ".cache" / "huggingface" / "hub"


def is_hub_name(model: str) -> bool:
    """Whether a model is a hub name: ORG/MODEL, and no folder of that name."""
    return model.count("/") == 1 and not model.startswith(("/", ".", "~")) and not Path(model).exists()


def is_here(model: str) -> bool:
    """Whether the local hub cache has any revision of a model."""
    return (hub_cache() / _folder(model) / "snapshots").is_dir()


def kept_commit(model: str, revision: str | None = None) -> str | None:
    """The commit of a branch or tag in the local hub cache, or None."""
    try:
        reference = hub_cache() / _folder(model) / "refs" / (revision or "main")
        return reference.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def kept_snapshot(model: str, revision: str | None = None) -> Path | None:
    """The folder of a revision in the local hub cache, or None. Never uses the network."""
    commit = kept_commit(model, revision) or revision
    if not commit:
        return None
    folder = hub_cache() / _folder(model) / "snapshots" / commit
    return folder if folder.is_dir() else None


def weights_source(model: str, revision: str | None = None) -> str:
    """Where a model's weights come from: a resolved path, or a hub name with revision."""
    if Path(model).exists():
        return str(Path(model).resolve())
    return model if revision is None else f"{model} at {revision}"


def where_to_get(model: str, revision: str | None = None) -> str:
    """A hint for a model that could not be loaded: what to download, and where to put it."""
    if not is_hub_name(model):
        return "give the folder of a checkpoint: config.json, the tokenizer's files and the weights"
    pinned = "" if revision is None else f" --revision {revision}"
    return (
        f"where the hub can be reached: `hf download {model}{pinned} --local-dir FOLDER`; bring FOLDER here "
        "and name it in a judge file (extends = PRESET, model = 'FOLDER'), or bring the hub's own folder "
        f"{_folder(model)} into {hub_cache()}"
    )


def _folder(model: str) -> str:
    return "models--" + model.replace("/", "--")
