# SPDX-License-Identifier: Apache-2.0
"""Test on a small copy of a model which optimisations leave its results unchanged.

A tree mask replaces the model's own mask, which is silently wrong for models with windows, chunks,
convolutions or recurrent states. So each optimisation is compared with plain forward passes of a small random
model of the same architecture, with windows short enough to matter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from autoj_reward.engines.logprobs.batching import ReadBatch
from autoj_reward.engines.logprobs.token_tree import TokenPath
from autoj_reward.engines.transformers.forward import last_logprobs, left_padded, plain_model
from autoj_reward.engines.transformers.small_copy import CUT, N_TOKENS, TRIED, CannotShrink, small_copy
from autoj_reward.engines.transformers.tree_reading import TreeReading

logger = logging.getLogger("autoj_reward")

_CLOSE = 1e-4
"""Largest difference of standardised logits due to float32; a wrong mask gives more than 1e-3."""

_REAL_CLOSE = {torch.float32: 0.1, torch.float64: 0.1}
_REAL_CLOSE_IN_16_BITS = 0.5
"""The same on real weights, where noise grows with the layers. A wrong mask gives more than 1."""

_BRANCHES: tuple[TokenPath, ...] = ((3,), (9,), (3, 5), (9, 4))
_LONG = (40, 31, 26)
_SHORT = (13, 11, 8)


@dataclass(frozen=True, slots=True)
class Reach:
    """Most tokens of a row for which an optimisation is exact; None is any number."""

    tokens: int | None

    def reaches(self, n_tokens: int) -> bool:
        """Whether it covers a row of `n_tokens`."""
        return self.tokens is None or n_tokens <= self.tokens


NEVER, ALWAYS = Reach(0), Reach(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """The optimisations that leave a model's results unchanged.

    Attributes:
        tree: Reading a verdict tree in one pass, with custom mask and positions and a shared prefix.
        padded: Rows of different lengths in one batch, with a padding mask.
        equal_rows: Rows of equal length in one batch.
    """

    tree: Reach = NEVER
    padded: Reach = NEVER
    equal_rows: bool = False

    @property
    def reading(self) -> str:
        """How verdicts are read, for descriptions."""
        if self.tree == ALWAYS:
            return "all branches in one pass"
        if self.tree == NEVER:
            return "branch by branch"
        return f"all branches in one pass up to {self.tree.tokens} tokens, then branch by branch"


TRUSTED = Forms(tree=ALWAYS, padded=ALWAYS, equal_rows=True)
"""Every optimisation is allowed."""


def prove(model: Any) -> Forms:
    """Test the optimisations on a small copy of the model; what cannot be tested is not allowed.

    Args:
        model: A causal language model of `transformers`, on any device.
    """
    try:
        with torch.inference_mode():
            inner = plain_model(model)
            small, limit = small_copy(inner)
            forms = _prove_small(small, limit)
        # Attention kernels that the copy did not run may ignore a custom mask.
        own_kernel = getattr(inner.config, "_attn_implementation", None) not in TRIED
        return replace(forms, tree=NEVER) if own_kernel else forms
    except Exception as error:  # model code may raise anything
        why = str(error) if isinstance(error, CannotShrink) else f"{type(error).__name__}: {error}"
        logger.info("no small copy of the model could be tested, so it is read branch by branch (%s)", why)
        return Forms(equal_rows=True)


def probe(model: Any, forms: Forms, ids: Sequence[int]) -> Forms:
    """Check on the real weights what the small copy proved; drop what they do not confirm.

    It costs at most 7 forward passes. Each reads all the weights, so their number decides the time.

    Args:
        model: The real model.
        forms: What was proven on its small copy.
        ids: About ten ordinary tokens.
    """
    close = _REAL_CLOSE.get(model.dtype, _REAL_CLOSE_IN_16_BITS)
    rows = [list(ids), list(ids[:-2])]
    first, second, other = ids[0], ids[2], ids[-2]
    longer = [[*row, first, second] for row in rows]
    trial, proven = _Trial(model), forms
    training = model.training
    model.eval()

    def tree_error() -> float:
        # Most ends of these rows with a branch after them are beginnings of the two longer rows.
        for row in longer:
            trial.run_alone(row, n_last=4)
        return trial.tree_error(rows, ((other,), (first,), (first, second)), n_shared=len(ids) // 2)

    with torch.inference_mode():
        if forms.tree.reaches(len(ids) + 2) and not _holds(tree_error, close):
            forms = replace(forms, tree=NEVER)
        if forms.padded.reaches(len(ids)) and not _holds(lambda: trial.batch_error(rows), close):
            forms = replace(forms, padded=NEVER)
        if forms.equal_rows and not _holds(lambda: trial.batch_error([rows[0], longer[1]]), close):
            forms = replace(forms, equal_rows=False)
    model.train(training)
    if forms != proven:
        logger.info("the model's weights do not confirm all that its small copy allows: %s", forms.reading)
    return forms


def _prove_small(model: Any, limit: int | None) -> Forms:
    some = torch.Generator().manual_seed(1)
    ids = torch.randint(3, N_TOKENS, (max(_LONG),), generator=some).tolist()
    trial = _Trial(model)

    def rows(*lengths: int) -> list[list[int]]:
        return [[*ids[: length - 2], length, 2] for length in lengths]

    def tree(lengths: Sequence[int]) -> float:
        own = rows(*lengths)
        # Rows, and shared prefixes, shorter and longer than the cut windows.
        mixed = [*own, *rows(CUT - 5)]
        return max(
            trial.tree_error(own[:1], _BRANCHES, n_shared=0),
            trial.tree_error(mixed, _BRANCHES, n_shared=0),
            trial.tree_error(mixed, _BRANCHES, n_shared=min(lengths[-1], CUT - 5) - 2),
            trial.tree_error(own, _BRANCHES, n_shared=min(lengths) - 3),
        )

    def padded(lengths: Sequence[int]) -> float:
        own = rows(lengths[0], CUT - 5)
        return max(trial.batch_error(own), trial.written_error(own))

    def equal(lengths: Sequence[int]) -> float:
        own = [[*ids[: lengths[0] - 1], last] for last in (5, 6)]
        return max(trial.batch_error(own), trial.written_error(own))

    def reach(error: Callable[[Sequence[int]], float]) -> Reach:
        if _holds(lambda: error(_LONG), _CLOSE):
            return ALWAYS
        # Windows have no effect on a row that is shorter than them.
        return Reach(limit) if limit is not None and _holds(lambda: error(_SHORT), _CLOSE) else NEVER

    changed = [ids[1], ids[0], *ids[2 : _SHORT[-1]]]
    if _holds(lambda: trial.difference(ids[: _SHORT[-1]], changed), 100 * _CLOSE):
        raise CannotShrink("its first tokens do not change what comes after them")
    return Forms(tree=reach(tree), padded=reach(padded), equal_rows=reach(equal) == ALWAYS)


def _holds(error: Callable[[], float], tolerance: float) -> bool:
    """Whether the error is within tolerance; false if the model raises."""
    try:
        return error() <= tolerance
    except Exception as raised:
        logger.debug("the model does not support an optimisation", exc_info=raised)
        return False


class _Trial:
    """Compares optimisations with one plain pass per row. Errors are differences of standardised logits."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._plain: dict[tuple[int, ...], torch.Tensor] = {}
        self._reading = TreeReading(model, pad=0, batch_tokens=1 << 20)

    def tree_error(self, rows: Sequence[list[int]], branches: Sequence[TokenPath], *, n_shared: int) -> float:
        """Error of a tree reading."""
        got = self._reading.logprobs(ReadBatch(list(enumerate(rows)), n_shared), branches)
        wanted = [torch.stack([self._alone([*ids, *path]) for path in ((), *branches)]) for ids in rows]
        return _difference(got, torch.stack(wanted))

    def batch_error(self, rows: Sequence[list[int]]) -> float:
        """Error of a batch, padded if lengths differ."""
        inputs = left_padded(rows, 0, self._model.device)
        got = last_logprobs(self._model, 1, use_cache=False, **inputs)[:, 0]
        return _difference(got, torch.stack([self._alone(ids) for ids in rows]))

    def written_error(self, rows: Sequence[list[int]]) -> float:
        """Error of generation in a batch."""
        alone = torch.cat([_written(self._model, [ids]) for ids in rows])
        return _difference(_written(self._model, rows), alone)

    def difference(self, one: Sequence[int], other: Sequence[int]) -> float:
        """Difference between two rows."""
        return _difference(self._alone(one), self._alone(other))

    def run_alone(self, ids: Sequence[int], *, n_last: int = 1) -> None:
        """Pass one row through the model alone; keep what it says after each of the last `n_last` tokens."""
        row = torch.tensor([list(ids)], device=self._model.device)
        logprobs = last_logprobs(self._model, n_last, input_ids=row, use_cache=False)[0]
        for n, own in enumerate(logprobs, start=len(ids) - n_last + 1):
            self._plain[tuple(ids[:n])] = own

    def _alone(self, ids: Sequence[int]) -> torch.Tensor:
        if tuple(ids) not in self._plain:
            self.run_alone(ids)
        return self._plain[tuple(ids)]


def _written(model: Any, rows: Sequence[list[int]]) -> torch.Tensor:
    inputs = left_padded(rows, 0, model.device)
    tokens = inputs["input_ids"]
    out = model.generate(
        input_ids=tokens,
        # `generate` finds the positions itself.
        attention_mask=inputs.get("attention_mask", torch.ones_like(tokens)),
        max_new_tokens=2,
        min_new_tokens=2,
        do_sample=False,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    return torch.stack(out.logits, dim=1)


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference of logits, each row standardised to mean 0 and deviation 1; NaN counts as equal."""

    def standard(logits: torch.Tensor) -> torch.Tensor:
        centred = logits.double() - logits.double().mean(dim=-1, keepdim=True)
        return centred / centred.std(dim=-1, keepdim=True)

    return float((standard(one) - standard(other)).nan_to_num(0.0).abs().max())
