# SPDX-License-Identifier: Apache-2.0
"""Locate hub models on disk, and explain what to do when the hub cannot be reached."""

from __future__ import annotations

import os
from pathlib import Path


def hub_cache() -> Path:
    """The hub's cache folder on this machine, which may not exist."""
    if folder := os.environ.get("HF_HUB_CACHE"):
        return Path(folder)
    home = os.environ.get("HF_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "huggingface") / "hub"


def is_hub_name(model: str) -> bool:
    """Whether a model is to be looked for on the hub: ORG/MODEL, and no folder of that name."""
    return model.count("/") == 1 and not model.startswith(("/", ".", "~")) and not Path(model).exists()


def is_here(model: str) -> bool:
    """Whether any revision of a hub model lies in the cache folder of this machine."""
    return (hub_cache() / _folder(model) / "snapshots").is_dir()


def kept_snapshot(model: str, revision: str | None = None) -> Path | None:
    """The folder of a hub model's revision on this machine; None where it is not here. Asks no network."""
    repository = hub_cache() / _folder(model)
    try:
        commit = (repository / "refs" / (revision or "main")).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        commit = revision or ""
    folder = repository / "snapshots" / commit
    return folder if commit and folder.is_dir() else None


def weights_source(model: str, revision: str | None = None) -> str:
    """Where a model's weights come from: a folder or file with its links followed, or a hub name."""
    if Path(model).exists():
        return str(Path(model).resolve())
    return model if revision is None else f"{model} at {revision}"


def where_to_get(model: str, revision: str | None = None) -> str:
    """What to fetch and where to put it, for a model that could not be loaded."""
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
