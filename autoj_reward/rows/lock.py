# SPDX-License-Identifier: Apache-2.0
"""Lock an output, so that only one run writes it.

The lock is a POSIX record lock on `OUT.lock`. The kernel releases it when the process ends, even by kill -9,
and forked children do not inherit it, so the workers of a killed run do not block the next one. The file
names the holder, for the error message of a second run; it is removed when the run is over. POSIX locks do
not exclude the same process, so a table here does.
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
"""Path of each lock's file to the process that holds it; a forked child has a copy of the table."""
_GUARD = threading.Lock()


class OutputLock:
    """An exclusive lock on an output, from construction until `release`.

    Args:
        path: The output, a file or a folder; it need not exist.

    Raises:
        ConfigError: Another run writes it; names that run's process, host and start time.
        OSError: The lock's file cannot be created.
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
        """Release the lock; a second call does nothing."""
        with _GUARD:
            # In a forked child the lock still belongs to the parent.
            if self._file is None or self._pid != os.getpid():
                return
            # Removed while held, so that a process that has just opened the file sees that it is gone.
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
    """Open and lock the file, and write into it who holds it."""
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
    """Whether the open file is still the one at this path: its holder may have removed it meanwhile."""
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
