# SPDX-License-Identifier: Apache-2.0
"""Settings of a local server: identity, environment and what its process is told."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from autoj_reward.engines.checkpoint.embedded import resolve_model
from autoj_reward.engines.checkpoint.fingerprint import digest_of, engine_facts
from autoj_reward.engines.checkpoint.identity import resolve_settings, text_options
from autoj_reward.engines.vllm.loading import thread_environment
from autoj_reward.engines.vllm.options import CPU_CACHE_BYTES, own_arguments
from autoj_reward.errors import ConfigError

ADAPTER_NAME = "judge"
"""How requests ask for the adapter; without one they ask for the model's own name."""

_LAUNCHER = frozenset(
    (
        "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "NODE_RANK",
        "ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE", "CROSS_RANK", "CROSS_SIZE", "LOCAL_SIZE",
        "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_NPROCS",
        # vLLM would take these for its own from an outer server.
        "VLLM_PORT", "VLLM_API_KEY",
    )
)  # fmt: skip
_LAUNCHER_PREFIXES = (
    "MASTER_", "TORCHELASTIC_", "ACCELERATE_", "FSDP_", "DEEPSPEED_", "OMPI_", "PMI_", "PMIX_", "HYDRA_",
    "VLLM_DP_",
)  # fmt: skip
_OURS = {
    "tensor_parallel_size": "is a setting of its own",
    "api_key": "is made at random",
    "api_server_count": "follows data_parallel_size",
    "host": "use `autoj-reward serve-judge --host`",
    "port": "use `autoj-reward serve-judge --port`",
    "sleep": "only the engine 'vllm' sleeps; give the managed judge a memory_share or devices of its own",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalServerSettings:
    """What to serve, and with how much of the machine.

    Attributes:
        model: Checkpoint folder, hub name, or the embedded model's name.
        dtype: `auto` (the checkpoint's), `bfloat16`, `float16` or `float32`.
        revision: Hub revision; a commit pins it.
        adapter: Folder or hub name of a LoRA adapter.
        context_tokens: Most tokens of input and output together; None takes the model's own limit.
        devices: Device numbers as the machine counts them; None leaves all that the starter sees.
        tensor_parallel_size: Devices that share each layer.
        data_parallel_size: Replicas of the whole model.
        block_size: Tokens of a cache block; None is 16, and 32 on a CPU.
        memory_share: Share of each device's memory, in (0, 1].
        name: Separates judges of one node that would otherwise be shared.
        python: Interpreter of the environment that vLLM is in; None is the present one.
        options: Any other option of `vllm serve`, by its Python name.
    """

    model: str
    dtype: str = "auto"
    revision: str | None = None
    adapter: str | None = None
    context_tokens: int | None = None
    devices: tuple[int, ...] | None = None
    tensor_parallel_size: int = 1
    data_parallel_size: int = 1
    block_size: int | None = None
    memory_share: float | None = None
    name: str = ""
    python: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what can be seen to be wrong before vLLM is started.

        Raises:
            ConfigError: A setting is out of range, or an option is set in another way here.
        """
        if ours := sorted(self.options.keys() & _OURS.keys()):
            raise ConfigError(
                f"the engine 'vllm-server' sets {', '.join(ours)} itself",
                hint="; ".join(f"{name}: {_OURS[name]}" for name in ours),
            )
        for name in ("tensor_parallel_size", "data_parallel_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)} is below 1")
        if self.memory_share is not None and not 0 < self.memory_share <= 1:
            raise ConfigError(f"memory_share = {self.memory_share} is not in (0, 1]")
        if shutil.which(self.interpreter) is None:
            raise ConfigError(
                f"python = {self.python!r} is not a program that can be run",
                hint="the interpreter of the environment that has vLLM, for example /opt/judge/bin/python",
            )
        needed = self.tensor_parallel_size * self.data_parallel_size
        if self.devices is not None and (len(set(self.devices)) != needed or len(self.devices) != needed):
            raise ConfigError(
                f"devices = {list(self.devices)} are not {needed} different ones",
                hint=f"tensor_parallel_size {self.tensor_parallel_size} times data_parallel_size "
                f"{self.data_parallel_size} is the number of devices",
            )

    @classmethod
    def from_options(
        cls, model: str, given: Mapping[str, Any], devices: tuple[int, ...] | None
    ) -> LocalServerSettings:
        """Checked settings from an engine's keyword arguments; what is not a setting is an option of vLLM.

        Raises:
            ConfigError: One is wrong.
        """
        known = {f.name for f in fields(cls)} - {"model", "devices", "options"}
        own = {key: value for key, value in given.items() if key in known}
        options = {key: value for key, value in given.items() if key not in known}
        settings = cls(model=model, devices=devices, **own, options=options)
        settings.check()
        return settings.settled()

    def settled(self) -> LocalServerSettings:
        """With the hub revision as a commit and, where the checkpoint names it, the dtype."""
        found = resolve_settings("vllm", self.model, {"dtype": self.dtype, "revision": self.revision})
        return replace(self, dtype=found["dtype"], revision=found["revision"])

    def key(self) -> str:
        """What processes must agree on to share a judge: everything that shapes its answers, and its name.

        Devices, sizes and memory are not in it: later processes take the judge as it was started.

        Raises:
            ConfigError: The checkpoint's folder cannot be read.
        """
        computed = self.fingerprint(self.dtype)
        return hashlib.sha256(f"{computed}|{self.context_tokens}|{self.name}".encode()).hexdigest()[:16]

    def fingerprint(self, dtype: str) -> str:
        """What vLLM in process would be called for the same weights, once the dtype is known."""
        return digest_of(self.facts(dtype))

    def facts(self, dtype: str) -> dict[str, Any]:
        """What decides its answers; see `engine_facts`."""
        return engine_facts(
            "vllm",
            resolve_model(self.model),
            revision=self.revision,
            dtype=dtype,
            adapter=self.adapter,
            quantization=text_options(self.options),
        )

    @property
    def request_model(self) -> str:
        """The name that requests put under `model`."""
        return self.model if self.adapter is None else ADAPTER_NAME

    @property
    def interpreter(self) -> str:
        """The Python that vLLM runs in."""
        return sys.executable if self.python is None else os.path.expanduser(self.python)

    def as_order(self) -> str:
        """What `launch.py` is told, as JSON.

        `model`, `arguments` (of vLLM's engine, without those that are None), `cpu_defaults` (arguments for a
        CPU), `options` (the user's) and `frontend` (arguments of the HTTP server).

        Raises:
            ConfigError: An option is set in another way here, or the adapter's settings cannot be read.
        """
        arguments = {
            "dtype": self.dtype,
            "revision": self.revision,
            "tensor_parallel_size": self.tensor_parallel_size,
            "data_parallel_size": self.data_parallel_size,
            "block_size": self.block_size,
            # The model's own sampling defaults are not what a request without them means here.
            "generation_config": "vllm",
            **own_arguments(self.adapter, self.context_tokens, self.memory_share, self.options),
        }
        cache = {} if self.memory_share is not None else {"kv_cache_memory_bytes": CPU_CACHE_BYTES}
        frontend = {
            "served_model_name": [self.model],
            # Without it, cached prompt tokens are not counted in answers.
            "enable_prompt_tokens_details": True,
            "disable_uvicorn_access_log": True,
        }
        if self.adapter is not None:
            frontend["lora_modules"] = [f"{ADAPTER_NAME}={resolve_model(self.adapter)}"]
        return json.dumps(
            {
                "model": resolve_model(self.model),
                "arguments": {k: v for k, v in arguments.items() if v is not None},
                "cpu_defaults": {"block_size": 32, **cache},
                "options": dict(self.options),
                "frontend": frontend,
            }
        )


def device_numbers(devices: int | str | Sequence[int] | None) -> tuple[int, ...] | None:
    """Devices as numbers.

    Raises:
        ConfigError: They are something else.
    """
    if devices is None:
        return None
    parts = [devices] if isinstance(devices, int) else devices
    if isinstance(parts, str):
        parts = [part for part in parts.split(",") if part.strip()]  # type: ignore[misc]
    try:
        numbers = tuple(int(part) for part in parts)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"devices = {devices!r} are not numbers", hint="for example 3, or 2,3") from error
    if not numbers or min(numbers) < 0:
        raise ConfigError(f"devices = {devices!r} are not numbers from 0 on", hint="for example 3, or 2,3")
    return numbers


def serve_environment(
    settings: LocalServerSettings, api_key: str, before: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The environment of the server: the caller's, without what a launcher put there for its own ranks.

    vLLM in a process that believes to be rank 3 of 8 waits for seven others. A launcher's
    OMP_NUM_THREADS=1 is for eight ranks, not for the judge.
    """
    result = {
        name: value
        for name, value in before.items()
        if name not in _LAUNCHER and not name.startswith(_LAUNCHER_PREFIXES)
    }
    if "TORCHELASTIC_RUN_ID" in before and before.get("OMP_NUM_THREADS") == "1":
        del result["OMP_NUM_THREADS"]
    if settings.python is not None:
        # These name the caller's own environment. Programs that vLLM calls (ninja) are beside its Python.
        result.pop("PYTHONPATH", None)
        result.pop("PYTHONHOME", None)
        result["PATH"] = os.pathsep.join((os.path.dirname(settings.interpreter), result.get("PATH", "")))
    if settings.devices is not None:
        result["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, settings.devices))
    elif not before.get("CUDA_VISIBLE_DEVICES", "all").strip():
        # Trainers hide all devices from the process that computes rewards; the judge needs one.
        del result["CUDA_VISIBLE_DEVICES"]
    return {"VLLM_NO_USAGE_STATS": "1", **thread_environment(), **result, "VLLM_API_KEY": api_key}
