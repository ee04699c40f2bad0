# SPDX-License-Identifier: Apache-2.0
"""Judge with `transformers` in this process, on the CPU or one GPU.

A readout is one forward pass over the input and the verdicts' token tree (`tree_reading`) if a test shows
that this gives the model's own result (`proof`); otherwise it is one plain pass per branch (`plain_reading`).
"""

from __future__ import annotations

import gc
import itertools
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from autoj_reward.engines.checkpoint.bars import without_bars
from autoj_reward.engines.checkpoint.dtype import cpu_dtype, runs_on_cpu
from autoj_reward.engines.checkpoint.embedded import resolve_model
from autoj_reward.engines.checkpoint.fingerprint import check_unchanged, digest_of, engine_facts, hub_commit
from autoj_reward.engines.checkpoint.hub import weights_source, where_to_get
from autoj_reward.engines.checkpoint.identity import output_affecting_options
from autoj_reward.engines.logprobs.batching import Row
from autoj_reward.engines.logprobs.context import context_limit, output_room, too_long
from autoj_reward.engines.logprobs.token_tree import TokenTree, not_a_number, token_tree, with_numbers
from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.engines.transformers.forward import (
    FindsNaN,
    left_padded,
    plain_model,
    reset_growing_rotations,
)
from autoj_reward.engines.transformers.head import head_dtype
from autoj_reward.engines.transformers.loading import check_adapter, check_kind, check_weights
from autoj_reward.engines.transformers.plain_reading import PlainReading, plain_batches
from autoj_reward.engines.transformers.proof_store import forms_of
from autoj_reward.engines.transformers.tree_reading import TreeReading
from autoj_reward.errors import ConfigError, EngineRejected, EngineUnavailable
from autoj_reward.identity import library_versions, template_id
from autoj_reward.types import (
    ContinuationQuery,
    Failure,
    JudgeInput,
    JudgeOutput,
    Sampling,
    Segment,
    Usage,
)

logger = logging.getLogger("autoj_reward")

_PROBE = "Is 13 a prime number? Yes, it is."
_FOR_CONFIG = ("gguf_file", "trust_remote_code", "token", "cache_dir", "local_files_only", "code_revision")


class TransformersEngine:
    """A causal language model run by `transformers` in this process.

    Args:
        model: Checkpoint folder, hub name, or the embedded model's name.
        dtype: `bfloat16`, `float16`, `float32` or `auto`: on a GPU the checkpoint's; on a CPU bfloat16 if the
            processor has it in hardware, else float32. Quantised weights keep their own.
        device: A torch device; None picks a GPU if there is one.
        revision: Hub revision; a commit pins it.
        adapter: Folder or hub name of a LoRA adapter, merged on loading.
        context_tokens: Most tokens of input and output together; None takes the model's own limit.
        batch_tokens: Most tokens of one batch, padding included. More is faster and needs more memory; None
            takes 8,192 on a CPU and 32,768 on a GPU.
        **model_options: Passed to `AutoModelForCausalLM.from_pretrained` (`quantization_config`,
            `device_map`, ...).

    Raises:
        ConfigError: The model or adapter cannot be found or loaded.
    """

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        device: str | None = None,
        revision: str | None = None,
        adapter: str | None = None,
        context_tokens: int | None = None,
        batch_tokens: int | None = None,
        **model_options: Any,
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model_name = model
        path = resolve_model(model)
        check_adapter(path)
        if adapter is not None:
            check_adapter(adapter)
        adapter_commit = None if adapter is None else hub_commit(adapter, None)
        told: dict[str, Any] = {
            "revision": revision,
            "adapter": adapter,
            "quantization": output_affecting_options(model_options),
        }
        before = engine_facts("transformers", path, dtype=dtype, **told)
        try:
            config = _check_kind_early(path, revision, model_options)
            if dtype == "auto" and runs_on_cpu({"device": device, **model_options}):
                dtype = _dtype_on_cpu(config, model_options)
            hf_tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
            loaded: Any
            with without_bars():
                loaded, info = AutoModelForCausalLM.from_pretrained(
                    path,
                    revision=revision,
                    dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                    output_loading_info=True,
                    **model_options,
                )
            check_kind(loaded.config, model)
            check_weights(loaded, info, model)
            if adapter is not None:
                from peft import PeftModel

                loaded = PeftModel.from_pretrained(loaded, adapter, revision=adapter_commit)
                loaded = loaded.merge_and_unload()
        except ConfigError:
            raise
        except (OSError, ValueError, ImportError, AttributeError) as error:
            raise ConfigError(
                f"cannot load the judge model {model!r}: {error}",
                hint=where_to_get(path, revision),
            ) from error
        if "device_map" not in model_options:
            loaded = loaded.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if loaded.device.type == "cpu":
            _copy_weights(loaded)
        facts = engine_facts("transformers", path, dtype=str(loaded.dtype), **told)
        check_unchanged(before, facts, model)
        ends = getattr(loaded.generation_config, "eos_token_id", None)
        tokenizer = InjectionSafeTokenizer(hf_tokenizer, turn_end_ids=ends)
        self._hold(loaded.eval(), tokenizer, digest_of(facts), batch_tokens, context_tokens)
        logger.info("%s computes in %s on %s", model, self._description["dtype"], loaded.device)
        self._description.update(
            model=model,
            source=weights_source(path, revision),
            adapter=None if adapter is None else weights_source(adapter, adapter_commit),
            facts=facts,
        )

    def _hold(
        self,
        model: Any,
        tokenizer: InjectionSafeTokenizer,
        fingerprint: str,
        batch_tokens: int | None = None,
        context_tokens: int | None = None,
    ) -> None:
        """Set the engine up around a loaded model."""
        self._model: Any = model
        self.tokenizer = tokenizer
        self.context_tokens: int | None = context_tokens or context_limit(
            model.config, tokenizer.hf, self.model_name
        )
        self._pad = next(iter(tokenizer.turn_end_ids), 0)
        self._batch_tokens = batch_tokens or (32768 if model.device.type == "cuda" else 8192)
        self._forms = forms_of(model, tokenizer.encode([Segment(_PROBE)]))
        self._fingerprint = fingerprint
        self._calling = threading.Lock()
        self._description: dict[str, Any] = {
            "engine": "transformers",
            "fingerprint": fingerprint,
            "dtype": str(model.dtype).removeprefix("torch."),
            "head_dtype": head_dtype(plain_model(model)),
            "context_tokens": self.context_tokens,
            "reading": self._forms.reading,
            "chat_template": template_id(tokenizer.hf),
            "device": str(model.device),
            "versions": library_versions("transformers", "torch", "tokenizers"),
        }

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def describe(self) -> dict[str, Any]:
        """See `DescribedEngine.describe`."""
        return dict(self._description)

    def close(self) -> None:
        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Answer every input; see `Engine.generate`.

        Sampling above temperature 0 is reproducible only for the same batch and seed. Concurrent calls run
        one after the other.
        """
        with self._calling:
            return self._generate(inputs)

    def _generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        if self._model is None:
            raise EngineRejected("the engine is closed")
        results: list[JudgeOutput | Failure | None] = [None] * len(inputs)
        reads: dict[ContinuationQuery, list[tuple[int, list[int]]]] = {}
        writes: dict[tuple[Sampling, int], list[tuple[int, list[int]]]] = {}
        for i, (item, ids) in enumerate(zip(inputs, self.tokenizer.encode_inputs(inputs), strict=True)):
            tree = None if item.readout is None else token_tree(item.readout, self.tokenizer)
            if failure := too_long(len(ids), output_room(item, tree), self.context_tokens):
                results[i] = failure
            elif item.readout is not None:
                reads.setdefault(item.readout, []).append((i, ids))
            else:
                draw = 0 if item.sampling.temperature == 0 else item.sample_index
                writes.setdefault((item.sampling, draw), []).append((i, ids))
        try:
            with torch.inference_mode():
                for readout, rows in reads.items():
                    self._read(token_tree(readout, self.tokenizer), rows, results)
                for (sampling, draw), rows in writes.items():
                    self._write(sampling, draw, rows, results)
        except torch.cuda.OutOfMemoryError as error:
            raise EngineUnavailable(
                f"the GPU is out of memory: {error}", hint="lower batch_tokens, or use a smaller dtype"
            ) from error
        return [r for r in results if r is not None]

    def _read(
        self,
        tree: TokenTree,
        rows: Sequence[Row],
        results: list[JudgeOutput | Failure | None],
    ) -> None:
        depth = max(len(path) for path in tree.nodes)
        near: list[Row] = []
        far: list[Row] = []
        for row in rows:
            (near if self._forms.tree.reaches(len(row[1]) + depth) else far).append(row)
        size = self._batch_tokens
        in_trees = TreeReading(self._model, pad=self._pad, batch_tokens=size)
        by_branch = PlainReading(self._model, pad=self._pad, batch_tokens=size, forms=self._forms)
        for i, output in itertools.chain(in_trees.read(tree, near), by_branch.read(tree, far)):
            results[i] = with_numbers(output)

    def _write(
        self,
        sampling: Sampling,
        draw: int,
        rows: Sequence[Row],
        results: list[JudgeOutput | Failure | None],
    ) -> None:
        size, extra = self._batch_tokens, sampling.max_new_tokens
        for batch in plain_batches(rows, self._forms, extra=extra, batch_tokens=size):
            inputs = left_padded([ids for _, ids in batch], self._pad, self._model.device)
            tokens = inputs["input_ids"]
            finds_nan = FindsNaN(len(batch))
            reset_growing_rotations(self._model)
            with torch.random.fork_rng(enabled=sampling.seed is not None):
                if sampling.seed is not None:
                    torch.manual_seed(sampling.seed + draw)
                written = self._model.generate(
                    input_ids=tokens,
                    # `generate` finds the positions itself.
                    attention_mask=inputs.get("attention_mask", torch.ones_like(tokens)),
                    logits_processor=[finds_nan],
                    pad_token_id=self._pad,
                    eos_token_id=list(self.tokenizer.turn_end_ids),
                    **_generate_options(self.tokenizer.stopping(sampling), self.tokenizer.hf),
                )[:, tokens.shape[1] :].tolist()
            for (i, ids), new, broken in zip(batch, written, finds_nan.found, strict=True):
                results[i] = not_a_number() if broken else self._output(ids, new, sampling)

    def _output(self, ids: Sequence[int], new: list[int], sampling: Sampling) -> JudgeOutput:
        end = self.tokenizer.turn_end(new)
        text, cut = self.tokenizer.decode_turn(ids, new, sampling.stop)
        # Rows of a batch are padded after their end.
        n_written = len(new) if end is None else end + 1
        return JudgeOutput(
            text=text,
            finish_reason="stop" if cut or end is not None else "length",
            usage=Usage(prompt_tokens=len(ids), completion_tokens=n_written, n_requests=1),
        )


def _copy_weights(model: Any) -> None:
    """Copy memory-mapped weights, which would change with their file."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def _dtype_on_cpu(config: Any, options: Mapping[str, Any]) -> str:
    """What `auto` stands for on this processor; `auto` itself for quantised weights."""
    quantised = getattr(config, "quantization_config", None) or options.get("quantization_config")
    return "auto" if quantised is not None else cpu_dtype()


def _check_kind_early(path: str, revision: str | None, options: Mapping[str, Any]) -> Any:
    """The configuration, or None for an adapter; refuses what is not a judge before its weights are read."""
    from transformers import AutoConfig

    passed = {k: v for k, v in options.items() if k in _FOR_CONFIG}
    try:
        config = AutoConfig.from_pretrained(path, revision=revision, **passed)
    except (OSError, ValueError):
        # An adapter's folder has no configuration. Other problems show on loading.
        return None
    check_kind(config, path)
    return config


def _generate_options(sampling: Sampling, tokenizer: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "max_new_tokens": sampling.max_new_tokens,
        "repetition_penalty": sampling.repetition_penalty,
        "do_sample": sampling.temperature > 0,
        # Override the checkpoint's sampling defaults.
        "temperature": sampling.temperature if sampling.temperature > 0 else None,
        "top_p": sampling.top_p if sampling.temperature > 0 else None,
        "top_k": sampling.top_k if sampling.temperature > 0 else None,
    }
    if sampling.stop:
        options |= {"stop_strings": list(sampling.stop), "tokenizer": tokenizer}
    return options
