# SPDX-License-Identifier: Apache-2.0
"""State of a shared local server on disk: locks, a state file, a log.

Whether a judge lives is never read from a file: its supervisor holds a lock that the kernel drops with the
process. So a file left by a crash or a reboot, or a process id that is used again, misleads no one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from autoj_reward.environment import write_whole
from autoj_reward.errors import AutojRewardError, ConfigError, EngineUnavailable
from autoj_reward.redact import redact

_TAIL_BYTES = 16 << 10
_CONTROL = re.compile(r"\x1b\[[0-9;?]*+[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """A judge that was ready when this was written.

    Attributes:
        judge_id: Random; two judges of one folder differ in it.
        endpoint: Base address, with `/v1`.
        api_key: What requests must show.
        owner_pid: The process whose end is the judge's.
        log: Its log file.
        server_info: What the server's process found out: dtype and context.
    """

    judge_id: str
    endpoint: str
    api_key: str = field(repr=False)
    owner_pid: int
    log: str
    server_info: Mapping[str, Any] = field(default_factory=dict)


class FileLock:
    """A lock on a file that ends with the process, however that ends.

    It belongs to this object, not to the process: two objects in one process exclude each other.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, *, shared: bool = False) -> bool:
        """Whether the lock could be had at once; a shared one may become an exclusive one, or not."""
        assert self._descriptor is not None
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def free(self) -> None:
        """Give the lock back for this process and for forks of it."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self.close()

    def close(self) -> None:
        """Give this process's share of the lock back; forks that inherited it keep theirs."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class JudgeFolder:
    """The files of one key.

    Args:
        key: What processes must agree on to share.

    Raises:
        ConfigError: The folder cannot be made, or is not this user's alone.
    """

    def __init__(self, key: str) -> None:
        self.path = runtime_home() / key
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make {self.path}: {error}", hint=_HINT) from error
        self.start_lock = self.path / "start.lock"
        self.alive = self.path / "alive.lock"
        self.state = self.path / "state.json"
        self.server_info = self.path / "server_info.json"
        self.failure = self.path / "failure.json"
        self.log = self.path / "server.log"

    def users(self, judge_id: str) -> Path:
        """The file that each user of one judge holds a shared lock on.

        One for each judge: a client of a dead server does not count as a user of its successor.
        """
        return self.path / f"users-{judge_id}.lock"

    def join(self) -> tuple[ServerState, FileLock] | None:
        """The judge that runs, and a lock on it as one of its users; None if none runs, or it is ending."""
        state = self.read_state()
        if state is None:
            return None
        users = FileLock(self.users(state.judge_id))
        # At its end, the supervisor takes the lock, or removes first the state and then the file.
        if users.take(shared=True) and self.read_state() == state:
            return state, users
        users.free()
        return None

    def alive_now(self) -> bool:
        """Whether a supervisor runs."""
        probe = FileLock(self.alive)
        try:
            return not probe.take(shared=True)
        finally:
            probe.free()

    def read_state(self) -> ServerState | None:
        """The judge that runs, or None."""
        if not self.alive_now():
            return None
        try:
            return ServerState(**json.loads(self.state.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write_state(self, state: ServerState) -> None:
        """Publish a judge that is ready; only this user can read the key in it."""
        write_whole(self.state, json.dumps(asdict(state)))

    def read_server_info(self) -> dict[str, Any]:
        """What the server's process has found out so far."""
        try:
            return dict(json.loads(self.server_info.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def new_log(self) -> None:
        """An empty log; the one before is kept under another name."""
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.log, self.log.with_suffix(".log.1"))
        os.close(os.open(self.log, os.O_WRONLY | os.O_CREAT, 0o600))

    def tail(self, n_lines: int = 30) -> str:
        """The end of the log, without control characters."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = file.read().decode("utf-8", errors="replace")
        except OSError:
            return ""
        lines = [_CONTROL.sub("", line.rstrip()) for line in text.replace("\r", "\n").splitlines()]
        return redact("\n".join([line for line in lines if line][-n_lines:]))

    def note_failure(self, error: AutojRewardError) -> None:
        """Tell those who wait that the start failed, so that they do not all try the same."""
        kind = "config" if isinstance(error, ConfigError) else "unavailable"
        told = {"at": time.time(), "kind": kind, "message": error.args[0], "hint": error.hint}
        write_whole(self.failure, json.dumps(told))

    def failure_since(self, when: float) -> AutojRewardError | None:
        """The failure of a start that ended after a time, or None."""
        try:
            told = json.loads(self.failure.read_text(encoding="utf-8"))
            if told["at"] < when:
                return None
            kind = ConfigError if told["kind"] == "config" else EngineUnavailable
            return kind(told["message"], hint=told["hint"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


_HINT = "set AUTOJ_REWARD_RUNTIME to a folder of your own, on a disk of this machine"


def runtime_home() -> Path:
    """This user's runtime folder, created if it does not exist.

    Not the cache folder, which several machines may share; judges are shared on one machine only.

    Raises:
        ConfigError: It cannot be created, or others may write there.
    """
    chosen = os.environ.get("AUTOJ_REWARD_RUNTIME")
    folder = Path(chosen).resolve() if chosen else Path(tempfile.gettempdir()) / f"autoj-reward-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, parents=bool(chosen), exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise ConfigError(f"cannot make {folder}: {error}", hint=_HINT) from error
    # In a folder that everyone may write to, another user may have made this one first.
    if status.st_uid != os.getuid() or status.st_mode & 0o022 or not folder.is_dir():
        raise ConfigError(f"{folder} is not this user's alone", hint=_HINT)
    if status.st_mode & 0o077:
        folder.chmod(0o700)
    return folder
