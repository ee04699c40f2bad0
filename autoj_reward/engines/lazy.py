# SPDX-License-Identifier: Apache-2.0
"""An engine wrapper that builds the engine at its first use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from autoj_reward.engines import Engine, describe_engine, engine_stats, load_engine
from autoj_reward.engines.chains import Chain, generate_chains
from autoj_reward.errors import ConfigError, EngineRejected
from autoj_reward.types import EngineStats, Failure, Follow, JudgeInput, JudgeOutput


class LazyEngine:
    """Builds an engine at the first input.

    Args:
        build: Creates the engine.
        predict: Returns its fingerprint without building it, or None if unknown: then reading the fingerprint
            builds the engine. Called once.
        planned: The description of the engine before it is built.

    Raises:
        ConfigError: The built engine has another fingerprint than predicted.
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
        """The predicted fingerprint, computed once: a second prediction could differ."""
        if self._predict is not None:
            with self._building:
                if self._predict is not None:
                    self._predicted, self._predict = self._predict(), None
        return self._predicted

    def describe(self) -> dict[str, Any]:
        """See `DescribedEngine.describe`; before the engine is built, what it will be."""
        if self._engine is not None:
            return describe_engine(self._engine)
        # First, because the prediction adds to the plan.
        fingerprint = self._predict_once()
        return {**self._planned(), "fingerprint": fingerprint}

    @property
    def stats(self) -> EngineStats | None:
        """See `engine_stats`."""
        return engine_stats(self._engine)

    def load(self) -> None:
        """Build the engine now."""
        load_engine(self.built)

    @property
    def is_built(self) -> bool:
        """Whether the engine was built."""
        return self._engine is not None

    @property
    def built(self) -> Engine:
        """The engine, built if it was not."""
        with self._building:
            if self._engine is None:
                if self._build is None:
                    raise EngineRejected("the engine is closed")
                engine = self._build()
                if self._predicted not in (None, engine.fingerprint):
                    engine.close()
                    raise ConfigError(
                        f"the engine's fingerprint is {engine.fingerprint}, predicted was {self._predicted}",
                        hint="if the checkpoint changed in the meantime, start again; otherwise set the "
                        "engine's dtype, or run without the cache",
                    )
                self._engine = engine
            return self._engine

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Answer every input; see `Engine.generate`."""
        return self.built.generate(inputs)

    def generate_chains(self, inputs: Sequence[JudgeInput], follow: Follow) -> list[Chain]:
        """Answer every input and what follows; see `engines.chains.generate_chains`."""
        return generate_chains(self.built, inputs, follow)

    def close(self) -> None:
        """Close the engine, if it was built."""
        with self._building:
            if self._engine is not None:
                self._engine.close()
            self._build = None
