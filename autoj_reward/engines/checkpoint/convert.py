# SPDX-License-Identifier: Apache-2.0
"""Convert weights to a bfloat16 checkpoint in the user's cache folder, once, for every engine."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autoj_reward.engines.checkpoint.bars import without_bars
from autoj_reward.errors import ConfigError

logger = logging.getLogger("autoj_reward")

LAYOUT = 2
"""Incremented when the conversion changes; part of the folders' names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedModel:
    """A model that is converted at its first use.

    Attributes:
        origin: Where its weights come from, for descriptions.
        folder: Gives the checkpoint's folder, which may not exist yet.
        make: Finds the weights, and fills an empty folder with the checkpoint.
        needs_mb: Disk space of the checkpoint in MB.
    """

    origin: str
    folder: Callable[[], Path]
    make: Callable[[Path], None]
    needs_mb: int

    def checkpoint(self) -> Path:
        """The checkpoint's folder; made now if it does not exist.

        Raises:
            ConfigError: The weights are not found, or the folder cannot be written.
        """
        folder = self.folder()
        return folder if folder.exists() else made_once(folder, self.make, self.needs_mb)


def made_once(folder: Path, make: Callable[[Path], None], needs_mb: int) -> Path:
    """The folder; the first process to need it fills it with `make`, and the others wait.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Not `with_suffix`: a name may have dots.
        with open(folder.with_name(folder.name + ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                with tempfile.TemporaryDirectory(prefix=folder.name + ".", dir=folder.parent) as scratch:
                    model = Path(scratch) / "model"
                    model.mkdir()
                    with without_bars():
                        make(model)
                    # A rename is atomic: a folder under its final name is complete.
                    os.rename(model, folder)
    except OSError as error:
        raise ConfigError(
            f"the judge's weights cannot be written to {folder}: {error}",
            hint=f"set AUTOJ_REWARD_HOME to a folder with {needs_mb:,} MB free",
        ) from error
    return folder


def convert_gguf(source: Path, folder: Path) -> None:
    """Write a GGUF file's weights in bfloat16, and its tokenizer, into an empty folder."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logger.info("converting %s to a bfloat16 checkpoint in %s", source.name, folder.parent.parent)
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
