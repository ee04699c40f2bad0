# SPDX-License-Identifier: Apache-2.0
"""One writer for an output: an exclusive lock that ends with the process that holds it.

The lock is a POSIX record lock on `OUT.lock`. The kernel drops it when its process ends, however it ends,
and a forked child does not inherit it, so a killed run does not block others while its workers live. The file
says who holds it, for the message to the second writer; it is removed when the run is over. POSIX locks do
not see a second holder in the same process, so those are kept in a table here.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import threading
import warnings
from pathlib import Path
from typing import Any, Self

from autoj_reward.errors import ConfigError
from autoj_reward.json_text import json_text

_HELD: dict[str, int] = {}
"""Locks of this process: path of the lock's file to the process that took it (a fork copies the table)."""
_GUARD = threading.Lock()


class OutputLock:
    """The right to write an output; taken when made, given back by `release`.

    Args:
        path: The output, a file or a folder; it need not exist.

    Raises:
        ConfigError: Another run writes it; names that run's process, host and start.
        OSError: The lock's file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + ".lock")
        self._file: int | None = None
        self._pid = os.getpid()
        self._key = os.path.realpath(self.path)
        with _GUARD:
            if _HELD.get(self._key) == os.getpid():
                raise _refusal(path, {"pid": os.getpid(), "host": socket.gethostname()})
            self._file = _locked(self.path, path)
            _HELD[self._key] = os.getpid()

    def release(self) -> None:
        """Let others write; a second call does nothing."""
        with _GUARD:
            # In a forked child the lock is its parent's still.
            if self._file is None or self._pid != os.getpid():
                return
            # Removed while it is held: a process that waits for this file sees that it was replaced.
            with contextlib.suppress(OSError):
                self.path.unlink()
            os.close(self._file)
            self._file = None
            del _HELD[self._key]

    def __del__(self) -> None:
        self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _locked(lock: Path, path: Path) -> int:
    """An open and locked file at `lock`, with this process as its holder."""
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                holder = _holder(file)
                os.close(file)
                raise _refusal(path, holder) from None
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                os.close(file)
                raise
            warnings.warn(
                f"the file system of {path} has no locks ({error}): start one run at a time",
                stacklevel=4,
            )
        if _is_still_there(lock, file):
            os.ftruncate(file, 0)
            os.pwrite(file, json_text(_this_process()).encode(), 0)
            return file
        os.close(file)


def _is_still_there(lock: Path, file: int) -> bool:
    """Whether the file was not removed by a former holder between opening and locking it."""
    try:
        named, held = os.stat(lock), os.fstat(file)
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)


def _this_process() -> dict[str, Any]:
    since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _holder(file: int) -> dict[str, Any]:
    try:
        known = json.loads(os.pread(file, 4096, 0))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _refusal(path: Path, holder: dict[str, Any]) -> ConfigError:
    who = "another run"
    if holder.get("pid") == os.getpid() and holder.get("host") == socket.gethostname():
        who = f"this process (pid {holder['pid']}) already"
    elif holder:
        since = f", since {holder['since']}" if "since" in holder else ""
        who = f"another run (pid {holder.get('pid')} on {holder.get('host')}{since})"
    return ConfigError(
        f"{who} is writing {path}",
        hint="wait for it or end it, then run the same command again; or name another output",
    )
