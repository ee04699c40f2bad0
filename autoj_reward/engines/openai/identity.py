# SPDX-License-Identifier: Apache-2.0
"""Detect that a server's model was swapped for another one.

A server names its model in three places: the list of models, and `model` and `system_fingerprint` in each
response. The first response fixes the last two; the list is read again after every call, before its results
are used. A swap that changes none of these cannot be detected.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from autoj_reward.engines.openai.connection import EndpointRejected, MalformedResponse, RequestRejected
from autoj_reward.errors import ConfigError, EngineChanged, EngineContractBroken, EngineUnavailable

if TYPE_CHECKING:
    from autoj_reward.engines.openai.probe import Capabilities
    from autoj_reward.engines.openai.transport import Endpoint, Transport

_DATED = re.compile(r"(?:-preview)?[-@](?:\d{3,4}|\d{6}|\d{8}|\d{2}-\d{2,4}|\d{4}-\d{2}-\d{2})")
"""What services append to the requested name: `gpt-4o` answers as `gpt-4o-2024-08-06`."""

_NOT_THERE = (404, 405)
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Said:
    """The `model` and `system_fingerprint` of a response."""

    model: str | None
    system: str | None


def said_by(body: Any) -> Said:
    """What a response says of its model."""
    names = [body.get(key) if isinstance(body, dict) else None for key in ("model", "system_fingerprint")]
    model, system = (name if isinstance(name, str) and name else None for name in names)
    return Said(model, system)


def is_alias(asked: str, said: str) -> bool:
    """Whether the model `said` by a response is the one `asked` for, possibly with a date appended."""
    wanted = asked.removesuffix("-latest").removesuffix(":latest")
    names = {wanted, wanted.rpartition("/")[2]} if "/" not in said else {wanted}
    given = said.removesuffix(":latest")
    return said == asked or any(
        given == name or (given.startswith(name) and _DATED.fullmatch(given[len(name) :]) is not None)
        for name in names
    )


def pinned(known: Capabilities, heard: Collection[Said], url: str, *, trusted: bool) -> Capabilities:
    """`known` with the model and system that the probe's responses name.

    If the user gave the fingerprint (`trusted`), systems may differ.

    Raises:
        ConfigError: The responses name another model than the requested one.
        EngineChanged: They name several.
    """
    models = sorted({said.model for said in heard if said.model is not None})
    systems = sorted({said.system for said in heard if said.system is not None})
    if len(models) > 1 or (len(systems) > 1 and not trusted):
        several = models if len(models) > 1 else systems
        raise EngineChanged(f"{url} answers as several models: {', '.join(several)}", hint=_HINT)
    if models and not is_alias(known.model, models[0]):
        raise ConfigError(
            f"{url} was asked for the model {known.model!r} and answers as {models[0]!r}",
            hint=f"model={models[0]}, or the name that the server uses for the model that you mean",
        )
    system = systems[0] if systems and not trusted else None
    return replace(known, answers_as=models[0] if models else None, system=system)


_HINT = (
    "start again: what answers now is another judge. If they are equivalent for you, set fingerprint=NAME, "
    "which allows the system_fingerprint to change"
)


def check_said(known: Capabilities, body: Any) -> None:
    """Compare a response's model and system with those of the first response.

    Raises:
        EngineChanged: They differ.
    """
    said = said_by(body)
    if known.answers_as is None:
        same = said.model is None or is_alias(known.model, said.model)
    else:
        same = said.model == known.answers_as
    if not same:
        raise EngineChanged(
            f"the endpoint answered as {known.answers_as or known.model!r}, and now as {said.model!r}",
            hint=_HINT,
        )
    if known.system is not None and said.system not in (None, known.system):
        raise EngineChanged(
            f"the endpoint's system_fingerprint was {known.system!r}, and is now {said.system!r}", hint=_HINT
        )


class IdentityWatch:
    """Check that the endpoints still list the model that they listed at first.

    `read` parses a response to `/models`, given the endpoint's URL.
    """

    def __init__(
        self, transport: Transport, known: Capabilities, read: Callable[[Any, str], Capabilities]
    ) -> None:
        self._transport = transport
        self._known = known
        self._read = read
        self._checking = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None

    async def confirm(self) -> None:
        """Check now; callers that arrive during a check share the next one.

        Raises:
            EngineChanged: An endpoint serves something else.
        """
        if not self._known.listed:
            return
        if self._next is None:
            self._next = asyncio.create_task(self._check_all())
        await asyncio.shield(self._next)

    async def _check_all(self) -> None:
        async with self._checking:
            self._next = None
            admitted = [e for e in self._transport.endpoints if e.admitted]
            await asyncio.gather(*(self._check(endpoint) for endpoint in admitted))

    async def _check(self, endpoint: Endpoint) -> None:
        from autoj_reward.engines.openai.transport import GaveUp

        policy = replace(
            self._transport.policy,
            attempts=2,
            retry_seconds=min(_SECONDS, self._transport.policy.retry_seconds),
        )

        def read(body: Any) -> Capabilities | ConfigError:
            try:
                return self._read(body, endpoint.url)
            except ConfigError as error:
                return error

        try:
            now = await self._transport.ask_one(endpoint, "/models", None, read, policy)
        except (EndpointRejected, RequestRejected) as error:
            if error.status not in _NOT_THERE:
                return
            now = ConfigError("it no longer lists its models")
        except (GaveUp, MalformedResponse, EngineUnavailable, EngineContractBroken):
            # The server may be shutting down; a successor is checked later.
            return
        if isinstance(now, ConfigError):
            raise EngineChanged(f"{endpoint.url} has changed: {now.args[0]}", hint=_HINT)
        before, after = (
            {"model": c.model, "owned_by": c.kind, **dict(c.identity)} for c in (self._known, now)
        )
        changed = [
            f"{name}: {before.get(name)} -> {after.get(name)}"
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        ]
        if changed:
            raise EngineChanged(f"{endpoint.url} now serves another model: {'; '.join(changed)}", hint=_HINT)
