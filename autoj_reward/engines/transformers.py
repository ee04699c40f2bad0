# SPDX-License-Identifier: Apache-2.0
"""Judge with `transformers`, on CPU or one GPU: no server, no further process.

A readout is one forward pass: the verdicts' token tree is appended to the input, each tree token
attending to the input and to its own ancestors only, so every branch is read exactly at the cost of
a few dozen tokens. Inputs that share a long beginning (the completions of one prompt) share its keys
and values.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from typing import Any

import torch

from autoj_reward.engines.announcing import changing_options
from autoj_reward.engines.batching import ReadBatch, by_length, read_batches
from autoj_reward.engines.context import output_room, too_long
from autoj_reward.engines.embedded import resolve_model
from autoj_reward.engines.fingerprint import check_unchanged, digest_of, engine_facts, hub_commit
from autoj_reward.engines.hub import weights_source, where_to_get
from autoj_reward.engines.identity import library_versions, template_id
from autoj_reward.engines.readout import NodeReading, TokenTree, token_tree
from autoj_reward.engines.readout import Path as TokenPath
from autoj_reward.engines.tokens import TrustedTokenizer
from autoj_reward.errors import ConfigError, EngineRejected, EngineUnavailable
from autoj_reward.types import (
    Failure,
    JudgeInput,
    JudgeOutput,
    Readout,
    Sampling,
    Usage,
)


class TransformersEngine:
    """A causal language model run by `transformers` in this process.

    Args:
        model: Checkpoint folder, hub name, or the embedded model's name.
        dtype: `auto` (the checkpoint's), `bfloat16`, `float16` or `float32`.
        device: A torch device; None picks a GPU where there is one.
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
        adapter_commit = None if adapter is None else hub_commit(adapter, None)
        told: dict[str, Any] = {
            "revision": revision,
            "adapter": adapter,
            "quantization": changing_options(model_options),
        }
        before = engine_facts("transformers", path, dtype=dtype, **told)
        try:
            hf_tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                path,
                revision=revision,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                # The tree of verdicts needs a mask of its own, which flash attention does not take.
                attn_implementation=model_options.pop("attn_implementation", "sdpa"),
                **model_options,
            )
            if adapter is not None:
                from peft import PeftModel

                loaded = PeftModel.from_pretrained(loaded, adapter, revision=adapter_commit)
                loaded = loaded.merge_and_unload()
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
        config = loaded.generation_config
        eos = config.eos_token_id if config is not None else None
        ends = [] if eos is None else eos if isinstance(eos, list) else [eos]
        tokenizer = TrustedTokenizer(hf_tokenizer, turn_end_ids=ends)
        self._hold(loaded.eval(), tokenizer, digest_of(facts), batch_tokens, context_tokens)
        self._description.update(
            model=model,
            source=weights_source(path, revision),
            adapter=None if adapter is None else weights_source(adapter, adapter_commit),
            facts=facts,
        )

    def _hold(
        self,
        model: Any,
        tokenizer: TrustedTokenizer,
        fingerprint: str,
        batch_tokens: int | None = None,
        context_tokens: int | None = None,
    ) -> None:
        """All that this engine knows, around a model that is in memory."""
        limit = getattr(model.config, "max_position_embeddings", None)
        self._model: Any = model
        self.tokenizer = tokenizer
        self.context_tokens: int | None = context_tokens or limit
        self._pad = next(iter(tokenizer.turn_end_ids), 0)
        self._batch_tokens = batch_tokens or (32768 if model.device.type == "cuda" else 8192)
        self._trees: dict[Readout, TokenTree] = {}
        self._fingerprint = fingerprint
        self._calling = threading.Lock()
        self._description: dict[str, Any] = {
            "engine": "transformers",
            "fingerprint": fingerprint,
            "dtype": str(model.dtype).removeprefix("torch."),
            "context_tokens": self.context_tokens,
            "chat_template": template_id(tokenizer.hf),
            "device": str(model.device),
            "versions": library_versions("transformers", "torch", "tokenizers"),
        }

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def describe(self) -> dict[str, Any]:
        """Who answers; see `DescribedEngine.describe`."""
        return dict(self._description)

    def close(self) -> None:
        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Answer every input; see `Engine.generate`.

        Sampling above temperature 0 is reproducible for the same batch and seed only. Calls from several
        threads run one after another.
        """
        with self._calling:
            return self._generate(inputs)

    def _generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        if self._model is None:
            raise EngineRejected("the engine is closed")
        results: list[JudgeOutput | Failure | None] = [None] * len(inputs)
        reads: dict[Readout, list[tuple[int, list[int]]]] = {}
        writes: dict[tuple[Sampling, int], list[tuple[int, list[int]]]] = {}
        for i, (item, ids) in enumerate(zip(inputs, self.tokenizer.encode_inputs(inputs), strict=True)):
            if failure := self._too_long(item, ids):
                results[i] = failure
            elif item.readout is not None:
                reads.setdefault(item.readout, []).append((i, ids))
            else:
                draw = 0 if item.sampling.temperature == 0 else item.sample_index
                writes.setdefault((item.sampling, draw), []).append((i, ids))
        try:
            with torch.inference_mode():
                for readout, rows in reads.items():
                    self._read(self._tree(readout), rows, results)
                for (sampling, draw), rows in writes.items():
                    self._write(sampling, draw, rows, results)
        except torch.cuda.OutOfMemoryError as error:
            raise EngineUnavailable(
                f"the GPU is out of memory: {error}", hint="lower batch_tokens, or use a smaller dtype"
            ) from error
        return [r for r in results if r is not None]

    def _too_long(self, item: JudgeInput, ids: Sequence[int]) -> Failure | None:
        tree = None if item.readout is None else self._tree(item.readout)
        return too_long(len(ids), output_room(item, tree), self.context_tokens)

    def _tree(self, readout: Readout) -> TokenTree:
        if readout not in self._trees:
            self._trees[readout] = token_tree(readout, self.tokenizer)
        return self._trees[readout]

    def _read(
        self,
        tree: TokenTree,
        rows: Sequence[tuple[int, list[int]]],
        results: list[JudgeOutput | Failure | None],
    ) -> None:
        branches = tree.nodes[1:]
        for batch in read_batches(rows, extra=len(branches), batch_tokens=self._batch_tokens):
            readings = _node_readings(tree, self._tree_logprobs(batch, branches))
            for row, (i, ids) in enumerate(batch.rows):
                results[i] = JudgeOutput(
                    text="",
                    finish_reason="read",
                    reading=tree.read(readings[row]),
                    usage=Usage(
                        prompt_tokens=len(ids),
                        cached_tokens=batch.n_shared if row else 0,
                        n_requests=1,
                    ),
                )

    def _tree_logprobs(self, batch: ReadBatch, branches: Sequence[TokenPath]) -> torch.Tensor:
        """log P(next token) at the end of each input and at every branch.

        Returns:
            float32 of shape (rows, 1 + branches, vocabulary).
        """
        device = self._model.device
        n_rows, n_tree, shared = len(batch.rows), len(branches), batch.n_shared
        rests = [ids[shared:] for _, ids in batch.rows]
        width = max(len(rest) for rest in rests)
        tokens = torch.full((n_rows, width + n_tree), self._pad)
        positions = torch.zeros((n_rows, width + n_tree), dtype=torch.long)
        # Rows are padded on the left, so that all verdicts stand at the same columns.
        visible = torch.zeros((n_rows, width + n_tree, shared + width + n_tree), dtype=torch.bool)
        among_branches = _ancestry(branches)
        for row, rest in enumerate(rests):
            pad = width - len(rest)
            tokens[row, pad:width] = torch.tensor(rest)
            tokens[row, width:] = torch.tensor([path[-1] for path in branches])
            positions[row, pad:width] = torch.arange(shared, shared + len(rest))
            depth = torch.tensor([len(path) for path in branches], dtype=torch.long)
            positions[row, width:] = shared + len(rest) - 1 + depth
            visible[row, :, :shared] = True
            causal = torch.ones(len(rest), len(rest), dtype=torch.bool).tril()
            visible[row, pad:width, shared + pad : shared + width] = causal
            visible[row, width:, shared + pad : shared + width] = True
            visible[row, width:, shared + width :] = among_branches
            # A padded position must see something, or its softmax is not a number.
            visible[row, :pad, shared : shared + 1] = True
        dtype = self._model.dtype
        mask = torch.zeros(visible.shape, dtype=dtype, device=device)
        mask.masked_fill_(~visible.to(device), torch.finfo(dtype).min)
        out = self._model(
            input_ids=tokens.to(device),
            attention_mask=mask[:, None],
            position_ids=positions.to(device),
            past_key_values=self._shared_cache(batch),
            use_cache=shared > 0,
            logits_to_keep=n_tree + 1,
        )
        logits: torch.Tensor = out.logits.float()
        # Not log_softmax: on a CPU it adds a vocabulary up in sequence, and float32 loses 5e-5 of the mass.
        return logits - torch.logsumexp(logits, dim=-1, keepdim=True)

    def _shared_cache(self, batch: ReadBatch) -> Any:
        if not batch.n_shared:
            return None
        shared = torch.tensor([batch.rows[0][1][: batch.n_shared]], device=self._model.device)
        cache = self._model(input_ids=shared, use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(len(batch.rows))
        return cache

    def _write(
        self,
        sampling: Sampling,
        draw: int,
        rows: Sequence[tuple[int, list[int]]],
        results: list[JudgeOutput | Failure | None],
    ) -> None:
        for batch in by_length(rows, extra=sampling.max_new_tokens, batch_tokens=self._batch_tokens):
            width = max(len(ids) for _, ids in batch)
            tokens = torch.full((len(batch), width), self._pad)
            mask = torch.zeros_like(tokens)
            for row, (_, ids) in enumerate(batch):
                tokens[row, width - len(ids) :] = torch.tensor(ids)
                mask[row, width - len(ids) :] = 1
            with torch.random.fork_rng(enabled=sampling.seed is not None):
                if sampling.seed is not None:
                    torch.manual_seed(sampling.seed + draw)
                written = self._model.generate(
                    input_ids=tokens.to(self._model.device),
                    attention_mask=mask.to(self._model.device),
                    pad_token_id=self._pad,
                    eos_token_id=list(self.tokenizer.turn_end_ids),
                    **_generate_options(self.tokenizer.stopping(sampling), self.tokenizer.hf),
                )[:, width:].tolist()
            for (i, ids), new in zip(batch, written, strict=True):
                results[i] = self._output(ids, new, sampling)

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
    """Take weights out of their file: unconverted ones stay mapped to it, and change with it."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def _ancestry(branches: Sequence[TokenPath]) -> torch.Tensor:
    """Which branches each branch sees: itself and its prefixes. bool of shape (T, T)."""
    sees = torch.zeros((len(branches), len(branches)), dtype=torch.bool)
    for row, path in enumerate(branches):
        for column, other in enumerate(branches):
            sees[row, column] = path[: len(other)] == other
    return sees


def _node_readings(tree: TokenTree, logprobs: torch.Tensor) -> list[dict[TokenPath, NodeReading]]:
    """Pick what the tree needs, for each row, from log-probabilities of shape (rows, nodes, vocabulary)."""
    # Of a whole vocabulary a few numbers are wanted: only these leave the device.
    wanted = sorted({token for children in tree.children.values() for token in children})
    column = {token: n for n, token in enumerate(wanted)}
    values = logprobs[:, :, wanted].tolist()
    ends = torch.logsumexp(logprobs[:, :, list(tree.terminators)], dim=-1).tolist()
    return [
        {
            node: NodeReading(
                children={token: own[n][column[token]] for token in tree.children[node]},
                end=own_ends[n] if tree.ends(node) else None,
            )
            for n, node in enumerate(tree.nodes)
        }
        for own, own_ends in zip(values, ends, strict=True)
    ]


def _generate_options(sampling: Sampling, tokenizer: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "max_new_tokens": sampling.max_new_tokens,
        "repetition_penalty": sampling.repetition_penalty,
        "do_sample": sampling.temperature > 0,
        # The checkpoint's own sampling defaults must not leak into a greedy judge.
        "temperature": sampling.temperature if sampling.temperature > 0 else None,
        "top_p": sampling.top_p if sampling.temperature > 0 else None,
        "top_k": sampling.top_k if sampling.temperature > 0 else None,
    }
    if sampling.stop:
        options |= {"stop_strings": list(sampling.stop), "tokenizer": tokenizer}
    return options
