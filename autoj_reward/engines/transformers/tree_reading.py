# SPDX-License-Identifier: Apache-2.0
"""Read all verdicts in one forward pass with a tree attention mask.

The verdicts' token tree is appended to the input; each tree token attends to the input and its ancestors, so
all branches cost a few dozen tokens. Inputs with a long common prefix (completions of one prompt) share its
keys and values. This is exact only if the model depends on nothing but mask and positions: see `proof`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from autoj_reward.engines.logprobs.batching import ReadBatch, Row, read_batches
from autoj_reward.engines.logprobs.token_tree import TokenPath, TokenTree
from autoj_reward.engines.transformers.forward import last_logprobs, picked
from autoj_reward.types import JudgeOutput, Usage


class TreeReading:
    """Reads all branches of a verdict tree in one pass per batch of at most `batch_tokens` tokens."""

    def __init__(self, model: Any, *, pad: int, batch_tokens: int) -> None:
        self._model, self._pad, self._batch_tokens = model, pad, batch_tokens

    def read(self, tree: TokenTree, rows: Sequence[Row]) -> Iterator[tuple[int, JudgeOutput]]:
        """Each row's index and output, in any order."""
        branches = tree.nodes[1:]
        for batch in read_batches(rows, extra=len(branches), batch_tokens=self._batch_tokens):
            logprobs = self.logprobs(batch, branches)
            n_nodes = len(tree.nodes)
            found = picked(tree, tree.nodes * len(batch.rows), logprobs.flatten(0, 1))
            for row, (i, ids) in enumerate(batch.rows):
                own = found[row * n_nodes : (row + 1) * n_nodes]
                yield (
                    i,
                    JudgeOutput(
                        text="",
                        finish_reason="read",
                        reading=tree.read(dict(zip(tree.nodes, own, strict=True))),
                        usage=Usage(
                            prompt_tokens=len(ids),
                            cached_tokens=batch.n_shared if row else 0,
                            n_requests=1,
                        ),
                    ),
                )

    def logprobs(self, batch: ReadBatch, branches: Sequence[TokenPath]) -> torch.Tensor:
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
        # Left padding puts the verdicts of all rows into the same columns.
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
            # Padding must attend to something, or its softmax is NaN.
            visible[row, :pad, shared : shared + 1] = True
        dtype = self._model.dtype
        mask = torch.zeros(visible.shape, dtype=dtype, device=device)
        mask.masked_fill_(~visible.to(device), torch.finfo(dtype).min)
        return last_logprobs(
            self._model,
            n_tree + 1,
            input_ids=tokens.to(device),
            attention_mask=mask[:, None],
            position_ids=positions.to(device),
            past_key_values=self._shared_cache(batch),
            use_cache=shared > 0,
        )

    def _shared_cache(self, batch: ReadBatch) -> Any:
        if not batch.n_shared:
            return None
        shared = torch.tensor([batch.rows[0][1][: batch.n_shared]], device=self._model.device)
        cache = self._model(input_ids=shared, use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(len(batch.rows))
        return cache


def _ancestry(branches: Sequence[TokenPath]) -> torch.Tensor:
    """Which branches each branch sees: itself and its prefixes. bool of shape (T, T)."""
    sees = torch.zeros((len(branches), len(branches)), dtype=torch.bool)
    for row, path in enumerate(branches):
        for column, other in enumerate(branches):
            sees[row, column] = path[: len(other)] == other
    return sees
