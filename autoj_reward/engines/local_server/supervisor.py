# SPDX-License-Identifier: Apache-2.0
"""Supervisor script: keeps one server alive while its owner lives, and leaves no process behind.

This file is run as a script by the owner (`python -I -S supervisor.py`), so it needs the standard
library only and holds no memory to speak of. The server ends

* when the owner is gone, however it went: this process is its child, so its parent id changes. A pipe would
  not do: forks of the owner inherit it and keep it open;
* when no process holds a shared lock on the file of users any more;
* when the owner says so, or this process gets SIGTERM;
* when this process is killed: a guard, which is a fork of it, then ends the server's group.

An owner that leaves in an orderly way may say `release` first: then only the users count.

The server runs in a process group of its own, and this process is the reaper of all that descends from it
(PR_SET_CHILD_SUBREAPER): workers that lose their parent, or that left the group, are found and killed too.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

_BEAT_SECONDS = 0.25
"""How often the owner and the users are looked at."""

_KILL_SECONDS = 15.0
"""How long killed processes may take to vanish; those in an uninterruptible wait may take longer."""

_KEEP_SECONDS = 3600.0
"""How often the files are made to look new, so that what cleans temporary folders spares them."""

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Supervisor:
    """One server and the reasons to end it.

    Args:
        order: `command` (with `{port}` where the port goes), `host`, `port` (None for a free one), `log`,
            `alive` (locked while this process lives), `users` (locked, shared, by each user), `state` (a
            file to remove at the end), `owner` (process id) and `grace_seconds` (between SIGTERM and
            SIGKILL).
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._owner: int | None = order["owner"]
        self._why = ""
        self._exit_code: int | None = None
        self._guard: int | None = None
        self._users = open(order["users"], "a")  # noqa: SIM115 - held until this process ends
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._signalled)

    def run(self) -> int:
        """Start the server, watch, end it; the server's exit status, or 0 where it was ended."""
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        alive = open(self._order["alive"], "a")  # noqa: SIM115 - held until this process ends
        _lock(alive.fileno(), seconds=5.0)
        with _reserved_port(self._order["host"], self._order["port"]) as port:
            command = [part.replace("{port}", str(port)) for part in self._order["command"]]
            with open(self._order["log"], "ab") as log:
                server = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=0,
                    preexec_fn=_die_with(os.getpid()),
                )
            self._guard = self._start_guard(server.pid)
            try:
                _tell({"port": port, "server_pid": server.pid})
                self._watch(server.pid)
            finally:
                # First of all: from here on, users are told that it is gone, and no one joins.
                Path(self._order["state"]).unlink(missing_ok=True)
                server.returncode = self._end(server.pid)
                Path(self._order["users"]).unlink(missing_ok=True)
        _tell({"why": self._why or f"it ended by itself with status {self._exit_code}"})
        return 0 if self._why else int(bool(self._exit_code))

    def _start_guard(self, server: int) -> int:
        """Fork a process that ends the server if this one is killed; returns its id.

        A signal to the server alone is not enough: vLLM's engine process may run for minutes after the server
        was killed. The guard inherits the lock that marks the server as alive, so no other server starts on
        the same devices before this one has ended.
        """
        supervisor = os.getpid()
        guard = os.fork()
        if guard:
            return guard
        try:
            # Signals for the supervisor are not for the guard; it has a handler of the supervisor's.
            os.setsid()
            self._users.close()
            for descriptor in (0, 1):
                os.close(descriptor)
            while os.getppid() == supervisor:
                time.sleep(_BEAT_SECONDS)
            Path(self._order["state"]).unlink(missing_ok=True)
            for number, seconds in ((signal.SIGTERM, self._order["grace_seconds"]), (signal.SIGKILL, 1.0)):
                until = time.monotonic() + seconds
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(server, number)
                    while time.monotonic() < until:
                        os.killpg(server, 0)
                        time.sleep(0.1)
        finally:
            os._exit(0)

    def _below(self) -> list[int]:
        """What runs below this process, except the guard."""
        return [pid for pid in _descendants(os.getpid()) if pid != self._guard]

    def _signalled(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGTERM:
            self._why = "the supervisor got SIGTERM"

    def _watch(self, server: int) -> None:
        waiting = [sys.stdin.fileno()]
        kept = time.monotonic()
        while not self._why:
            self._reap(server)
            if time.monotonic() - kept > _KEEP_SECONDS:
                kept = time.monotonic()
                self._keep_files()
            if self._exit_code is not None:
                return
            if self._owner is not None and os.getppid() != self._owner:
                self._why = f"its owner, process {self._owner}, is gone"
            elif _try_lock(self._users.fileno()):
                self._why = "it has no users left"
            elif select.select(waiting, [], [], _BEAT_SECONDS)[0]:
                said = os.read(waiting[0], 4096)
                if not said:
                    # The owner has closed its end; whether it lives is seen by its id.
                    waiting = []
                if b"end" in said:
                    self._why = "its owner ended it"
                elif b"release" in said:
                    self._owner = None

    def _keep_files(self) -> None:
        with contextlib.suppress(OSError):
            for path in Path(self._order["state"]).parent.iterdir():
                os.utime(path)

    def _reap(self, server: int) -> None:
        """Collect whatever has ended: the server, and what it left to us."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == server:
                    self._exit_code = os.waitstatus_to_exitcode(status)

    def _end(self, server: int) -> int:
        """Ask the server's group to end, then kill all that is left of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server, signal.SIGTERM)
        until = time.monotonic() + self._order["grace_seconds"]
        while self._exit_code is None and time.monotonic() < until:
            self._wait(server, 0.1)
        # With its first process gone, the others have nothing left to do in order.
        self._wait(server, 1.0)
        until = time.monotonic() + _KILL_SECONDS
        while time.monotonic() < until:
            for pid in self._below():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self._wait(server, 0.2):
                break
        if self._guard is not None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._guard, signal.SIGKILL)
                os.waitpid(self._guard, 0)
        return 0 if self._exit_code is None else self._exit_code

    def _wait(self, server: int, seconds: float) -> bool:
        """Whether nothing is left after at most that time."""
        until = time.monotonic() + seconds
        while True:
            self._reap(server)
            if not self._below():
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(0.05)


def _die_with(parent: int) -> Any:
    def prepare() -> None:
        # For the case that the guard is killed as well: SIGTERM is what the server's own clean-up listens to.
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


@contextlib.contextmanager
def _reserved_port(host: str, port: int | None) -> Iterator[int]:
    """A port that no other process is given while it is handed over.

    It is bound and not listened at: Linux lets the server bind it as well, since both set SO_REUSEADDR,
    while the kernel counts it as taken for everybody who asks for a free one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            reserved.bind((host, port or 0))
        except OSError as error:
            _tell({"refused": f"port {port or 0} of {host} cannot be had: {error.strerror}"})
            raise SystemExit(1) from None
        yield reserved.getsockname()[1]


def _descendants(root: int) -> list[int]:
    """Processes below one that still run, from /proc."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold blanks and parentheses.
            fields = status.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in "ZX":
            children.setdefault(int(fields[1]), []).append(int(status.parent.name))
    found = list(children.get(root, []))
    for pid in found:
        found += children.get(pid, [])
    return found


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock(descriptor: int, seconds: float) -> None:
    """Take a lock that others look at for moments only."""
    until = time.monotonic() + seconds
    while not _try_lock(descriptor):
        if time.monotonic() > until:
            raise SystemExit("another supervisor holds the lock")
        time.sleep(0.02)


def _tell(news: dict[str, Any]) -> None:
    """One line for the owner, if it is there to read it."""
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), (json.dumps(news) + "\n").encode())


def _first_line() -> bytes:
    """The text before the first newline; unbuffered, so that nothing after it is swallowed."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            raise SystemExit("no order came")
        line += byte
    return line


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sys.exit(_Supervisor(json.loads(_first_line())).run())
