# SPDX-License-Identifier: Apache-2.0
"""Find published GGUF files, each checked by its hash: on disk, in the hub's cache, or on the hub."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autoj_reward.engines.checkpoint.convert import LAYOUT, ConvertedModel, convert_gguf
from autoj_reward.engines.checkpoint.file_hash import file_hash
from autoj_reward.engines.checkpoint.hub import kept_snapshot
from autoj_reward.environment import cache_home
from autoj_reward.errors import ConfigError

logger = logging.getLogger("autoj_reward")

NAMED_BY = "AUTOJ_REWARD_WEIGHTS"
"""Environment variable that names the file, or a folder that holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """A GGUF file as its makers publish it.

    Attributes:
        name: File name.
        size: The model's size, as `benchmarks/weights.py` takes it.
        n_bytes: Size.
        sha256: Hash of its content.
        repo: Hub repository.
        commit: The repository's commit.
        converted_mb: Size in MB of the bfloat16 checkpoint made of it.
    """

    name: str
    size: str
    n_bytes: int
    sha256: str
    repo: str
    commit: str
    converted_mb: int

    def check(self, path: Path) -> None:
        """Raise ConfigError if a file is another one."""
        size = path.stat().st_size
        found = f"{size:,} bytes" if size != self.n_bytes else f"sha256 {file_hash(path)}"
        if found != f"sha256 {self.sha256}":
            raise ConfigError(
                f"{path} is not the published {self.name}: expected {self.n_bytes:,} bytes with sha256 "
                f"{self.sha256}, found {found}",
                hint="remove it, or name another file",
            )


_HUB_SECONDS = 10.0

PUBLISHED: Mapping[str, PublishedFile] = {
    "gguf:qwen2.5-coder-0.5b-instruct": PublishedFile(
        name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        size="0.5b",
        n_bytes=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        commit="ebb2015119c907b064c512bf053e945850b5875f",
        converted_mb=1_300,
    ),
    "gguf:qwen2.5-coder-1.5b-instruct": PublishedFile(
        name="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        size="1.5b",
        n_bytes=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        repo="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        commit="f86cb2c1fa58255f8052cc32aeede1b7482d4361",
        converted_mb=3_600,
    ),
}
"""Models by the names that judge files give them."""


def weights_folder() -> Path:
    """The folder of this user's GGUF files, which `benchmarks/weights.py` fills; it may not exist."""
    return cache_home() / "weights"


def find_file(wanted: PublishedFile) -> Path:
    """The first of these: the file that the user names, the hub's cache, the user's weights folder, the hub.

    Raises:
        ConfigError: There is none, or the first is another file.
    """
    path, reason = _named_by_user(wanted) or _in_hub_cache(wanted) or _kept(wanted), ""
    if path is None:
        path, reason = _from_hub(wanted)
    if path is None:
        raise ConfigError(
            f"{wanted.name} is not on this machine, and the hub does not give it: {reason}",
            hint=f"one of three: name the file, or a folder with it, in {NAMED_BY}; where the hub can be "
            f"reached, `hf download {wanted.repo} {wanted.name} --revision {wanted.commit}`; without a hub, "
            f"`python benchmarks/weights.py {wanted.size}` in a checkout, which writes it to "
            f"{weights_folder()}",
        )
    wanted.check(path)
    return path


def _named_by_user(wanted: PublishedFile) -> Path | None:
    named = os.environ.get(NAMED_BY)
    if not named:
        return None
    given = Path(named).expanduser()
    path = given / wanted.name if given.is_dir() else given
    if not path.is_file():
        raise ConfigError(f"{NAMED_BY} = {named!r}: there is no file {path}")
    return path


def _in_hub_cache(wanted: PublishedFile) -> Path | None:
    snapshot = kept_snapshot(wanted.repo, wanted.commit)
    path = None if snapshot is None else snapshot / wanted.name
    return path if path is not None and path.is_file() else None


def _kept(wanted: PublishedFile) -> Path | None:
    path = weights_folder() / wanted.name
    return path if path.is_file() else None


def _from_hub(wanted: PublishedFile) -> tuple[Path | None, str]:
    """The downloaded file, or None and why not."""
    try:
        from huggingface_hub import HfApi, hf_hub_download

        # Without a network this fails at once; a download tries again for half a minute.
        HfApi().model_info(wanted.repo, revision=wanted.commit, timeout=_HUB_SECONDS)
        logger.warning("%s is not on this machine: downloading %d MB", wanted.name, wanted.n_bytes // 10**6)
        return Path(hf_hub_download(wanted.repo, wanted.name, revision=wanted.commit)), ""
    except Exception as error:  # its type depends on the version of huggingface_hub
        return None, str(error).strip().partition("\n")[0] or type(error).__name__


def _model(wanted: PublishedFile) -> ConvertedModel:
    stem = wanted.name.removesuffix(".gguf")

    def folder() -> Path:
        return cache_home() / "models" / f"{stem}-bf16-v{LAYOUT}-{wanted.sha256[:12]}"

    return ConvertedModel(
        origin=f"{wanted.name} of {wanted.repo} at {wanted.commit[:12]}",
        folder=folder,
        make=lambda scratch: convert_gguf(find_file(wanted), scratch),
        needs_mb=wanted.converted_mb,
    )


@functools.cache
def published_models() -> Mapping[str, ConvertedModel]:
    """The published files as models, by name."""
    return {name: _model(wanted) for name, wanted in PUBLISHED.items()}
