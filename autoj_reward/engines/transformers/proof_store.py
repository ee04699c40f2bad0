# SPDX-License-Identifier: Apache-2.0
"""Remember what was proven of a model, by configuration, model class and versions."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from autoj_reward.engines.transformers.forward import plain_model
from autoj_reward.engines.transformers.proof import Forms, Reach, probe, prove
from autoj_reward.environment import cache_home, write_whole

_METHOD = 2
"""Incremented when the proof changes."""

_NOTES = ("transformers_version", "_name_or_path", "quantization_config")


def forms_of(model: Any, ids: Sequence[int]) -> Forms:
    """The proven forms of a model: proven once per configuration, probed at each load.

    Args:
        model: A causal language model of `transformers`, with its weights.
        ids: About ten ordinary tokens, for the probe.
    """
    note = cache_home() / "attention" / f"{_key(plain_model(model))}.json"
    forms = _read(note)
    if forms is None:
        forms = prove(model)
        _write(note, forms)
    return probe(model, forms, ids)


def _key(model: Any) -> str:
    cls = type(model)
    config = {k: v for k, v in model.config.to_dict().items() if k not in _NOTES}
    # Code from a checkpoint has no version.
    foreign = not cls.__module__.startswith("transformers.")
    known = {
        "method": _METHOD,
        "versions": [transformers.__version__, torch.__version__],
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "code": inspect.getsource(sys.modules[cls.__module__]) if foreign else "",
        "attention": getattr(model.config, "_attn_implementation", None),
        "config": config,
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _read(note: Path) -> Forms | None:
    """A remembered proof; None if it is missing or invalid."""
    try:
        known = json.loads(note.read_text(encoding="ascii"))
        tree, padded, equal_rows = known["tree"], known["padded"], known["equal_rows"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    fits = all(n is None or (type(n) is int and n >= 0) for n in (tree, padded))
    if not fits or type(equal_rows) is not bool:
        return None
    return Forms(tree=Reach(tree), padded=Reach(padded), equal_rows=equal_rows)


def _write(note: Path, forms: Forms) -> None:
    """Remember a proof, if the cache folder can be written."""
    known = {"tree": forms.tree.tokens, "padded": forms.padded.tokens, "equal_rows": forms.equal_rows}
    with contextlib.suppress(OSError):
        write_whole(note, json.dumps(known))
