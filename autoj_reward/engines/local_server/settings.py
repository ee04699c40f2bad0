# SPDX-License-Identifier: Apache-2.0
"""Settings of a local server: identity, environment and command line."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from autoj_reward.engines.checkpoint.embedded import resolve_model
from autoj_reward.engines.checkpoint.fingerprint import digest_of, engine_facts
from autoj_reward.engines.checkpoint.identity import resolve_settings, text_options
from autoj_reward.engines.vllm.loading import thread_environment
from autoj_reward.errors import ConfigError

ADAPTER_NAME = "judge"
"""How requests ask for the adapter; without one they ask for the model's own name."""

SETTINGS_VARIABLE = "AUTOJ_REWARD_SERVE_SETTINGS"
"""What tells the server's process its settings."""

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

    def as_json(self) -> str:
        """For the process that runs vLLM."""
        return json.dumps(asdict(self) | {"options": dict(self.options)})

    @classmethod
    def from_json(cls, text: str) -> LocalServerSettings:
        """What `as_json` wrote."""
        values = json.loads(text)
        devices = values["devices"]
        return cls(**{**values, "devices": None if devices is None else tuple(devices)})


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
    if settings.devices is not None:
        result["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, settings.devices))
    elif not before.get("CUDA_VISIBLE_DEVICES", "all").strip():
        # Trainers hide all devices from the process that computes rewards; the judge needs one.
        del result["CUDA_VISIBLE_DEVICES"]
    return {"VLLM_NO_USAGE_STATS": "1", **thread_environment(), **result, "VLLM_API_KEY": api_key}


def serve_command(
    settings: LocalServerSettings, arguments: Mapping[str, Any], *, host: str, port: str
) -> list[str]:
    """The command line of `vllm serve`.

    Args:
        settings: What to serve.
        arguments: Engine arguments by their Python names, as `engine_arguments` makes them.
        host: Address to listen at.
        port: Port to listen at.

    Returns:
        `vllm serve MODEL --...`, as a shell would take it.
    """
    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "served_model_name": [settings.model],
        "dtype": settings.dtype,
        "revision": settings.revision,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "data_parallel_size": settings.data_parallel_size,
        "block_size": settings.block_size,
        # Without it, cached prompt tokens are not counted in answers.
        "enable_prompt_tokens_details": True,
        # The model's own sampling defaults are not what a request without them means here.
        "generation_config": "vllm",
        "disable_uvicorn_access_log": True,
        **arguments,
    }
    if settings.adapter is not None:
        given["lora_modules"] = [f"{ADAPTER_NAME}={resolve_model(settings.adapter)}"]
    flags = [flag for name, value in given.items() for flag in _flags(name, value)]
    return ["vllm", "serve", resolve_model(settings.model), *flags]


def _flags(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [flag if value else "--no-" + name.replace("_", "-")]
    if isinstance(value, Mapping):
        return [flag, json.dumps(value)]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [flag, *map(str, value)]
    # A value that begins with a dash would be taken for a flag.
    return [f"{flag}={value}"]
