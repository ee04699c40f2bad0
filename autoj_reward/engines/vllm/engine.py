# SPDX-License-Identifier: Apache-2.0
"""Judge with vLLM in this process: batches, prefix cache, exact verdict probabilities.

Inputs are sorted by their texts, that is by prompt and first completion, so that common prefixes are computed
once. A direct verdict is one prefill and a few decoded tokens; branches beside the most probable one are
further requests that hit the prefix cache. Nothing waits for the slowest of a batch (`batch.py`).
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from typing import Any

from autoj_reward.engines.checkpoint.embedded import resolve_model
from autoj_reward.engines.checkpoint.fingerprint import check_unchanged, digest_of, engine_facts
from autoj_reward.engines.checkpoint.hub import weights_source
from autoj_reward.engines.checkpoint.identity import text_options
from autoj_reward.engines.checkpoint.memory import check_memory_share, gpu_memory
from autoj_reward.engines.vllm.batch import Batch
from autoj_reward.engines.vllm.loading import (
    check_environment,
    load_tokenizer,
    lora_request,
    quiet_environment,
)
from autoj_reward.engines.vllm.options import engine_arguments, used_share
from autoj_reward.engines.vllm.private import end_processes
from autoj_reward.engines.vllm.running import running_requests
from autoj_reward.errors import ConfigError, EngineRejected, EngineUnavailable
from autoj_reward.identity import library_versions, template_id
from autoj_reward.types import Failure, Follow, JudgeInput, JudgeOutput


class VLLMEngine:
    """A causal language model run by vLLM in child processes of this one.

    vLLM starts them with `spawn`, so a script that creates this engine needs `if __name__ == "__main__":`.

    Args:
        model: Checkpoint folder, hub name, or the embedded model's name.
        dtype: `auto` (the checkpoint's), `bfloat16`, `float16` or `float32`.
        revision: Hub revision; a commit pins it.
        adapter: Folder or hub name of a LoRA adapter.
        context_tokens: Most tokens of input and output together; None takes the model's own limit.
        tensor_parallel_size: Devices that share each layer; must divide the attention heads.
        block_size: Tokens per cache block; only whole blocks are shared, so small ones share more. None is
            16, and 32 on a CPU, whose kernels need multiples of it.
        memory_share: Share of the device's memory, in (0, 1], for weights and cache together; None is
            vLLM's default, and on a CPU a cache of 4 GiB. On a GPU that much has to be free.
        sleep: Free the device's memory after every call (weights move to main memory, the cache is
            dropped) and reload before the next.
        **options: Any other option of vLLM (`quantization`, `kv_cache_dtype`, `enforce_eager`,
            `kv_cache_memory_bytes`, ...).

    Raises:
        ConfigError: An option is unknown or does not fit the model or the platform, the model cannot be
            loaded, its share of a GPU's memory is not free, or this is one of several processes of a
            launcher.
    """

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        revision: str | None = None,
        adapter: str | None = None,
        context_tokens: int | None = None,
        tensor_parallel_size: int = 1,
        block_size: int | None = None,
        memory_share: float | None = None,
        sleep: bool = False,
        **options: Any,
    ) -> None:
        check_environment()
        self.model_name = model
        self._llm: Any = None
        self._asleep = False
        self._calling = threading.RLock()
        self._sleep_after_calls = sleep
        path = resolve_model(model)
        told: dict[str, Any] = {
            "revision": revision,
            "adapter": adapter,
            "quantization": text_options(options),
        }
        with quiet_environment():
            from vllm import LLM
            from vllm.platforms import current_platform

            if sleep and not current_platform.is_sleep_mode_available():
                raise ConfigError(
                    f"vLLM has no sleep mode on this platform ({current_platform.device_type})",
                    hint="remove sleep, or give the judge its own device",
                )
            arguments = engine_arguments(
                adapter=adapter,
                context_tokens=context_tokens,
                memory_share=memory_share,
                sleep=sleep,
                on_cpu=current_platform.is_cpu(),
                options=options,
            )
            if current_platform.is_cuda():
                check_memory_share(used_share(arguments), gpu_memory(), tensor_parallel_size)
            before = engine_facts("vllm", path, dtype=dtype, **told)
            self.tokenizer = load_tokenizer(path, revision, tensor_parallel_size, arguments)
            try:
                self._llm = LLM(
                    path,
                    dtype=dtype,
                    revision=revision,
                    tensor_parallel_size=tensor_parallel_size,
                    block_size=block_size or (32 if current_platform.is_cpu() else 16),
                    **arguments,
                )
            except Exception as error:
                raise ConfigError(
                    f"vLLM cannot load the judge model {model!r}: {error}",
                    hint="the cause is in vLLM's messages above; out of memory: lower memory_share, "
                    "context_tokens or kv_cache_memory_bytes, or use a smaller dtype",
                ) from error
        self._adapter = lora_request(adapter)
        settings = self._llm.llm_engine.vllm_config
        self.context_tokens = int(settings.model_config.max_model_len)
        self.block_size = int(settings.cache_config.block_size)
        blocks = settings.cache_config.num_gpu_blocks
        self.cache_tokens: int | None = blocks * self.block_size if blocks else None
        facts = engine_facts("vllm", path, dtype=_name(settings.model_config.dtype), **told)
        check_unchanged(before, facts, model)
        self._fingerprint = digest_of(facts)
        self._description: dict[str, Any] = {
            "engine": "vllm",
            "fingerprint": self._fingerprint,
            "model": model,
            "source": weights_source(path, revision),
            "adapter": None if adapter is None else weights_source(adapter),
            "facts": facts,
            "dtype": facts["dtype"],
            # Versions before 0.26 compute logits in the model's dtype.
            "head_dtype": _name(getattr(settings.model_config, "head_dtype", settings.model_config.dtype)),
            "context_tokens": self.context_tokens,
            "chat_template": template_id(self.tokenizer.hf),
            "device": str(current_platform.device_type),
            "versions": library_versions("vllm", "transformers", "torch"),
        }

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def describe(self) -> dict[str, Any]:
        """See `DescribedEngine.describe`."""
        return dict(self._description)

    def close(self) -> None:
        """End vLLM's processes. A second call does nothing."""
        with self._calling:
            if self._llm is None:
                return
            end_processes(self._llm)
            self._llm = None
            gc.collect()

    def forget(self) -> None:
        """Empty the prefix cache, for benchmarks.

        Raises:
            EngineRejected: The engine is closed.
        """
        with self._calling:
            self.wake()
            self._llm.reset_prefix_cache()

    def sleep(self) -> None:
        """Free the device's memory until the next call, or until `wake`.

        Raises:
            ConfigError: The engine was created without `sleep=True`.
            EngineRejected: The engine is closed.
        """
        with self._calling:
            if not self._sleep_after_calls:
                raise ConfigError("the engine cannot sleep", hint="create it with sleep=True")
            if self._llm is None:
                raise EngineRejected("the engine is closed")
            if not self._asleep:
                self._llm.sleep(level=1)
                self._asleep = True

    def wake(self) -> None:
        """Reload after `sleep`; calls do this themselves.

        Raises:
            EngineRejected: The engine is closed.
        """
        with self._calling:
            if self._llm is None:
                raise EngineRejected("the engine is closed")
            if self._asleep:
                self._llm.wake_up()
                self._asleep = False

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Answer every input; see `Engine.generate`.

        Concurrent calls run one after the other. Greedy output can depend on the rest of the batch. Seeded
        sampling is per request.
        """
        return [answer for (answer,) in self._answer(inputs, None)]

    def generate_chains(
        self, inputs: Sequence[JudgeInput], follow: Follow
    ) -> list[list[JudgeOutput | Failure]]:
        """Answer every input and what follows from its answers; see `engines.chains.generate_chains`."""
        return self._answer(inputs, follow)

    def _answer(
        self, inputs: Sequence[JudgeInput], follow: Follow | None
    ) -> list[list[JudgeOutput | Failure]]:
        with self._calling:
            self.wake()
            try:
                with running_requests(self._llm, self._adapter) as running:
                    answers = Batch(
                        running,
                        self.tokenizer,
                        context_tokens=self.context_tokens,
                        cache_tokens=self.cache_tokens,
                        inputs=inputs,
                        follow=follow,
                    ).run()
            except EngineUnavailable:
                raise
            except BaseException:
                # After a refusal too: the trainer needs the memory for its next step.
                self._sleep_if_told()
                raise
            self._sleep_if_told()
            return answers

    def _sleep_if_told(self) -> None:
        if self._sleep_after_calls:
            self.sleep()


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
