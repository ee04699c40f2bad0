# SPDX-License-Identifier: Apache-2.0
"""End a command soon after Ctrl-C or SIGTERM, also while a library does not let Python look at signals."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from types import FrameType
from typing import NoReturn

_PATIENCE_SECONDS = 1.0
_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
_left_to_command = threading.Event()
_explained = threading.Event()
_received = [signal.SIGINT]
"""The signal that ends this process."""


def end_soon_after_signals() -> None:
    """Exit a second after SIGINT (status 130) or SIGTERM (143), if the command has not ended by then.

    SIGTERM raises KeyboardInterrupt as Ctrl-C does, so that a command ends with the same words and keeps the
    same work. Python raises it between two of its own instructions: loading weights, compiling kernels or
    waiting for another process can take minutes until then. What is written stays readable: outputs and the
    cache survive the end of a process at any moment.
    """
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    # The signal's number is written there at once, whatever the main thread is doing.
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    owner = os.getpid()

    def interrupt(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a process that a library forked: it ends as it would without us
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        _received[0] = signal.Signals(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    threading.Thread(target=_watch, args=(reading, writing), name="signals", daemon=True).start()


def leave_signals_to_command() -> None:
    """For commands that let running work finish: they end themselves."""
    _left_to_command.set()


def stop_is_explained() -> None:
    """For commands that have said what they keep: nothing more is printed when they end."""
    _explained.set()


def _watch(reading: socket.socket, _kept_open: socket.socket) -> None:
    told: list[signal.Signals] = []
    while not told:
        numbers = reading.recv(64)
        told = [n for n in _STATUS if n in numbers]
    if _left_to_command.wait(_PATIENCE_SECONDS):
        return
    _received[0] = told[-1]
    end_now()


def end_now() -> NoReturn:
    """End this process and its children with the signal's status, without the libraries' own tidying up.

    It prints `stopped`, unless the command has said more.
    """
    import multiprocessing

    if not _explained.is_set():
        sys.stderr.write("stopped\n")
    for child in multiprocessing.active_children():
        child.kill()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(_STATUS[_received[0]])
