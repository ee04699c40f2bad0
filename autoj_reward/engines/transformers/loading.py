# SPDX-License-Identifier: Apache-2.0
"""Check that a checkpoint is a complete causal language model, head included."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoj_reward.engines.checkpoint.fingerprint import read_json
from autoj_reward.errors import ConfigError

logger = logging.getLogger("autoj_reward")

_SCALAR = re.compile(r"SequenceClassification|TokenClassification|RewardModel|QuestionAnswering")
_SCALAR_TASKS = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")
_SCALAR_HINT = (
    "score pairs with it as a scalar reward model: `autoj-reward evaluate pairwise PAIRS.jsonl "
    "--reward-model FOLDER`; a judge needs a model that writes"
)
_MOST_NAMED = 3


def check_kind(config: Any, model: str) -> None:
    """Raise ConfigError for a scalar reward model, a classifier or an encoder-decoder."""
    kinds = getattr(config, "architectures", None) or []
    if scalar := [kind for kind in kinds if _SCALAR.search(kind)]:
        raise ConfigError(
            f"{model!r} is a {scalar[0]}, not a judge: it gives a score instead of text",
            hint=_SCALAR_HINT,
        )
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(
            f"{model!r} is an encoder-decoder ({config.model_type}); the engines 'transformers' and 'vllm' "
            "need a decoder-only model",
            hint="serve it behind an OpenAI-compatible endpoint and give --engine server:http://HOST:PORT",
        )


def check_adapter(folder: str) -> None:
    """Raise ConfigError if a folder holds an adapter that was trained for scores."""
    task = read_json(Path(folder) / "adapter_config.json").get("task_type")
    if task in _SCALAR_TASKS:
        raise ConfigError(
            f"the adapter {folder!r} was trained for the task {task}, not for text", hint=_SCALAR_HINT
        )


def check_weights(loaded: Any, info: Mapping[str, Any], model: str) -> None:
    """Check that a checkpoint has all weights, by `from_pretrained`'s loading info; warn of other mismatches.

    Raises:
        ConfigError: The head or the token embeddings are missing, so they hold random numbers.
    """
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    ends = (loaded.get_output_embeddings(), loaded.get_input_embeddings())
    names = {f"{name}." for name, module in loaded.named_modules() if any(module is e for e in ends)}
    if lost := [key for key in missing if any(key.startswith(name) for name in names)]:
        raise ConfigError(
            f"the checkpoint of {model!r} has no {lost[0]}, so the model would write random text"
            + (f"; it has {_some(unexpected)} instead" if unexpected else ""),
            hint=_SCALAR_HINT,
        )
    if missing:
        logger.warning(
            "the checkpoint of %s has no %s: these weights are random, and so are judgments; is it complete?",
            model,
            _some(missing),
        )
    if unexpected:
        logger.warning("the checkpoint of %s has %s, which its model does not use", model, _some(unexpected))


def _some(keys: list[str]) -> str:
    rest = len(keys) - _MOST_NAMED
    return ", ".join(keys[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
