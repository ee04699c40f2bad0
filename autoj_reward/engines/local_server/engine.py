# SPDX-License-Identifier: Apache-2.0
"""Judge with a vLLM server that this package starts, shares between processes and ends."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoj_reward.engines.checkpoint.embedded import resolve_model
from autoj_reward.engines.checkpoint.hub import weights_source
from autoj_reward.engines.local_server import launch
from autoj_reward.engines.local_server.progress import progress
from autoj_reward.engines.local_server.settings import (
    LocalServerSettings,
    device_numbers,
    serve_environment,
)
from autoj_reward.engines.local_server.shared import LaunchSpec, SharedServer, new_api_key, share_server
from autoj_reward.engines.local_server.state import JudgeFolder
from autoj_reward.engines.vllm.loading import check_config
from autoj_reward.errors import ConfigError, EngineChanged, EngineError, EngineRejected, EngineUnavailable
from autoj_reward.types import Failure, FailureReason, JudgeInput, JudgeOutput

if TYPE_CHECKING:
    from autoj_reward.engines.openai.engine import ServerEngine

_ATTEMPTS = 4
"""At one request: a server of this machine that refuses connections is gone, and will not come back."""

_WATCH_SECONDS = 1.0

START_SECONDS = 1800.0
"""Enough for a large checkpoint from a slow disk; a download may need more."""


class LocalServerEngine:
    """A judge on a `vllm serve` of its own, one for all processes of a node.

    The first process that makes this engine starts the server, in a separate process, and owns it; the others
    wait until it is ready and use it. It ends with its owner, also when that is killed; an owner that
    closes while others judge leaves it to the last of them. Which judge is shared follows from model,
    revision, dtype, adapter, context and whatever else shapes answers, and from `name`; sizes, devices and
    memory are those of the process that starts it. A server of `autoj-reward serve-judge` is used as well.

    A user whose judge is gone gets `EngineUnavailable`. Each later call looks for a new one (another
    process may have started it), and does not start it: a judge that was killed, or ran out of memory,
    is not to come back by itself. A new engine does.

    The engine may be called from threads, pickled (a copy finds the server, or on another node starts one)
    and inherited by forks.

    Args:
        model: Checkpoint folder, hub name, or the embedded model's name.
        endpoints: Addresses of servers that run already, on this node or others; nothing is started then.
            Each must serve this model. Their cached judgments are not shared, because it is not known which
            weights they loaded.
        fingerprint: For `endpoints`: what serves them, if that is known better. Engines that are
            given the same one share cached judgments.
        api_key: For `endpoints`.
        api_key_env: For `endpoints`, as for `ServerEngine`.
        allow_plain_http: For `endpoints`, as for `ServerEngine`.
        dtype: `auto` (the checkpoint's), `bfloat16`, `float16` or `float32`.
        revision: Hub revision; a commit pins it.
        adapter: Folder or hub name of a LoRA adapter. Servers under `endpoints` know it by the name `judge`,
            as `serve-judge` calls it.
        context_tokens: Most tokens of input and output together; None takes the model's own limit.
        devices: Numbers of the devices to run on (3, or [2, 3], or "2,3"), as the machine counts them. None
            leaves the choice to vLLM, which takes the first ones.
        tensor_parallel_size: Devices that share each layer; it divides the attention heads.
        data_parallel_size: Replicas of the whole model.
        block_size: Tokens of a cache block; None is 16, and 32 on a CPU.
        memory_share: Share of each device's memory, in (0, 1]; None is vLLM's own default, nearly all, and
            on a CPU a cache of 4 GiB. Beside a policy on the same device, set it.
        name: Separates judges that would otherwise be shared.
        python: Interpreter of the environment that has vLLM, such as `/opt/judge/bin/python`. This package
            need not be installed there. None is the present one.
        start_seconds: Longest wait until the server is ready.
        concurrency: Most requests of this process at a time.
        timeout_seconds: Deadline of one request.
        **options: Any other engine option of `vllm serve`, by its Python name.

    Raises:
        ConfigError: A setting is wrong, or the server ended while starting.
        EngineUnavailable: The server was not ready in time.
    """

    _client: ServerEngine | None
    _server: SharedServer | None

    def __init__(
        self,
        model: str,
        *,
        endpoints: str | Sequence[str] | None = None,
        api_key: str | None = None,
        api_key_env: str | None = None,
        allow_plain_http: bool = False,
        fingerprint: str | None = None,
        dtype: str = "auto",
        revision: str | None = None,
        adapter: str | None = None,
        context_tokens: int | None = None,
        devices: int | str | Sequence[int] | None = None,
        tensor_parallel_size: int = 1,
        data_parallel_size: int = 1,
        block_size: int | None = None,
        memory_share: float | None = None,
        name: str = "",
        python: str | None = None,
        start_seconds: float = START_SECONDS,
        concurrency: int = 64,
        timeout_seconds: float = 120.0,
        **options: Any,
    ) -> None:
        given = {
            "dtype": dtype,
            "revision": revision,
            "adapter": adapter,
            "context_tokens": context_tokens,
            "tensor_parallel_size": tensor_parallel_size,
            "data_parallel_size": data_parallel_size,
            "block_size": block_size,
            "memory_share": memory_share,
            "name": name,
            "python": python,
            **options,
        }
        self.settings = LocalServerSettings.from_options(model, given, device_numbers(devices))
        if fingerprint is not None and endpoints is None:
            raise ConfigError(
                "fingerprint is for endpoints of others; a judge that is started here has its own"
            )
        self._given_fingerprint = fingerprint
        self._endpoints = endpoints
        self._keys = {"api_key": api_key, "api_key_env": api_key_env, "allow_plain_http": allow_plain_http}
        self._start_seconds = start_seconds
        self._client_settings: dict[str, Any] = {
            "concurrency": concurrency,
            "timeout_seconds": timeout_seconds,
            **({} if endpoints is not None else {"attempts": _ATTEMPTS}),
        }
        self._fingerprint: str | None = None
        self._closed = False
        self._forget()
        self._attach(start=True)

    @property
    def fingerprint(self) -> str:
        if self._fingerprint is None:
            self._attach(start=True)
        assert self._fingerprint is not None
        return self._fingerprint

    def describe(self) -> dict[str, Any]:
        """Who answers; see `DescribedEngine.describe`. The facts of a server of others are what it says."""
        client, server = self._attach(start=not self._was_lost)
        known = client.describe()
        if server is None:
            return known
        facts = self.settings.facts(server.state.server_info["dtype"])
        path = resolve_model(self.settings.model)
        return {
            **known,
            "engine": "vllm",
            "model": self.settings.model,
            "source": weights_source(path, self.settings.revision),
            "adapter": self.settings.adapter,
            "facts": facts,
            "dtype": facts["dtype"],
            "head_dtype": server.state.server_info.get("head_dtype"),
        }

    @property
    def owned(self) -> bool:
        """Whether this process has started the server, so that its end is the server's."""
        return self._server is not None and self._server.owned

    @property
    def endpoint(self) -> str | None:
        """Base address of the managed server; None with endpoints of others."""
        return None if self._server is None else self._server.state.endpoint

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Answer every input; see `Engine.generate`. Calls may come from several threads at once.

        Raises:
            EngineUnavailable: The judge is gone and no other runs; a later call looks again.
        """
        client, server = self._attach(start=not self._was_lost)
        try:
            with self._watching(server):
                answers = client.generate(inputs)
        except EngineError as error:
            if server is None or self._closed or server.lives():
                raise
            self._lose(server)
            raise self._gone(server) from error
        # A judge that dies within a call leaves some inputs answered, and others given up one by one.
        given_up = any(isinstance(a, Failure) and a.reason is FailureReason.ENGINE for a in answers)
        if given_up and server is not None and not server.lives():
            self._lose(server)
            raise self._gone(server)
        return answers

    def close(self) -> None:
        """Use the server no more; its owner ends it when it has no other user. A second call does nothing."""
        with self._changing:
            self._closed = True
            client, server = self._client, self._server
            self._client = self._server = None
        if client is not None:
            client.close()
        if server is not None:
            server.close()

    def __getstate__(self) -> dict[str, Any]:
        own = ("_client", "_server", "_changing", "_inherited")
        return {k: v for k, v in self.__dict__.items() if k not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # A copy is a new engine: it may start the judge, on another node for one.
        self._forget()

    def _forget(self) -> None:
        """Hold no connection and no server: at first, after unpickling, and in a fork."""
        self._changing = threading.RLock()
        # In a fork, the collector would close what the parent's event loop still waits at.
        self._inherited = getattr(self, "_client", None)
        self._client = None
        self._server = None
        self._was_lost = False
        _engines.add(self)

    def _attach(self, *, start: bool) -> tuple[ServerEngine, SharedServer | None]:
        """The client, and the server behind it if it is a managed one."""
        with self._changing:
            if self._closed:
                raise EngineRejected("the engine is closed")
            if self._client is None:
                server = None
                if self._endpoints is None:
                    try:
                        server = self._shared(start)
                    except EngineUnavailable as error:
                        if start:
                            raise
                        raise EngineUnavailable("the managed judge is gone", hint=_GONE_HINT) from error
                client = self._connected(server)
                if self._fingerprint not in (None, client.fingerprint):
                    client.close()
                    if server is not None:
                        server.close()
                    raise EngineChanged(
                        f"the checkpoint of {self.settings.model} changed while it judged",
                        hint="start again: a new engine is another judge",
                    )
                self._client, self._server = client, server
                self._fingerprint = client.fingerprint
            return self._client, self._server

    def _shared(self, start: bool) -> SharedServer:
        key = self.settings.key()
        with progress("the judge") as report:
            server = share_server(
                JudgeFolder(key),
                lambda: serve_order(self.settings),
                start_seconds=self._start_seconds,
                report=report,
                start=start,
            )
        if self.settings.key() == key:
            return server
        server.close()
        raise ConfigError(
            f"the judge model {self.settings.model!r} changed while it was loaded",
            hint="wait until the checkpoint is written, and start again",
        )

    def _connected(self, server: SharedServer | None) -> ServerEngine:
        from autoj_reward.engines.openai.engine import ServerEngine

        settings = self.settings
        known: dict[str, Any]
        if server is None:
            known = {
                "endpoints": self._endpoints,
                "model": settings.request_model,
                "context_tokens": settings.context_tokens,
                **self._keys,
                "fingerprint": self._given_fingerprint,
            }
        else:
            server_info = server.state.server_info
            known = {
                "endpoints": server.state.endpoint,
                "model": settings.request_model,
                "context_tokens": server_info["context_tokens"],
                "api_key": server.state.api_key,
                # It is on this machine, whatever address it listens at.
                "allow_plain_http": True,
                "fingerprint": settings.fingerprint(server_info["dtype"]),
            }
        try:
            client = ServerEngine(
                **known,
                tokenizer=resolve_model(settings.model),
                revision=settings.revision,
                **self._client_settings,
            )
            # A wrong address or model shows now, and not in the middle of a run.
            client.connect()
        except BaseException:
            if server is not None:
                server.close()
            raise
        return client

    @contextlib.contextmanager
    def _watching(self, server: SharedServer | None) -> Iterator[None]:
        """End the calls of a server that ends: its locks tell at once what retries would find out late."""
        if server is None:
            yield
            return
        done = threading.Event()

        def watch() -> None:
            while not done.wait(_WATCH_SECONDS):
                if not server.lives():
                    self._lose(server)
                    return

        threading.Thread(target=watch, name="autoj-reward-managed", daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def _lose(self, server: SharedServer) -> None:
        with self._changing:
            if self._server is not server:
                return
            client, self._client, self._server = self._client, None, None
            self._was_lost = True
        if client is not None:
            client.close()
        server.close()

    def _gone(self, server: SharedServer) -> EngineUnavailable:
        owner = server.state.owner_pid
        what = "has ended" if server.owned or Path(f"/proc/{owner}").exists() else "ended with its owner"
        return EngineUnavailable(
            f"the managed judge of process {owner} {what}; its log is {server.state.log}", hint=_GONE_HINT
        )


_GONE_HINT = "a new engine starts a new judge; so does `autoj-reward serve-judge`, which this one then finds"

_engines: weakref.WeakSet[LocalServerEngine] = weakref.WeakSet()


def _in_fork() -> None:
    # A connection of two processes mixes their answers up, and locks of other threads stay locked.
    for engine in list(_engines):
        engine._forget()


os.register_at_fork(after_in_child=_in_fork)


def serve_order(
    settings: LocalServerSettings, *, host: str = "127.0.0.1", port: int | None = None
) -> LaunchSpec:
    """How the server of some settings is started.

    Raises:
        ConfigError: The model cannot be loaded.
    """
    if settings.python is None:
        path, size = resolve_model(settings.model), settings.tensor_parallel_size
        check_config(path, settings.revision, size, settings.options)
    api_key = os.environ.get("AUTOJ_REWARD_API_KEY") or new_api_key()
    return LaunchSpec(
        command=(settings.interpreter, launch.__file__, host, "{port}", "{server_info}"),
        # Not on the command line, which all users of the machine can read.
        environment={**serve_environment(settings, api_key), launch.ORDER_VARIABLE: settings.as_order()},
        api_key=api_key,
        host=host,
        port=port,
    )
