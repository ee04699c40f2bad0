# SPDX-License-Identifier: Apache-2.0
"""Read verdicts with the model's plain forward pass, one pass per branch.

Each node of the verdict tree ends a separate input without custom mask, positions or cache. This is slower
and exact for every causal model, with windows, chunks, convolutions or recurrent states.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from autoj_reward.engines.logprobs.batching import Row, by_length
from autoj_reward.engines.logprobs.token_tree import NodeLogprobs, TokenPath, TokenTree
from autoj_reward.engines.transformers.forward import last_logprobs, left_padded, picked
from autoj_reward.engines.transformers.proof import Forms
from autoj_reward.types import JudgeOutput, Usage


class PlainReading:
    """Reads a verdict tree node by node; `forms` tells which rows may share a pass."""

    def __init__(self, model: Any, *, pad: int, batch_tokens: int, forms: Forms) -> None:
        self._model, self._pad, self._batch_tokens, self._forms = model, pad, batch_tokens, forms

    def read(self, tree: TokenTree, rows: Sequence[Row]) -> Iterator[tuple[int, JudgeOutput]]:
        """Each row's index and output, in any order."""
        known: dict[int, dict[TokenPath, NodeLogprobs]] = {i: {} for i, _ in rows}
        while due := [(i, ids, node) for i, ids in rows for node in tree.followed(known[i])]:
            longer = [(n, [*ids, *node]) for n, (_, ids, node) in enumerate(due)]
            for batch in plain_batches(longer, self._forms, extra=0, batch_tokens=self._batch_tokens):
                inputs = left_padded([ids for _, ids in batch], self._pad, self._model.device)
                logprobs = last_logprobs(self._model, 1, use_cache=False, **inputs)[:, 0]
                asked = [due[n] for n, _ in batch]
                found = picked(tree, [node for _, _, node in asked], logprobs)
                for (i, _, node), reading in zip(asked, found, strict=True):
                    known[i][node] = reading
        for i, ids in rows:
            usage = Usage(prompt_tokens=len(ids), n_requests=len(known[i]))
            yield i, JudgeOutput(text="", finish_reason="read", reading=tree.read(known[i]), usage=usage)


def plain_batches(rows: Sequence[Row], forms: Forms, *, extra: int, batch_tokens: int) -> Iterator[list[Row]]:
    """Batches of rows that can share a pass without changing their results.

    A batch has at most `batch_tokens` tokens with padding and `extra` tokens per row; one row may exceed it.
    """
    groups: dict[int, list[Row]] = defaultdict(list)
    for n, row in enumerate(rows):
        length = len(row[1])
        if forms.padded.reaches(length + extra):
            groups[0].append(row)
        else:
            groups[length if forms.equal_rows else -1 - n].append(row)
    for group in groups.values():
        yield from by_length(group, extra=extra, batch_tokens=batch_tokens)
