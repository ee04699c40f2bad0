# SPDX-License-Identifier: Apache-2.0
"""Explain a cache hit or miss: which part of the key differs from the nearest stored one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoj_reward.cache.codec import decode
from autoj_reward.cache.key import HALF, Parts, parts_of
from autoj_reward.cache.store import JudgmentStore
from autoj_reward.engines.replay import MISSING
from autoj_reward.types import Failure, FailureReason, JudgeInput, JudgeOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A part of the key, as looked up and in the nearest stored record."""

    part: str
    here: Any
    stored: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The result of one look-up.

    Attributes:
        key: The key. kind: text or reading. hit: Whether it is stored. n_same_text: How many stored records
        are about the same rendered text. differences: To the nearest of them; empty for a hit. If there is
        none, the first difference is `text`,
            and the others are those to the nearest setup.
    """

    key: bytes
    kind: str
    hit: bool
    n_same_text: int
    differences: tuple[Difference, ...] = ()


class ExplainingEngine:
    """Answers from a store only, and explains every look-up.

    Args:
        store: The store.
        fingerprint: The engine's.
    """

    def __init__(self, store: JudgmentStore, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.explanations: list[Explanation] = []
        self._store = store

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Stored outputs; a `Failure` for each missing one."""
        answers: list[JudgeOutput | Failure] = []
        for item, parts in zip(inputs, parts_of(inputs, self.fingerprint), strict=True):
            found = self._store.get([parts.key])
            self.explanations.append(explain(self._store, parts, hit=bool(found)))
            answers.append(
                decode(found[parts.key], item.readout)
                if found
                else Failure(reason=FailureReason.ENGINE, detail=MISSING)
            )
        return answers

    def close(self) -> None:
        """Nothing is held open."""


def explain(store: JudgmentStore, parts: Parts, *, hit: bool) -> Explanation:
    """Compare a key with the stored ones."""
    wanted = _described(parts)
    kind = str(wanted["settings.kind"])
    same_text = [Parts(r.key, r.setup, r.prefill, r.draw) for r in store.records(body=parts.key[:HALF])]
    if hit:
        return Explanation(key=parts.key, kind=kind, hit=True, n_same_text=len(same_text))
    if same_text:
        nearest = min((_differences(wanted, _described(p)) for p in same_text), key=_distance)
        return Explanation(
            key=parts.key, kind=kind, hit=False, n_same_text=len(same_text), differences=nearest
        )
    other_text = Difference(part="text", here="this prompt and completion", stored="no judgment of it")
    setups = [setup.described() for setup in store.setups().values()]
    asked = parts.setup.described()
    nearest = min((_differences(asked, setup) for setup in setups), key=_distance, default=())
    return Explanation(key=parts.key, kind=kind, hit=False, n_same_text=0, differences=(other_text, *nearest))


def _described(parts: Parts) -> dict[str, Any]:
    return {**parts.setup.described(), "prefill": parts.prefill.hex(), "draw": parts.draw}


def _differences(here: dict[str, Any], stored: dict[str, Any]) -> tuple[Difference, ...]:
    return tuple(
        Difference(part=name, here=here.get(name), stored=stored.get(name))
        for name in sorted({*here, *stored})
        if here.get(name) != stored.get(name)
    )


def _distance(differences: Sequence[Difference]) -> tuple[bool, int]:
    """A reading is never near a text."""
    return any(d.part == "settings.kind" for d in differences), len(differences)
