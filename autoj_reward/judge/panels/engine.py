# SPDX-License-Identifier: Apache-2.0
"""The engines of a panel's members as one, to load, count and close them together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autoj_reward.engines import engine_stats, is_loaded, load_engine
from autoj_reward.errors import ConfigError
from autoj_reward.identity import short_id
from autoj_reward.types import EngineStats, Failure, JudgeInput, JudgeOutput

if TYPE_CHECKING:
    from autoj_reward.judge.judge import Judge


class PanelEngine:
    """All engines of a panel. It answers no input by itself: a panel asks its members."""

    def __init__(self, judges: Sequence[Judge]) -> None:
        self._judges = judges

    @property
    def fingerprint(self) -> str:
        return short_id("panel", [judge.engine.fingerprint for judge in self._judges])

    @property
    def stats(self) -> EngineStats | None:
        """The sum of the members' counts, an engine that several share once; None if one does not count."""
        engines = {id(judge.built_engine): judge.built_engine for judge in self._judges}
        counts = [engine_stats(engine) for engine in engines.values() if engine is not None]
        known = [count for count in counts if count is not None]
        return sum(known, start=EngineStats()) if known and len(known) == len(counts) else None

    @property
    def is_built(self) -> bool:
        """Whether all members have loaded their models."""
        return all(is_loaded(judge.built_engine) for judge in self._judges)

    def load(self) -> None:
        """Load all of them now."""
        for judge in self._judges:
            load_engine(judge.engine)

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Refuse: inputs are laid out for one member."""
        raise ConfigError("this needs a judge with one model, and a panel has several", hint="name a member")

    def close(self) -> None:
        """Close all of them."""
        for judge in self._judges:
            judge.close()
