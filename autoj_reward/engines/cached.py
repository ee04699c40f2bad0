# SPDX-License-Identifier: Apache-2.0
"""An engine wrapper that caches outputs, so that each is computed once across threads and processes."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from autoj_reward.cache.codec import decode, encode
from autoj_reward.cache.key import Parts, parts_of
from autoj_reward.cache.leases import kept_alive, new_owner
from autoj_reward.cache.store import JudgmentStore
from autoj_reward.engines import Engine, describe_engine, is_loaded, load_engine
from autoj_reward.engines.chains import Chain, generate_chains, in_rounds
from autoj_reward.engines.logprobs.token_tree import with_numbers
from autoj_reward.errors import EngineContractBroken, EngineRejected, StoreError
from autoj_reward.types import Answered, EngineStats, Failure, Follow, JudgeInput, JudgeOutput, Usage

logger = logging.getLogger("autoj_reward")

_LONGEST_NAP = 0.5
"""Most seconds between two checks for outputs of other callers."""

_FIRST_CHUNK = 64
_LEAST_CHUNK = 32
"""A group of completions that share their prompt."""
_QUICK_SECONDS, _SLOW_SECONDS = 10.0, 40.0
"""A chunk that takes less is followed by one twice as large, and one that takes more by one half as large."""


class CachedEngine:
    """Answers from a store, and from the engine behind it for the rest.

    Every output is stored, also unreadable and truncated ones, but no `Failure`: such inputs are tried again
    the next time. Equal inputs reach the engine once; if another thread or process is judging one, this call
    waits for its output.

    Args:
        inner: The engine. A `LazyEngine` is not built for a call that the store answers completely.
        store: The store.
        chunk: Most inputs per call of the engine. Each chunk's outputs are stored before the next call, so
            that a kill loses at most one. Large chunks use the engine better: they grow as long as they take
            seconds, and shrink when they take most of a minute.
        refresh: Ask the engine for everything, and overwrite stored outputs.
    """

    def __init__(
        self, inner: Engine, store: JudgmentStore, *, chunk: int = 512, refresh: bool = False
    ) -> None:
        self.inner = inner
        self.store = store
        self.stats = EngineStats()
        """Numbers of inputs answered by the store and by the engine, and the engine's token counts."""
        self._chunk = chunk
        self._size = min(chunk, _FIRST_CHUNK)
        self._refresh = refresh
        self._noted = self._closed = False
        self._counting = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        remake = functools.partial(CachedEngine, chunk=self._chunk, refresh=self._refresh)
        return remake, (self.inner, self.store)

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    def describe(self) -> dict[str, Any]:
        """The engine's description; see `DescribedEngine.describe`."""
        return describe_engine(self.inner)

    def load(self) -> None:
        """Load the engine now, not at the first cache miss."""
        load_engine(self.inner)

    def close(self) -> None:
        self._closed = True
        try:
            self.inner.close()
        finally:
            self.store.close()

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Answer every input; see `Engine.generate`.

        Raises:
            StoreError: The store cannot be read or written.
            EngineError: The engine failed; the outputs of earlier chunks are stored.
        """
        if self._closed:
            raise EngineRejected("the engine is closed")
        if not inputs:
            return []
        parts = parts_of(inputs, self.fingerprint)
        keys = [p.key for p in parts]
        found = {} if self._refresh else self.store.get(dict.fromkeys(keys))
        wanted = {
            key: (item, part) for key, item, part in zip(keys, inputs, parts, strict=True) if key not in found
        }
        failures, n_asked = self._complete(wanted, found) if wanted else ({}, 0)
        with self._counting:
            self.stats += EngineStats(n_cached=len(inputs) - n_asked)
        return [
            failures[key] if key in failures else decode(found[key], item.readout)
            for key, item in zip(keys, inputs, strict=True)
        ]

    def generate_chains(self, inputs: Sequence[JudgeInput], follow: Follow) -> list[Chain]:
        """Answer every input and what follows; see `engines.chains.generate_chains`.

        Chains that begin with an input that is not stored go through the engine as a whole and into the
        store. The others are answered from there, and so is what other callers are asking.

        Raises:
            StoreError: The store cannot be read or written.
            EngineError: The engine failed; the outputs of earlier chunks are stored.
        """
        if self._closed:
            raise EngineRejected("the engine is closed")
        answered: dict[int, Chain] = {}
        if inputs and not self._refresh:
            places: dict[bytes, tuple[int, Parts]] = {}
            repeated: set[bytes] = set()
            for n, part in enumerate(parts_of(inputs, self.fingerprint)):
                if places.setdefault(part.key, (n, part))[0] != n:
                    repeated.add(part.key)
            stored = self.store.get(places)
            missing = [key for key in places if key not in stored]
            for chunk in self._chunks(missing):
                begun = {key: places[key] for key in chunk}
                answered |= self._store_chains(begun, inputs, follow, repeated)
        rest = [n for n in range(len(inputs)) if n not in answered]

        def follow_rest(some: Sequence[Answered]) -> list[JudgeInput | None]:
            return follow([(rest[k], answers) for k, answers in some])

        found = in_rounds(self, [inputs[n] for n in rest], follow_rest)
        answered.update(zip(rest, found, strict=True))
        return [answered[n] for n in range(len(inputs))]

    def _chunks(self, keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
        """Keys in parts, each as large as the time of the one before allows."""
        start = 0
        while start < len(keys):
            size = self._size
            loaded, began = is_loaded(self.inner), time.monotonic()
            yield keys[start : start + size]
            start += size
            seconds = time.monotonic() - began
            if seconds > _SLOW_SECONDS and loaded:
                self._size = min(size, max(size // 2, _LEAST_CHUNK))
            elif seconds < _QUICK_SECONDS:
                self._size = min(size * 2, self._chunk)

    def _store_chains(
        self,
        begun: dict[bytes, tuple[int, Parts]],
        inputs: Sequence[JudgeInput],
        follow: Follow,
        repeated: Collection[bytes],
    ) -> dict[int, Chain]:
        """Answer the chains that no other caller has begun, as far as others answer none of their inputs.

        Args:
            begun: Inputs by key, each with its place.
            inputs: All inputs.
            follow: As of `generate_chains`.
            repeated: Keys of inputs that occur more than once.

        Returns:
            Those that came to their end, by their inputs' places. Without those of repeated inputs that
            failed: all copies are to be asked together, so that they have one answer.
        """
        owner = new_owner()
        taken: list[list[tuple[Parts, JudgeInput]]] = []
        unended: set[int] = set()

        def follow_claimed(answered: Sequence[Answered]) -> list[JudgeInput | None]:
            """What follows, as far as it is claimed: in one transaction for all that is answered together."""
            due = [
                (k, [with_numbers(a) for a in answers])
                for k, answers in answered
                if len(taken[k]) == len(answers)
            ]
            following = follow([(own[k][0], answers) for k, answers in due])
            items = [(k, item) for (k, _), item in zip(due, following, strict=True) if item is not None]
            parts = parts_of([item for _, item in items], self.fingerprint)
            # Two draws with the same text have the same reading.
            fresh = {part.key: (k, item, part) for (k, item), part in zip(items, parts, strict=True)}
            fresh = {key: found for key, found in fresh.items() if key not in asked}
            for key in self.store.claim(fresh, owner).mine if fresh else ():
                k, item, part = fresh[key]
                asked.add(key)
                taken[k].append((part, item))
            unended.update(k for k, item in items if taken[k][-1][1] is not item)
            return [
                taken[k][len(answers)][1] if len(taken[k]) > len(answers) else None for k, answers in answered
            ]

        mine = self.store.claim(begun, owner).mine
        asked = set(mine)
        own = [place for key, place in begun.items() if key in mine]
        taken += [[(part, inputs[n])] for n, part in own]
        settled = False
        try:
            with kept_alive(lambda: self._renew(owner)):
                chains = generate_chains(self.inner, [inputs[n] for n, _ in own], follow_claimed)
            chains = [[with_numbers(answer) for answer in chain] for chain in chains]
            answered = [
                (part, item, answer)
                for chain, answers in zip(taken, chains, strict=True)
                for (part, item), answer in zip(chain, answers, strict=True)
            ]
            self._count([answer for _, _, answer in answered])
            self._note()
            values = [
                (part, encode(answer, item.readout))
                for part, item, answer in answered
                if isinstance(answer, JudgeOutput)
            ]
            keys = [part.key for part, _, _ in answered]
            before = self.store.put(values, owner=owner, settled=keys)
            settled = True
            # Where another caller wrote an answer first, that one counts.
            unended.update(k for k, chain in enumerate(taken) if any(part.key in before for part, _ in chain))
            unended.update(
                k
                for k, answers in enumerate(chains)
                if taken[k][0][0].key in repeated and any(isinstance(a, Failure) for a in answers)
            )
            reread = sum(isinstance(answer, JudgeOutput) for k in unended for answer in chains[k])
            with self._counting:
                # They were asked for just now, and are about to be read from the store.
                self.stats += EngineStats(n_cached=-reread)
            return {n: chains[k] for k, (n, _) in enumerate(own) if k not in unended}
        finally:
            if not settled:
                with contextlib.suppress(StoreError):
                    self.store.release([part.key for chain in taken for part, _ in chain], owner)

    def _complete(
        self, wanted: dict[bytes, tuple[JudgeInput, Parts]], found: dict[bytes, bytes]
    ) -> tuple[dict[bytes, Failure], int]:
        """Judge the wanted inputs, or wait for other callers that do; adds to `found`.

        A caller holds no lease while it waits, so there is no deadlock.

        Returns:
            The failures, and how many inputs went to the engine.
        """
        n_asked = 0
        owner = new_owner()
        failures: dict[bytes, Failure] = {}
        waiting = list(wanted)
        nap = 0.01
        while waiting:
            taken: list[bytes] = []
            progress = False
            for chunk in self._chunks(waiting):
                claim = self.store.claim(chunk, owner, over_stored=self._refresh)
                if claim.stored:
                    found.update(self.store.get(claim.stored))
                if claim.mine:
                    mine = {key: wanted[key] for key in chunk if key in claim.mine}
                    failures.update(self._judge(mine, owner, found))
                    n_asked += len(mine)
                # Leased by others, or pruned since it was claimed.
                taken += [k for k in chunk if k not in found and k not in failures]
                progress = progress or bool(claim.mine or claim.stored)
            waiting = taken
            if waiting and not progress:
                time.sleep(nap * random.uniform(0.5, 1.0))
                nap = min(nap * 1.5, _LONGEST_NAP)
        return failures, n_asked

    def _judge(
        self, mine: dict[bytes, tuple[JudgeInput, Parts]], owner: str, found: dict[bytes, bytes]
    ) -> dict[bytes, Failure]:
        """Judge the inputs leased to this call, store the outputs, and release the leases."""
        keys = list(mine)
        settled = False
        try:
            with kept_alive(lambda: self._renew(owner)):
                outputs = self.inner.generate([item for item, _ in mine.values()])
            # NaN becomes a failure, which is not stored.
            answers = [with_numbers(output) for output in outputs]
            if len(answers) != len(keys):
                raise EngineContractBroken(
                    f"the engine returned {len(answers)} outputs for {len(keys)} inputs"
                )
            self._count(answers)
            self._note()
            failures = {k: a for k, a in zip(keys, answers, strict=True) if isinstance(a, Failure)}
            finished = [
                (part, encode(answer, item.readout))
                for (item, part), answer in zip(mine.values(), answers, strict=True)
                if isinstance(answer, JudgeOutput)
            ]
            before = self.store.put(finished, owner=owner, settled=keys, replace=self._refresh)
            settled = True
        finally:
            if not settled:
                # Do not hide the error that is being raised; the leases expire anyway.
                with contextlib.suppress(StoreError):
                    self.store.release(keys, owner)
        found.update((part.key, value) for part, value in finished)
        found.update(before)
        return failures

    def _count(self, answers: Sequence[JudgeOutput | Failure]) -> None:
        spent = sum((a.usage for a in answers if isinstance(a, JudgeOutput)), start=Usage())
        with self._counting:
            self.stats += EngineStats(n_asked=len(answers), usage=spent)

    def _renew(self, owner: str) -> None:
        try:
            self.store.renew(owner)
        except StoreError as error:
            logger.warning("cache leases could not be renewed; other processes may judge the same: %s", error)

    def _note(self) -> None:
        """Record once which engine the fingerprint belongs to."""
        if self._noted:
            return
        known = describe_engine(self.inner)
        kind = str(known.get("engine", ""))
        self.store.note_engine(
            self.fingerprint,
            kind=kind,
            model=str(known.get("model", "")),
            version=str(known.get("versions", {}).get(kind, "")),
        )
        self._noted = True


def with_cache(engine: Engine, cache: bool | str | Path | JudgmentStore, *, refresh: bool = False) -> Engine:
    """Wrap an engine in a cache.

    Args:
        engine: Any engine; a `LazyEngine` is not built while the cache answers.
        cache: False for none, True for the user's cache, a file, or an open store.
        refresh: See `CachedEngine`.

    Raises:
        StoreError: The file cannot be used.
    """
    if cache is False:
        return engine
    store = cache if isinstance(cache, JudgmentStore) else JudgmentStore(None if cache is True else cache)
    return CachedEngine(engine, store, refresh=refresh)
