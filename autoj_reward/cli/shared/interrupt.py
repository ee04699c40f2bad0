# SPDX-License-Identifier: Apache-2.0
"""End a command soon after Ctrl-C, also while a library does not let Python look at signals."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from typing import NoReturn

_PATIENCE_SECONDS = 1.0
_left_to_command = threading.Event()


def end_soon_after_ctrl_c() -> None:
    """Exit with status 130 a second after SIGINT, if the command has not ended by then.

    Python raises KeyboardInterrupt between two of its own instructions: loading weights, compiling kernels or
    waiting for another process can take minutes until then. What is written stays readable: outputs and the
    cache survive the end of a process at any moment.
    """
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    # The signal's number is written there at once, whatever the main thread is doing.
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading, writing), name="ctrl-c", daemon=True).start()


def leave_ctrl_c_to_command() -> None:
    """For commands that let running work finish: they end themselves."""
    _left_to_command.set()


def _watch(reading: socket.socket, _kept_open: socket.socket) -> None:
    while signal.SIGINT not in reading.recv(64):
        pass
    if _left_to_command.wait(_PATIENCE_SECONDS):
        return
    sys.stderr.write("stopped\n")
    end_now()


def end_now() -> NoReturn:
    """End this process and its children with status 130, without the libraries' own tidying up."""
    import multiprocessing

    for child in multiprocessing.active_children():
        child.kill()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(130)
