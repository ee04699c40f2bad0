# SPDX-License-Identifier: Apache-2.0
"""Settings of the reward server: address, authentication, limits."""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autoj_reward.errors import ConfigError
from autoj_reward.reward.scale import Scale

TOKEN_VARIABLE = "AUTOJ_REWARD_TOKEN"  # noqa: S105 - a name, not a secret
_LEAST_TOKEN_CHARS = 16
_OWN_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Settings of the reward server.

    Attributes:
        host: Address to listen on.
        port: Port; 0 takes a free one.
        token: Token that clients must send; None only on a loopback address.
        window_seconds: How long the first request of a batch waits for others.
        max_batch: Most inputs in one engine call; a pair judged in both orders counts twice.
        at_once: Batches judged concurrently. One more full batch is prepared ahead.
        max_waiting: Most judgments in the queue; further requests get 429.
        deadline_seconds: Longest time of a request in the server; clients may ask for less.
        max_body_bytes: Longest request body.
        max_completions: Most completions in one request.
        drain_seconds: Longest time for running requests after a signal to stop.
        scale: Scale of `/get_reward`'s rewards: raw, unit or centred, as `JudgeReward`'s.
        resolution: Step to which its ratings are rounded; 0 for none, None for the engine's noise.
        failure_reward: `/get_reward`'s reward of a failed judgment; None gives null.
        end_tokens: Special tokens to remove from the end of OpenRLHF's completions, besides known ones.
        labels_as_references: Whether OpenRLHF's labels are reference answers for the judge.
        allowed_hosts: Accepted `Host` names. None given: those of this machine without a token, all with one.
        max_connections: Most connections; at most three quarters of the process's file limit. When all are
            in use, the one that has waited longest for its client is closed.
        max_connections_per_peer: Most connections from one address.
        max_head_bytes: Longest request head: URL and headers.
        max_headers: Most headers of a request.
        head_seconds: Longest time from connecting, or a request's first byte, to the end of its head.
        body_seconds: Longest time for a request's body.
        idle_seconds: Longest idle time of a connection between two requests.
        write_seconds: Longest time for a client to read a response.

    Raises:
        ConfigError: A setting is out of range, or other machines can reach the address and no token is set.
    """

    host: str = "127.0.0.1"
    port: int = 8100
    token: str | None = field(default=None, repr=False)
    window_seconds: float = 0.005
    max_batch: int = 256
    at_once: int = 1
    max_waiting: int = 4096
    deadline_seconds: float = 120.0
    max_body_bytes: int = 8 << 20
    max_completions: int = 1024
    drain_seconds: float = 30.0
    scale: Scale = "centred"
    resolution: float | None = None
    failure_reward: float | None = None
    end_tokens: tuple[str, ...] = ()
    labels_as_references: bool = False
    allowed_hosts: tuple[str, ...] = ()
    max_connections: int = 4096
    max_connections_per_peer: int = 1024
    max_head_bytes: int = 64 << 10
    max_headers: int = 100
    head_seconds: float = 10.0
    body_seconds: float = 60.0
    idle_seconds: float = 75.0
    write_seconds: float = 60.0

    def __post_init__(self) -> None:
        least: Mapping[str, float] = {
            "window_seconds": 0.0, "max_batch": 1, "at_once": 1, "max_waiting": 1, "deadline_seconds": 0.001,
            "max_body_bytes": 1, "max_completions": 1, "drain_seconds": 0.0,
            "max_connections": 1, "max_connections_per_peer": 1, "max_head_bytes": 256, "max_headers": 8,
            "head_seconds": 0.1, "body_seconds": 0.1, "idle_seconds": 0.1, "write_seconds": 0.1,
        }  # fmt: skip
        for name, low in least.items():
            # Written so that NaN is rejected too.
            if not low <= getattr(self, name) < math.inf:
                raise ConfigError(
                    f"{name} = {getattr(self, name)} must be a finite number of at least {low:g}"
                )
        if self.failure_reward is not None and not math.isfinite(self.failure_reward):
            raise ConfigError(f"failure_reward = {self.failure_reward} must be a finite number")
        if self.max_completions > self.max_waiting:
            raise ConfigError(
                f"max_completions = {self.max_completions} is above max_waiting = {self.max_waiting}",
                hint="such a request would never fit the queue: raise max_waiting or lower max_completions",
            )
        if self.token is not None and (len(self.token) < _LEAST_TOKEN_CHARS or not self.token.isascii()):
            raise ConfigError(f"the token must be at least {_LEAST_TOKEN_CHARS} ASCII characters")
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"other machines can reach {self.host}, and no token is set",
                hint=f'export {TOKEN_VARIABLE}="$(openssl rand -hex 32)", or give --token-file, '
                "or listen on 127.0.0.1",
            )

    @property
    def hosts(self) -> tuple[str, ...] | None:
        """Accepted `Host` names; None for any."""
        if self.allowed_hosts:
            return (*self.allowed_hosts, *_OWN_HOSTS, self.host)
        return None if self.token is not None else (*_OWN_HOSTS, self.host)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; names other than `localhost` count as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(file: Path | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Read the token: the file's first line, else `$AUTOJ_REWARD_TOKEN`, else None.

    Raises:
        ConfigError: The file cannot be read, or is empty.
    """
    if file is None:
        return environment.get(TOKEN_VARIABLE, "").strip() or None
    try:
        token = file.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token file {file} cannot be read: {error}") from error
    if not token:
        raise ConfigError(f"the token file {file} is empty")
    return token
