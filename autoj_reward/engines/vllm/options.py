# SPDX-License-Identifier: Apache-2.0
"""Engine arguments and sampling parameters that the installed vLLM accepts."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.types import Sampling

MOST_LISTED = 128
"""vLLM's limit on the number of `logprob_token_ids`."""

CPU_CACHE_BYTES = 4 << 30
"""Instead of vLLM's default, a share of all memory, which on a CPU other programs need too."""

_OURS = {
    "tokenizer": "the model's own is used",
    "max_model_len": "use context_tokens",
    "gpu_memory_utilization": "use memory_share",
    "enable_lora": "use adapter",
    "enable_sleep_mode": "use sleep",
    "logprobs_mode": "verdicts are read from raw log-probabilities",
    "data_parallel_size": "one process runs one replica; use engine='vllm-server'",
}


def engine_arguments(
    *,
    adapter: str | None,
    context_tokens: int | None,
    memory_share: float | None,
    sleep: bool,
    on_cpu: bool,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Keyword arguments of `vllm.LLM` besides the model, its revision, dtype, sizes and blocks.

    Raises:
        ConfigError: The installed vLLM has no such option, or this engine sets it.
    """
    arguments = own_arguments(adapter, context_tokens, memory_share, options)
    known = _argument_names()
    if unknown := sorted(options.keys() - known):
        near = [n for name in unknown for n in difflib.get_close_matches(name, known, n=1)]
        raise ConfigError(
            f"vLLM {_version()} has no option {', '.join(unknown)}",
            hint=f"did you mean {', '.join(near)}?" if near else "see `vllm serve --help`",
        )
    arguments["enable_sleep_mode"] = sleep
    if on_cpu and memory_share is None:
        arguments["kv_cache_memory_bytes"] = CPU_CACHE_BYTES
    return {k: v for k, v in arguments.items() if k in known} | dict(options)


def used_share(arguments: Mapping[str, Any]) -> float:
    """The share of a GPU's memory that vLLM takes with these arguments."""
    from vllm.engine.arg_utils import EngineArgs

    return float(arguments.get("gpu_memory_utilization", EngineArgs.gpu_memory_utilization))


def own_arguments(
    adapter: str | None, context_tokens: int | None, memory_share: float | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The engine arguments that follow from this package's own options; vLLM need not be installed.

    Raises:
        ConfigError: One of `options` is set in another way here, or the adapter's settings cannot be read.
    """
    if ours := sorted(options.keys() & _OURS.keys()):
        raise ConfigError(
            f"the engine 'vllm' sets {', '.join(ours)} itself",
            hint="; ".join(f"{name}: {_OURS[name]}" for name in ours),
        )
    arguments: dict[str, Any] = {
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "logprobs_mode": "raw_logprobs",
    }
    if context_tokens is not None:
        arguments["max_model_len"] = context_tokens
    if memory_share is not None:
        arguments["gpu_memory_utilization"] = memory_share
    if adapter is not None:
        arguments |= {"enable_lora": True, "max_lora_rank": _rank(adapter), "max_loras": 1}
    return arguments


def sampling_parameters(**wanted: Any) -> Any:
    """`vllm.SamplingParams`, checked against the installed version's signature.

    Raises:
        ConfigError: The installed version lacks a parameter.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    known = _sampling_names()
    # Without these an older version gives the same output, more slowly.
    given = {k: v for k, v in wanted.items() if k in known or k not in ("flat_logprobs", "detokenize")}
    if missing := sorted(given.keys() - known):
        raise ConfigError(
            f"the sampling parameters of vLLM {_version()} have no {', '.join(missing)}",
            hint="install the version that this package's vllm extra names",
        )
    return SamplingParams(**given, output_kind=RequestOutputKind.FINAL_ONLY)


def writing_parameters(sampling: Sampling, draw: int, turn_end_ids: tuple[int, ...]) -> Any:
    """Parameters to generate draw `draw` of an input."""
    drawn = sampling.temperature > 0
    optional: dict[str, Any] = {}
    if sampling.stop:
        optional["stop"] = list(sampling.stop)
    if drawn and sampling.seed is not None:
        optional["seed"] = sampling.seed + draw
    return sampling_parameters(
        max_tokens=sampling.max_new_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p if drawn else 1.0,
        top_k=sampling.top_k if drawn else 0,
        repetition_penalty=sampling.repetition_penalty,
        stop_token_ids=list(turn_end_ids),
        # We decode; vLLM needs the text only to find stop strings.
        detokenize=bool(sampling.stop),
        **optional,
    )


def reading_parameters(listed: tuple[int, ...], allowed: tuple[int, ...], n_steps: int) -> Any:
    """Parameters to read a node of a verdict tree: greedy steps with log-probabilities of chosen ids."""
    optional = {"allowed_token_ids": list(allowed)} if n_steps > 1 else {}
    return sampling_parameters(
        max_tokens=n_steps,
        temperature=0.0,
        logprob_token_ids=list(listed),
        ignore_eos=True,
        detokenize=False,
        flat_logprobs=True,
        **optional,
    )


def _rank(adapter: str) -> int:
    """A LoRA adapter's rank, rounded up to a size that vLLM supports; 64 for a hub name.

    Raises:
        ConfigError: The adapter's settings cannot be read.
    """
    file = Path(adapter) / "adapter_config.json"
    if not Path(adapter).is_dir():
        return 64
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        rank = max([settings["r"], *settings.get("rank_pattern", {}).values()])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{adapter} is not a LoRA adapter: {error}") from error
    return next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank), int(rank))


@functools.cache
def _argument_names() -> frozenset[str]:
    from vllm import LLM
    from vllm.engine.arg_utils import EngineArgs

    fields = {f.name for f in dataclasses.fields(EngineArgs)}
    named = {p.name for p in inspect.signature(LLM).parameters.values() if p.kind is p.KEYWORD_ONLY}
    return frozenset(fields | named)


@functools.cache
def _sampling_names() -> frozenset[str]:
    from vllm import SamplingParams

    return frozenset(inspect.signature(SamplingParams).parameters)


def _version() -> str:
    import vllm

    return str(vllm.__version__)
