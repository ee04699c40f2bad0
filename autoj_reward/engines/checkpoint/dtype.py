# SPDX-License-Identifier: Apache-2.0
"""Pick the dtype to compute in by the processor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_IN_HARDWARE = {"avx512_bf16", "amx_bf16"}
_DEVICE_FILES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd")
"""Files that an NVIDIA or AMD GPU has."""


def cpu_dtype(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """`bfloat16` if this processor multiplies it in hardware (AVX-512 or AMX), else `float32`.

    With hardware bfloat16 takes a quarter of float32's time; without it, ten times as long.
    """
    try:
        flags = re.search(r"^flags\s*:(.*)", cpuinfo.read_text(encoding="utf-8", errors="replace"), re.M)
    except OSError:
        flags = None
    return "bfloat16" if flags and _IN_HARDWARE & set(flags[1].split()) else "float32"


def runs_on_cpu(settings: Mapping[str, Any]) -> bool:
    """Whether a model with these settings (`device`, `device_map`) runs on the CPU."""
    device = settings.get("device") or settings.get("device_map")
    if isinstance(device, str) and device not in ("auto", "balanced", "balanced_low_0", "sequential"):
        return device.partition(":")[0] == "cpu"
    if not any(Path(file).exists() for file in _DEVICE_FILES):
        return True
    import torch

    return device is None and not torch.cuda.is_available()


def automatic_dtype(engine: str, saved: str | None, settings: Mapping[str, Any]) -> str | None:
    """The dtype that `auto` stands for; None if only loading the model tells.

    Args:
        engine: `transformers` or `vllm`.
        saved: The dtype of the checkpoint; None if it is unknown, or the weights are quantised.
        settings: The engine's, for the device.
    """
    if saved is None:
        return None
    if engine == "transformers":
        if runs_on_cpu(settings):
            return cpu_dtype()
        return saved if saved in ("bfloat16", "float16", "float32") else None
    # vLLM runs float32 checkpoints, and float16 ones of a few families, in a dtype of the device's.
    if saved != "bfloat16":
        return None
    return cpu_dtype() if runs_on_cpu({}) else saved
