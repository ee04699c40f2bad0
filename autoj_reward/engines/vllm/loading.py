# SPDX-License-Identifier: Apache-2.0
"""Load vLLM: early checks, the tokenizer, and a quiet environment that is restored afterwards."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from autoj_reward.engines.checkpoint.embedded import resolve_model
from autoj_reward.engines.checkpoint.hub import where_to_get
from autoj_reward.engines.checkpoint.memory import divides
from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.engines.transformers.loading import check_kind
from autoj_reward.errors import ConfigError

_QUIET = {
    # At WARNING, every process warns of things that users cannot change.
    "VLLM_LOGGING_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore",
    # By default vLLM logs to standard output, where commands print their results.
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
}


def check_environment() -> None:
    """Raise ConfigError in a distributed launcher's processes, each of which would load a judge."""
    size = os.environ.get("WORLD_SIZE", "1")
    if size.isdigit() and int(size) > 1:
        raise ConfigError(
            f"WORLD_SIZE is {size}: an in-process engine would load {size} judges",
            hint="use engine='vllm-server': one judge for all processes of the node",
        )


_FEW_CORES = 4
"""Up to this many cores, do not let vLLM keep one free."""


def thread_environment() -> dict[str, str]:
    """Environment variables for vLLM's threads on a small CPU."""
    few = len(os.sched_getaffinity(0)) <= _FEW_CORES
    return {"VLLM_CPU_OMP_THREADS_BIND": "nobind"} if few else {}


@contextlib.contextmanager
def quiet_environment() -> Iterator[None]:
    """Silence vLLM's start, and undo its changes to this process's environment.

    vLLM sets LD_PRELOAD, LOCAL_WORLD_SIZE and more, which a trainer in this process would inherit. Variables
    that the user has set are kept.
    """
    before = dict(os.environ)
    wanted = _QUIET | thread_environment()
    os.environ.update({k: v for k, v in wanted.items() if k not in before})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def load_tokenizer(
    path: str, revision: str | None, tensor_parallel_size: int, options: Mapping[str, Any]
) -> InjectionSafeTokenizer:
    """Load the model's tokenizer, after `check_config`.

    Raises:
        ConfigError: There is no such model, or its attention heads cannot be divided.
    """
    from transformers import AutoTokenizer, GenerationConfig

    config = check_config(path, revision, tensor_parallel_size, options)
    trust = bool(options.get("trust_remote_code", False))
    with _loading(path, revision):
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=trust)
    try:
        ends = GenerationConfig.from_pretrained(path, revision=revision).eos_token_id
    except OSError:
        ends = getattr(config, "eos_token_id", None)
    return InjectionSafeTokenizer(tokenizer, turn_end_ids=ends)


def check_config(
    path: str, revision: str | None, tensor_parallel_size: int, options: Mapping[str, Any]
) -> Any:
    """The model's configuration, checked for what can be known before its weights are loaded.

    Raises:
        ConfigError: There is no such model, or its attention heads cannot be divided.
    """
    from transformers import AutoConfig

    trust = bool(options.get("trust_remote_code", False))
    with _loading(path, revision):
        config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=trust)
        check_kind(config, path)
        _check_heads(config, tensor_parallel_size)
    return config


@contextlib.contextmanager
def _loading(path: str, revision: str | None) -> Iterator[None]:
    try:
        yield
    except ConfigError:
        raise
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"cannot load the judge model {path!r}: {error}", hint=where_to_get(path, revision)
        ) from error


def lora_request(adapter: str | None) -> Any:
    """vLLM's record of an adapter, or None."""
    if adapter is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest("judge", 1, resolve_model(adapter))


def _check_heads(config: Any, tensor_parallel_size: int) -> None:
    """Raise ConfigError if the tensor-parallel size does not divide the model's layers."""
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None)
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    # Mixtures of experts have other names for their inner sizes, and other rules.
    inner = getattr(text, "intermediate_size", None) or 0
    fits = heads is None or (
        tensor_parallel_size >= 1 and divides(heads, kv_heads or heads, inner, tensor_parallel_size)
    )
    if tensor_parallel_size < 1 or not fits:
        fitting = [n for n in range(1, 17) if heads and divides(heads, kv_heads or heads, inner, n)]
        raise ConfigError(
            f"tensor_parallel_size = {tensor_parallel_size} does not divide the model's {heads} "
            f"attention heads ({kv_heads} of keys) and inner size of {inner}",
            hint=f"possible sizes: {', '.join(map(str, fitting))}",
        )
