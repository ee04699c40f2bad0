# SPDX-License-Identifier: Apache-2.0
"""Judge with vLLM in this process: batches, prefix cache, exact verdict probabilities.

Inputs are sorted by their tokens, that is by prompt and first completion, so that common prefixes are
computed once. A direct verdict is one prefill and a few decoded tokens; branches beside the most probable one
are further requests that hit the prefix cache.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from autoj_reward.engines.checkpoint.embedded import resolve_model
from autoj_reward.engines.checkpoint.fingerprint import check_unchanged, digest_of, engine_facts
from autoj_reward.engines.checkpoint.hub import weights_source
from autoj_reward.engines.checkpoint.identity import text_options
from autoj_reward.engines.logprobs.batching import shared_length
from autoj_reward.engines.logprobs.context import output_room, too_long
from autoj_reward.engines.logprobs.token_tree import TokenTree, token_tree
from autoj_reward.engines.logprobs.tree_reader import NodeRequest, TreeReader
from autoj_reward.engines.vllm.calls import Asked, ask, listed_logprobs, usage_of
from autoj_reward.engines.vllm.loading import (
    check_environment,
    load_tokenizer,
    lora_request,
    quiet_environment,
)
from autoj_reward.engines.vllm.options import (
    MOST_LISTED,
    engine_arguments,
    reading_parameters,
    writing_parameters,
)
from autoj_reward.engines.vllm.private import end_processes
from autoj_reward.errors import ConfigError, EngineRejected
from autoj_reward.identity import library_versions, template_id
from autoj_reward.types import (
    Failure,
    FailureReason,
    FinishReason,
    JudgeInput,
    JudgeOutput,
    Sampling,
    Usage,
)

_Ids = list[int]
_ToRead = tuple[int, _Ids, TokenTree]
"""Index of the input, its token ids, and the tree to read after them."""


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
            vLLM's default, and on a CPU a cache of 4 GiB.
        sleep: Free the device's memory after every call (weights move to main memory, the cache is
            dropped) and reload before the next.
        **options: Any other option of vLLM (`quantization`, `kv_cache_dtype`, `enforce_eager`,
            `kv_cache_memory_bytes`, ...).

    Raises:
        ConfigError: An option is unknown or does not fit the model or the platform, the model cannot be
            loaded, or this is one of several processes of a launcher.
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
        facts = engine_facts("vllm", path, dtype=str(settings.model_config.dtype), **told)
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
        with self._calling:
            self.wake()
            answers = self._answer(inputs)
            if self._sleep_after_calls:
                self.sleep()
            return answers

    def _answer(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        results: list[JudgeOutput | Failure | None] = [None] * len(inputs)
        reads: list[_ToRead] = []
        writes: list[tuple[int, _Ids]] = []
        for i, (item, ids) in enumerate(zip(inputs, self.tokenizer.encode_inputs(inputs), strict=True)):
            tree = None if item.readout is None else token_tree(item.readout, self.tokenizer)
            if failure := too_long(len(ids), output_room(item, tree), self.context_tokens):
                results[i] = failure
            elif tree is None:
                writes.append((i, ids))
            else:
                reads.append((i, ids, tree))
        self._write(inputs, sorted(writes, key=lambda w: w[1]), results)
        for window in self._windows(sorted(reads, key=lambda r: r[1])):
            self._read(window, results)
        return [r for r in results if r is not None]

    def _write(
        self,
        inputs: Sequence[JudgeInput],
        rows: Sequence[tuple[int, _Ids]],
        results: list[JudgeOutput | Failure | None],
    ) -> None:
        parameters: dict[tuple[Sampling, int], Any] = {}
        asked: list[Asked] = []
        for i, ids in rows:
            sampling, draw = inputs[i].sampling, inputs[i].sample_index
            if (sampling, draw) not in parameters:
                ends = self.tokenizer.turn_end_ids
                parameters[sampling, draw] = writing_parameters(self.tokenizer.stopping(sampling), draw, ends)
            asked.append((ids, parameters[sampling, draw]))
        for (i, ids), answer in zip(rows, ask(self._llm, asked, self._adapter), strict=True):
            results[i] = self._output(ids, answer, inputs[i].sampling)

    def _output(self, ids: _Ids, answer: Any, sampling: Sampling) -> JudgeOutput | Failure:
        written = answer.outputs[0]
        text, cut = self.tokenizer.decode_turn(ids, list(written.token_ids), sampling.stop)
        if written.finish_reason not in ("stop", "length"):
            detail = f"vLLM ended the output with {written.finish_reason!r}"
            return Failure(reason=FailureReason.ENGINE, detail=detail, raw_text=text)
        reason: FinishReason = "stop" if cut or written.finish_reason == "stop" else "length"
        return JudgeOutput(text=text, finish_reason=reason, usage=usage_of(answer))

    def _windows(self, rows: Sequence[_ToRead]) -> Iterator[list[_ToRead]]:
        """Split rows so that the further requests of each part still find its inputs in the cache."""
        window: list[_ToRead] = []
        used = 0
        for row in rows:
            new = len(row[1]) - (shared_length(window[-1][1], row[1]) if window else 0)
            if window and self.cache_tokens and used + new > self.cache_tokens // 2:
                yield window
                window, used, new = [], 0, len(row[1])
            window.append(row)
            used += new
        if window:
            yield window

    def _read(self, rows: Sequence[_ToRead], results: list[JudgeOutput | Failure | None]) -> None:
        readers = [TreeReader(tree, MOST_LISTED) for _, _, tree in rows]
        usage = [Usage()] * len(rows)
        parameters: dict[NodeRequest, Any] = {}
        while True:
            due = [(k, request) for k, reader in enumerate(readers) for request in reader.requests()]
            if not due:
                break
            for _, request in due:
                if request not in parameters:
                    parameters[request] = reading_parameters(request.listed, request.allowed, request.n_steps)
            asked = [([*rows[k][1], *request.node], parameters[request]) for k, request in due]
            for (k, request), answer in zip(due, ask(self._llm, asked, self._adapter), strict=True):
                read = answer.outputs[0]
                readers[k].add(request, read.token_ids, listed_logprobs(read.logprobs))
                usage[k] += usage_of(answer)
        for (i, _, _), reader, spent in zip(rows, readers, usage, strict=True):
            results[i] = JudgeOutput(text="", finish_reason="read", reading=reader.reading(), usage=spent)
