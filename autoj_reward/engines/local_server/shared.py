# SPDX-License-Identifier: Apache-2.0
"""Start a local server, or attach to one that another process started.

The first process that wants a judge starts it and is its owner; it waits until the judge is ready, and so
does everybody who comes meanwhile. The judge runs while its owner lives and somebody uses it. An owner that
closes, or ends in order, while others use the judge leaves it to them; one that is killed takes it along.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import secrets
import select
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from autoj_reward.engines.local_server.state import FileLock, JudgeFolder, ServerState
from autoj_reward.errors import AutojRewardError, ConfigError, EngineUnavailable

Report = Callable[[str], None]

GRACE_SECONDS = 8.0
"""What a server gets between SIGTERM and SIGKILL."""

_END_SECONDS = 40.0
"""How long the end of a server may take: its grace, and the kernel's own time for large processes."""

_BEAT_SECONDS = 0.2
_MEMORY = (
    "out of memory", "outofmemory", "cannot allocate memory", "memoryerror", "no available memory",
    "less than desired gpu memory", "larger than the maximum number of tokens that can be stored",
)  # fmt: skip
_SUPERVISOR = Path(__file__).with_name("supervisor.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """What to start.

    Attributes:
        command: Program and arguments; `{port}` and `{server_info}` in them are replaced.
        environment: All of its environment.
        api_key: What the environment tells the server to ask for.
        host: Address to listen at.
        port: Port, or None for a free one.
        ready_path: Answers 200 when the server is ready.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    api_key: str
    host: str = "127.0.0.1"
    port: int | None = None
    ready_path: str = "/health"


class SharedServer:
    """One use of a running server; its end if it is the last one.

    Attributes:
        state: The server.
        owned: Whether this process has started it.
    """

    def __init__(self, folder: JudgeFolder, state: ServerState, users: FileLock) -> None:
        self.folder = folder
        self.state = state
        self._users = users
        self._closed = False
        _used.add(self)

    @property
    def owned(self) -> bool:
        return self.state.judge_id in _owned

    def lives(self) -> bool:
        """Whether this very server still runs."""
        state = self.folder.read_state()
        return state is not None and state.judge_id == self.state.judge_id

    def close(self, *, end: bool = False) -> None:
        """Use the server no more, and wait for its end where that ends it. A second call does nothing.

        Args:
            end: End it even if others use it; only its owner can.
        """
        if self._closed:
            return
        self._closed = True
        alone = self._users.take()
        supervisor = _owned.get(self.state.judge_id)
        if supervisor is not None and (alone or end):
            _finish(supervisor)
            _owned.pop(self.state.judge_id, None)
        self._users.close()

    def forget(self) -> None:
        """In a fork: drop what was inherited, and leave the server and its other users alone."""
        self._closed = True
        self._users.close()


_owned: dict[str, subprocess.Popen[bytes]] = {}
"""Supervisors that this process has started, by judge."""

_used: weakref.WeakSet[SharedServer] = weakref.WeakSet()


def share_server(
    folder: JudgeFolder,
    make_order: Callable[[], LaunchSpec],
    *,
    start_seconds: float,
    report: Report,
    start: bool = True,
) -> SharedServer:
    """The server of a folder: the one that runs, or a new one.

    Args:
        folder: The files of the server's key.
        make_order: What to start, asked only by the process that starts.
        start_seconds: Longest wait until it is ready.
        report: Called several times a second with what is being waited for.
        start: Whether to start one where none runs.

    Raises:
        ConfigError: The server refuses its settings or ended while starting; with the end of its log.
        EngineUnavailable: It is not ready in time, or none runs and none was to be started.
    """
    began, until = time.time(), time.monotonic() + start_seconds
    starting = FileLock(folder.start_lock)
    try:
        _wait(
            starting.take, until, report, lambda: f"another process starts it: {_last_line(folder)}", folder
        )
        if joined := folder.join():
            return SharedServer(folder, *joined)
        if failure := folder.failure_since(began):
            raise failure
        if not start:
            raise EngineUnavailable("no managed judge runs")
        # One that is not to be joined is ending, or lost its owner while it was starting.
        _wait(lambda: not folder.alive_now(), until, report, lambda: "the one before it is ending", folder)
        try:
            return _start(folder, make_order(), until, report)
        except AutojRewardError as error:
            folder.note_failure(error)
            raise
    finally:
        starting.free()


def _start(folder: JudgeFolder, order: LaunchSpec, until: float, report: Report) -> SharedServer:
    judge_id = uuid.uuid4().hex
    _collect_ended()
    for left in folder.path.glob("users-*.lock"):
        left.unlink()
    users = FileLock(folder.users(judge_id))
    users.take(shared=True)
    folder.new_log()
    for stale in (folder.server_info, folder.state):
        stale.unlink(missing_ok=True)
    with open(folder.log, "ab") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SUPERVISOR)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=dict(order.environment),
            # Ctrl-C in the owner's terminal is the owner's to act on.
            start_new_session=True,
        )
    _owned[judge_id] = supervisor
    try:
        assert supervisor.stdin is not None
        told = {
            "command": [part.replace("{server_info}", str(folder.server_info)) for part in order.command],
            "host": order.host,
            "port": order.port,
            "log": str(folder.log),
            "alive": str(folder.alive),
            "users": str(folder.users(judge_id)),
            "state": str(folder.state),
            "owner": os.getpid(),
            "grace_seconds": GRACE_SECONDS,
        }
        supervisor.stdin.write(json.dumps(told).encode() + b"\n")
        supervisor.stdin.flush()
        port = _port(supervisor, folder, until)
        endpoint = f"http://{_reachable(order.host)}:{port}"
        _wait(
            lambda: _ready(supervisor, folder, endpoint + order.ready_path),
            until,
            report,
            lambda: _last_line(folder),
            folder,
        )
        state = ServerState(
            judge_id=judge_id,
            endpoint=f"{endpoint}/v1",
            api_key=order.api_key,
            owner_pid=os.getpid(),
            log=str(folder.log),
            server_info=folder.read_server_info(),
        )
        folder.write_state(state)
        return SharedServer(folder, state, users)
    except BaseException:
        _finish(_owned.pop(judge_id))
        users.close()
        raise


def _port(supervisor: subprocess.Popen[bytes], folder: JudgeFolder, until: float) -> int:
    """The port that the supervisor has reserved.

    Raises:
        ConfigError: It could not.
    """
    assert supervisor.stdout is not None
    readable = select.select([supervisor.stdout], [], [], max(0.0, until - time.monotonic()))[0]
    line = supervisor.stdout.readline() if readable else b""
    news = json.loads(line) if line else {}
    if "port" not in news:
        raise ConfigError(
            f"the judge cannot be started: {news.get('refused', 'its supervisor ended')}",
            hint=f"the end of {folder.log}:\n{folder.tail()}" if not news else "choose another port",
        )
    return int(news["port"])


def _ready(supervisor: subprocess.Popen[bytes], folder: JudgeFolder, address: str) -> bool:
    """Whether the server answers.

    Raises:
        ConfigError: It has ended.
    """
    if supervisor.poll() is not None:
        server_info = folder.read_server_info()
        if "error" in server_info:
            raise ConfigError(str(server_info["error"]), hint=str(server_info.get("hint", "")))
        raise ConfigError(
            f"the managed judge ended while starting; the end of {folder.log}:\n{folder.tail()}",
            hint=why_ended(folder.tail()),
        )
    # Not through a proxy that the environment names: this is our own machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=2.0) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def why_ended(log: str) -> str:
    """The next step after a server ended while starting, by the end of its log; empty if that is unknown."""
    said = log.lower()
    if "address already in use" in said:
        return "another program listens at that port: choose another one"
    if any(sign in said for sign in _MEMORY):
        return "out of memory: lower memory_share or context_tokens, or give it devices of its own"
    return ""


def _wait(
    condition: Callable[[], bool],
    until: float,
    report: Report,
    describe: Callable[[], str],
    folder: JudgeFolder,
) -> None:
    while not condition():
        if time.monotonic() > until:
            raise EngineUnavailable(
                f"the managed judge is not ready in time; the end of {folder.log}:\n{folder.tail()}",
                hint="a large model may need more: raise start_seconds",
            )
        report(describe())
        time.sleep(_BEAT_SECONDS)


def _finish(supervisor: subprocess.Popen[bytes]) -> None:
    """End a server and wait for it."""
    _say(supervisor, b"end\n")
    try:
        supervisor.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        # Its server is told by the kernel.
        supervisor.kill()
        supervisor.wait()
    _close_pipes(supervisor)


def _close_pipes(supervisor: subprocess.Popen[bytes]) -> None:
    for pipe in (supervisor.stdin, supervisor.stdout):
        assert pipe is not None
        with contextlib.suppress(OSError):
            pipe.close()


def _collect_ended() -> None:
    """Forget servers of this process that have ended by themselves."""
    for judge_id, supervisor in list(_owned.items()):
        if supervisor.poll() is not None:
            _close_pipes(supervisor)
            _owned.pop(judge_id, None)


def _say(supervisor: subprocess.Popen[bytes], word: bytes) -> None:
    assert supervisor.stdin is not None
    with contextlib.suppress(OSError, ValueError):
        supervisor.stdin.write(word)
        supervisor.stdin.flush()


def _last_line(folder: JudgeFolder) -> str:
    """What the server said last, without the time and place that vLLM puts before it."""
    return folder.tail(1).rpartition("] ")[2][:120]


def _reachable(host: str) -> str:
    """An address of this machine for one to listen at."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - the user's choice
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def new_api_key() -> str:
    """A random key."""
    return secrets.token_urlsafe(32)


def _disown(supervisor: subprocess.Popen[bytes]) -> None:
    """Forget a process that keeps running, without Popen's warning."""
    _close_pipes(supervisor)
    if supervisor.returncode is None:
        supervisor.returncode = 0


@atexit.register
def _at_exit() -> None:
    """End servers without other users, and leave the rest running."""
    for server in list(_used):
        server.close()
    for supervisor in _owned.values():
        _say(supervisor, b"release\n")
        _disown(supervisor)


def _in_fork() -> None:
    for server in list(_used):
        server.forget()
    for supervisor in _owned.values():
        _disown(supervisor)
    _owned.clear()


os.register_at_fork(after_in_child=_in_fork)
