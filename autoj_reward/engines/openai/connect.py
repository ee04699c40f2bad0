# SPDX-License-Identifier: Apache-2.0
"""Probe every endpoint; start with those that answer, retry the rest in the background."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.engines.openai.probe import Api, Capabilities, probe
from autoj_reward.engines.openai.transport import Endpoint, GaveUp, Transport
from autoj_reward.errors import ConfigError, EngineContractBroken, EngineRejected, EngineUnavailable

logger = logging.getLogger("autoj_reward")

_MOST_SECONDS = 30.0
_MOST_ATTEMPTS = 5
_GRACE_SECONDS = 2.0
"""How long to wait for the other endpoints once one has answered."""

_LONGEST_REST_SECONDS = 30.0
_NOT_NOW = (EngineUnavailable, EngineContractBroken, GaveUp)


async def connect_all(
    transport: Transport,
    *,
    model: str | None,
    tokenizer: InjectionSafeTokenizer | None,
    api: Api,
    before: Capabilities | None,
    trusted: bool = False,
) -> Capabilities:
    """Probe every endpoint, admit those that serve the model, and return their common capabilities.

    An endpoint that does not answer is probed again in the background. `before` holds capabilities of an
    earlier connection; None takes those of the first endpoint. `trusted` means that the user gave the
    fingerprint.

    Raises:
        ConfigError: One does not serve the model, or they differ.
        EngineUnavailable: None of them answers.
        EngineRejected: One refuses.
    """
    patient = replace(transport.policy, retry_seconds=min(transport.policy.retry_seconds, _MOST_SECONDS))
    # Few attempts until the endpoint has answered once, so that a wrong URL is reported soon.
    at_first = replace(patient, attempts=min(patient.attempts, _MOST_ATTEMPTS))

    async def look(endpoint: Endpoint) -> Capabilities:
        policy = at_first

        async def ask(path: str, body: Any, read: Callable[[Any], Any]) -> Any:
            nonlocal policy
            answer = await transport.ask_one(endpoint, path, body, read, policy)
            policy = patient
            return answer

        async def ask_once(path: str, body: Any, read: Callable[[Any], Any]) -> Any:
            return await transport.ask_one(endpoint, path, body, read, replace(patient, attempts=1))

        return await probe(
            ask,
            ask_once=ask_once,
            url=endpoint.url,
            model=model,
            tokenizer=tokenizer,
            api=api,
            trusted=trusted,
        )

    looking = {asyncio.create_task(look(e)): e for e in transport.endpoints}
    found: Capabilities | None = before
    problem: Exception | None = None
    pending = set(looking)
    grace: float | None = None
    try:
        while pending:
            done, pending = await asyncio.wait(pending, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for task in done:
                try:
                    seen = task.result()
                except _NOT_NOW as error:
                    problem = error
                    continue
                found = _same(found, seen, looking[task])
                looking[task].admitted = True
                grace = _GRACE_SECONDS
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
    if problem is not None and not any(e.admitted for e in transport.endpoints):
        raise problem
    assert found is not None
    for endpoint in transport.endpoints:
        if not endpoint.admitted:
            logger.warning("%s does not answer; it is used once it does", endpoint.url)
            transport.background.append(asyncio.create_task(_join_later(endpoint, found, look)))
    return found


async def _join_later(endpoint: Endpoint, found: Capabilities, look: Callable[[Endpoint], Any]) -> None:
    rest = 1.0
    while True:
        await asyncio.sleep(random.uniform(rest / 2, rest))
        rest = min(2 * rest, _LONGEST_REST_SECONDS)
        try:
            _same(found, await look(endpoint), endpoint)
        except _NOT_NOW:
            continue
        except (ConfigError, EngineRejected) as error:
            logger.warning("%s is not used: %s", endpoint.url, error)
            return
        endpoint.admitted = True
        return


def _same(found: Capabilities | None, seen: Capabilities, endpoint: Endpoint) -> Capabilities:
    """The common capabilities; they must be equal except for the context, of which the least counts."""
    if found is None:
        return seen
    if replace(found, context_tokens=None) != replace(seen, context_tokens=None):
        raise ConfigError(
            f"{endpoint.url} differs from the other endpoints: {seen}; the others: {found}",
            hint="all endpoints of one engine serve the same model in the same way",
        )
    limits = [n for n in (found.context_tokens, seen.context_tokens) if n is not None]
    return replace(found, context_tokens=min(limits, default=None))
