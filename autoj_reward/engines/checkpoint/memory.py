# SPDX-License-Identifier: Apache-2.0
"""Estimate whether a model fits into memory before it is downloaded or loaded."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError

GIB = 1 << 30
_BESIDE_GIB = 1.0
"""GiB for activations and the library itself."""

_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.gguf", "*.pt")
_WEIGHT_BYTES = {"float32": 4.0, "float": 4.0, "fp8": 1.0, "int8": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The sizes of a model that decide how much memory it needs.

    Attributes:
        n_parameters: In billions.
        n_layers: Layers.
        n_heads: Attention heads.
        n_kv_heads: Key and value heads.
        head_size: Dimension of a head.
        inner_size: Inner dimension of a layer's feed-forward part.
        weight_bytes: Bytes per parameter of a checkpoint that is published quantised; None for 16 bits.
    """

    n_parameters: float
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_size: int
    inner_size: int
    weight_bytes: float | None = None

    def cache_bytes(self, n_tokens: int, *, bytes_each: float = 2.0) -> float:
        """Bytes of the keys and values of `n_tokens`."""
        return 2.0 * self.n_layers * self.n_kv_heads * self.head_size * bytes_each * n_tokens

    def parallel_sizes(self, most: int = 16) -> list[int]:
        """The tensor-parallel sizes, up to `most`, that divide its layers."""
        return [n for n in range(1, most + 1) if divides(self.n_heads, self.n_kv_heads, self.inner_size, n)]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """Memory in GiB: the weights, the cache of one full context, and the rest."""

    weights_gib: float
    cache_gib: float
    beside_gib: float = _BESIDE_GIB

    @property
    def total_gib(self) -> float:
        return self.weights_gib + self.cache_gib + self.beside_gib


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """A GPU's memory in GiB: what is free of it, and all that programs can use."""

    free_gib: float
    total_gib: float


def divides(n_heads: int, n_kv_heads: int, inner_size: int, n: int) -> bool:
    """Whether each layer can be split over n devices; key heads are divided or repeated."""
    return n_heads % n == 0 and inner_size % n == 0 and (n_kv_heads % n == 0 or n % n_kv_heads == 0)


def memory_need(
    architecture: Architecture | None, model: str, settings: Mapping[str, Any]
) -> MemoryNeed | None:
    """The memory that a model needs with an engine's settings; None if unknown.

    Args:
        architecture: The model's, or None.
        model: A checkpoint folder, whose weight files count if `architecture` is None.
        settings: `dtype`, `quantization`, `kv_cache_dtype`, `context_tokens`.
    """
    each = _WEIGHT_BYTES.get(
        str(settings.get("quantization") or settings.get("dtype") or "").removeprefix("torch."), 2.0
    )
    if architecture is None:
        found = _weights_on_disk(Path(model))
        if not found:
            return None
        # Saved in 16 bits and loaded in 32.
        return MemoryNeed(weights_gib=found / GIB * (each / 2.0 if each > 2.0 else 1.0), cache_gib=0.0)
    cache_each = 1.0 if "fp8" in str(settings.get("kv_cache_dtype", "")) else 4.0 if each == 4.0 else 2.0
    context = int(settings.get("context_tokens") or 4096)
    return MemoryNeed(
        weights_gib=architecture.n_parameters * 1e9 * (architecture.weight_bytes or each) / GIB,
        cache_gib=architecture.cache_bytes(context, bytes_each=cache_each) / GIB,
    )


def check_fits(need: MemoryNeed | None, model: str, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError, with alternatives, if a model with this memory need cannot fit."""
    if need is None:
        return
    n_devices = int(settings.get("tensor_parallel_size") or 1)
    on_cpu = str(settings.get("device") or "").startswith("cpu")
    gpus = None if on_cpu else gpu_memory()
    if settings.get("sleep") and gpus and need.weights_gib > (main_memory_gib() or math.inf):
        raise ConfigError(
            f"{model} with sleep moves {need.weights_gib:.1f} GiB of weights to main memory after every "
            f"call, but {main_memory_gib():.1f} GiB of it are free",
            hint="give the judge a memory_share beside the policy instead of sleep, or use "
            "engine='vllm-server' with a memory_share",
        )
    if gpus:
        share = settings.get("memory_share")
        used = gpus[:n_devices] if len(gpus) >= n_devices else gpus
        smallest = min(g.free_gib if share is None else min(g.free_gib, share * g.total_gib) for g in used)
        if need.total_gib <= smallest * n_devices:
            return
        within = "free each" if share is None else f"free each within memory_share = {share:g}"
        where = f"{n_devices} GPU{'s' if n_devices > 1 else ''} with {smallest:.1f} GiB {within}"
    else:
        available = main_memory_gib()
        if available is None or need.total_gib <= available:
            return
        where = f"{available:.1f} GiB of free main memory"
    raise ConfigError(
        f"{model} needs about {need.total_gib:.1f} GiB (weights {need.weights_gib:.1f}, a full context "
        f"{need.cache_gib:.1f}), but there is {where}",
        hint="use a smaller judge (autoj-13b-gptq-4bits needs about 8 GiB, autoj-13b-fp8 about 16), more "
        "devices (--engine-option tensor_parallel_size=2), a server elsewhere (--engine server:URL), or skip "
        "this check with --engine-option memory_check=false",
    )


def check_memory_share(share: float, gpus: Sequence[GpuMemory] | None, n_devices: int) -> None:
    """Check that a share of each device's memory is free, which vLLM refuses only after it has started.

    Args:
        share: Share of a device's whole memory.
        gpus: The visible GPUs in order; None if unknown.
        n_devices: How many of them are used.

    Raises:
        ConfigError: The share is not in (0, 1], or is not free; says what is needed and what is free.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"memory_share = {share:g} is not in (0, 1]")
    for n, gpu in enumerate((gpus or ())[:n_devices]):
        needed = share * gpu.total_gib
        if needed > gpu.free_gib:
            most = math.floor(100 * gpu.free_gib / gpu.total_gib) / 100
            raise ConfigError(
                f"memory_share = {share:g} needs {needed:.1f} GiB of the {gpu.total_gib:.1f} GiB of GPU {n}, "
                f"but {gpu.free_gib:.1f} GiB are free",
                hint=(f"set memory_share = {most:g} or less, " if most else "")
                + "end the programs that hold the rest (nvidia-smi lists them), or use another GPU",
            )


def gpu_memory() -> list[GpuMemory] | None:
    """Memory of each visible NVIDIA GPU; None without one.

    Asks `nvidia-smi`, because torch would create a CUDA context in this process.
    """
    if shutil.which("nvidia-smi") is None:
        return None
    # The driver's own reserve is in memory.total, and no program gets it.
    fields = "index,uuid,memory.free,memory.used"
    order = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(order, capture_output=True, text=True, check=True, timeout=20).stdout
        rows = [[cell.strip() for cell in line.split(",")] for line in listed.splitlines() if line.strip()]
        known = {
            name: GpuMemory(float(free) / 1024, (float(free) + float(used)) / 1024)
            for index, uuid, free, used in rows
            for name in (index, uuid)
        }
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [row[0] for row in rows] if visible is None else [n.strip() for n in visible.split(",")]
    return [known[name] for name in names if name in known] or None


def main_memory_gib(proc: Path = Path("/proc"), control: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Main memory in GiB available within the container's limit; None if unknown."""
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
        free = next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    try:
        limit = (control / "memory.max").read_text(encoding="ascii").strip()
        used = float((control / "memory.current").read_text(encoding="ascii"))
        cached = _reclaimable(control)
        if limit != "max":
            free = min(free, float(limit) - used + cached)
    except (OSError, ValueError):
        pass
    return free / GIB


def _reclaimable(control: Path) -> float:
    """Bytes of cached file pages, which a container's usage includes."""
    for line in (control / "memory.stat").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(" ")
        if name == "inactive_file":
            return float(value)
    return 0.0


def _weights_on_disk(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    for pattern in _WEIGHT_FILES:
        # A checkpoint may hold the same weights in two formats; the first one is loaded.
        if found := sum(p.stat().st_size for p in folder.glob(pattern)):
            return found
    return 0
