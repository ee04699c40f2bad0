# SPDX-License-Identifier: Apache-2.0
"""Hash files by content; the hashes of large unchanged files are remembered.

A remembered hash is used if path, size, mtime, ctime, inode and device are unchanged. Copying tools can
restore size and mtime (`tar x`, `cp -p`), but not ctime. Files whose times are unreliable are hashed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from pathlib import Path

from autoj_reward.environment import cache_home, write_whole
from autoj_reward.errors import ConfigError

_REMEMBER_ABOVE = 1 << 20
"""Bytes from which a hash is remembered."""

_SETTLED_NS = 2_000_000_000
"""A file that changed this recently may change again within the same clock tick."""

_NO_CHANGE_TIME = frozenset(
    {"9p", "cifs", "exfat", "msdos", "ntfs", "prl_fs", "smb3", "smbfs", "vboxsf", "vfat"}
)
"""File systems without a reliable ctime."""

_NOTE = re.compile(r"[0-9a-f]{64} [0-9a-f]{64}")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
        ConfigError: It changed while it was read.
    """
    real = path.resolve()
    before = real.stat()
    if before.st_size < _REMEMBER_ABOVE:
        return hashlib.sha256(real.read_bytes()).hexdigest()
    identity = _identity(real, before)
    note = cache_home() / "fingerprints" / hashlib.sha256(os.fsencode(identity)).hexdigest()
    lasting = _lasting(real, before)
    if lasting and (known := _noted(note, identity)) is not None:
        return known
    with open(real, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if _identity(real, real.stat()) != identity:
        raise ConfigError(
            f"{path} changed while it was read", hint="wait until the checkpoint is written, and try again"
        )
    if lasting:
        _remember(note, identity, digest)
    return digest


def _identity(real: Path, status: os.stat_result) -> str:
    parts = (
        real, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
    )  # fmt: skip
    return "\0".join(map(str, parts))


def _lasting(real: Path, status: os.stat_result) -> bool:
    """Whether a later change of the file would change its times."""
    from autoj_reward.cache.database import file_system

    if time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) < _SETTLED_NS:
        return False
    kind = file_system(real)
    return kind not in _NO_CHANGE_TIME and not kind.startswith("fuse.")


def _check(identity: str, digest: str) -> str:
    return hashlib.sha256(f"{identity}\0{digest}".encode("utf-8", "surrogateescape")).hexdigest()


def _noted(note: Path, identity: str) -> str | None:
    """The remembered hash; None if it is missing, damaged, or writable by another user."""
    try:
        status = note.lstat()
        text = note.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    ours = status.st_uid in (os.getuid(), 0) and not status.st_mode & 0o022
    if not ours or not _NOTE.fullmatch(text):
        return None
    digest, check = text.split(" ")
    return digest if check == _check(identity, digest) else None


def _remember(note: Path, identity: str, digest: str) -> None:
    """Write a note, if the cache folder can be written."""
    with contextlib.suppress(OSError):
        write_whole(note, f"{digest} {_check(identity, digest)}")


def normal_json(content: bytes, *, without: tuple[str, ...]) -> bytes:
    """A JSON object in canonical form without some keys; other content unchanged."""
    try:
        known = json.loads(content)
    except (ValueError, RecursionError):
        return content
    if not isinstance(known, dict):
        return content
    return json.dumps({k: v for k, v in known.items() if k not in without}, sort_keys=True).encode()
