# SPDX-License-Identifier: Apache-2.0
"""How the reward server is run: where it listens, who may ask, and how much at once."""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autoj_reward.errors import ConfigError

TOKEN_VARIABLE = "AUTOJ_REWARD_TOKEN"  # noqa: S105 - a name, not a secret
_LEAST_TOKEN_CHARS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Settings of the reward server.

    Attributes:
        host: Address to listen at.
        port: Port; 0 takes a free one.
        token: What clients have to show, or None, which only a loopback address allows.
        window_seconds: How long the first request of a batch waits for others.
        max_batch: Most inputs given to the engine in one call; a pair judged in both orders is two.
        at_once: Batches judged at the same time. A full one more is laid out ahead.
        max_waiting: Judgments that may wait; what comes on top is refused with 429.
        deadline_seconds: Longest time of a request in the server; clients may ask for less.
        max_body_bytes: Longest request body.
        max_completions: Most completions in one request.
        drain_seconds: After a signal to end, how long requests under way may take.
        failure_reward: What `/get_reward` gives for a judgment without a verdict; None gives null.
        end_tokens: Special tokens taken off the end of OpenRLHF's completions, besides the known ones.
        labels_as_references: Whether OpenRLHF's labels are reference answers for the judge.

    Raises:
        ConfigError: A setting is out of range, or the address is reachable by others without a token.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    window_seconds: float = 0.005
    max_batch: int = 256
    at_once: int = 1
    max_waiting: int = 4096
    deadline_seconds: float = 120.0
    max_body_bytes: int = 8 << 20
    max_completions: int = 1024
    drain_seconds: float = 30.0
    failure_reward: float | None = None
    end_tokens: tuple[str, ...] = ()
    labels_as_references: bool = False

    def __post_init__(self) -> None:
        least: Mapping[str, float] = {
            "window_seconds": 0.0, "max_batch": 1, "at_once": 1, "max_waiting": 1, "deadline_seconds": 0.001,
            "max_body_bytes": 1, "max_completions": 1, "drain_seconds": 0.0,
        }  # fmt: skip
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} = {getattr(self, name)} is below {low:g}")
        if self.failure_reward is not None and not math.isfinite(self.failure_reward):
            raise ConfigError(f"failure_reward = {self.failure_reward} is no number that JSON has")
        if self.max_completions > self.max_waiting:
            raise ConfigError(
                f"a request may hold {self.max_completions} completions, and only {self.max_waiting} wait",
                hint="such a request would be refused for ever: raise the one or lower the other",
            )
        if self.token is not None and (len(self.token) < _LEAST_TOKEN_CHARS or not self.token.isascii()):
            raise ConfigError(f"the token is not at least {_LEAST_TOKEN_CHARS} ASCII characters")
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"{self.host} can be reached from other machines, and no token is set",
                hint=f'export {TOKEN_VARIABLE}="$(openssl rand -hex 32)", or give --token-file, '
                "or listen at 127.0.0.1",
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name other than `localhost` counts as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(file: Path | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The token: the file's first line, else `$AUTOJ_REWARD_TOKEN`, else None.

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
