# SPDX-License-Identifier: Apache-2.0
"""Run the reward server: socket, uvicorn, graceful shutdown."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.serve.app import make_app
from autoj_reward.serve.connections import limited_protocol
from autoj_reward.serve.service import RewardService
from autoj_reward.serve.settings import ServeSettings

logger = logging.getLogger("autoj_reward")


class _Server(uvicorn.Server):
    """uvicorn, which tells the service when shutdown begins."""

    service: RewardService

    def handle_exit(self, sig: int, frame: object) -> None:
        self.service.begin_draining()
        super().handle_exit(sig, frame)  # type: ignore[arg-type]


def serve(
    judge: Judge,
    settings: ServeSettings,
    *,
    listening: Callable[[str], None] = lambda url: None,
    ready: Callable[[], None] = lambda: None,
) -> bool:
    """Serve until SIGINT or SIGTERM, then stop after the running requests.

    Args:
        judge: The judge; closed at the end.
        settings: The server's settings.
        listening: Called with the server's URL as soon as it listens; the judge may still be loading.
        ready: Called when the judge is loaded.

    Returns:
        Whether every running request was answered. If not, threads still wait for the engine.

    Raises:
        ConfigError: The server cannot listen on the address.
        Exception: The judge could not be loaded.
    """
    bound = _bind(settings)
    server: _Server | None = None

    def stop() -> None:
        if server is not None:
            server.should_exit = True

    app, service = make_app(judge, settings, on_ready=ready, on_failure=stop)
    config = uvicorn.Config(
        app,
        http=limited_protocol(settings),
        access_log=False,
        # Warnings are about what clients send, who could flood the log.
        log_level="error",
        lifespan="on",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=math.ceil(settings.idle_seconds),
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )
    server = _Server(config)
    server.service = service
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    listening(f"http://{host}:{bound.getsockname()[1]}")
    with _signals_kept_for_uvicorn(), contextlib.closing(bound):
        server.run(sockets=[bound])
    if service.failure is not None:
        raise service.failure
    return service.drained


def _bind(settings: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port}: {error}", hint="--port 0 takes a free port"
        ) from error


@contextlib.contextmanager
def _signals_kept_for_uvicorn() -> Iterator[None]:
    """Ignore the signals that uvicorn raises again for the former handler after it has shut down."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
