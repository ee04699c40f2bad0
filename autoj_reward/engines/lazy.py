# SPDX-License-Identifier: Apache-2.0
"""An engine wrapper that builds the engine at its first use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from autoj_reward.engines import Engine, describe_engine, engine_stats, load_engine
from autoj_reward.errors import ConfigError, EngineRejected
from autoj_reward.types import EngineStats, Failure, JudgeInput, JudgeOutput


class LazyEngine:
    """Builds an engine at the first input.

    Args:
        build: Makes the engine.
        predict: Gives its fingerprint as far as it is known without building it, or None: then asking for the
            fingerprint builds the engine. Called once, when it is first needed.
        planned: What the engine will be, for `describe`; nothing is loaded for it.

    Raises:
        ConfigError: The engine that was built has another fingerprint than was predicted.
    """

    def __init__(
        self,
        build: Callable[[], Engine],
        predict: Callable[[], str | None] | None = None,
        planned: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._build: Callable[[], Engine] | None = build
        self._predict = predict
        self._predicted: str | None = None
        self._planned = planned
        self._engine: Engine | None = None
        self._building = threading.RLock()

    @property
    def fingerprint(self) -> str:
        if self._engine is not None:
            return self._engine.fingerprint
        predicted = self._predict_once()
        return predicted if predicted is not None else self.built.fingerprint

    def _predict_once(self) -> str | None:
        """The predicted fingerprint; two predictions could differ, and split one run's keys."""
        if self._predict is not None:
            with self._building:
                if self._predict is not None:
                    self._predicted, self._predict = self._predict(), None
        return self._predicted

    def describe(self) -> dict[str, Any]:
        """Who answers; see `DescribedEngine.describe`. Before the engine is built, who will."""
        if self._engine is not None:
            return describe_engine(self._engine)
        # First: what the prediction finds out is part of the plan.
        fingerprint = self._predict_once()
        return {**self._planned(), "fingerprint": fingerprint}

    @property
    def stats(self) -> EngineStats | None:
        """What the engine counted so far; see `engine_stats`."""
        return engine_stats(self._engine)

    def load(self) -> None:
        """Build the engine now."""
        load_engine(self.built)

    @property
    def is_built(self) -> bool:
        """Whether the engine has been needed yet."""
        return self._engine is not None

    @property
    def built(self) -> Engine:
        """The engine; built when first asked for."""
        with self._building:
            if self._engine is None:
                if self._build is None:
                    raise EngineRejected("the engine is closed")
                engine = self._build()
                if self._predicted not in (None, engine.fingerprint):
                    engine.close()
                    raise ConfigError(
                        f"the engine was predicted to be {self._predicted} and is {engine.fingerprint}",
                        hint="did the checkpoint change while the run began? Start it again. Otherwise name "
                        "the engine's dtype, or go without the cache",
                    )
                self._engine = engine
            return self._engine

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Answer every input; see `Engine.generate`."""
        return self.built.generate(inputs)

    def close(self) -> None:
        """Close the engine, if it was built."""
        with self._building:
            if self._engine is not None:
                self._engine.close()
            self._build = None
