# SPDX-License-Identifier: Apache-2.0
"""A judge's engine, built at the first request, and the identity of who answers."""

from __future__ import annotations

import threading
from collections.abc import Callable

from autoj_reward.engines import Engine, engine_or_factory
from autoj_reward.errors import ConfigError


class JudgeEngine:
    """An engine that is built when it is first needed.

    Args:
        engine: An engine, or a function that makes one.
        identify: Makes a judge's id from its engine's fingerprint.
    """

    def __init__(self, engine: Engine | Callable[[], Engine], identify: Callable[[str], str]) -> None:
        self._built, self._make = engine_or_factory(engine)
        self._identify = identify
        self._identified: tuple[str, str] | None = None
        self._building = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The engine; built now if it is not yet.

        Raises:
            ConfigError: The judge is closed.
        """
        with self._building:
            if self._built is None:
                if self._make is None:
                    raise ConfigError("the judge is closed", hint="load another one with Judge.load")
                self._built = self._make()
            return self._built

    @property
    def built(self) -> Engine | None:
        """The engine if it was built already; None before, and after `close`."""
        return self._built

    @property
    def identity(self) -> str:
        """The id of who answers, after a model is loaded if only loading tells."""
        fingerprint = self.engine.fingerprint
        if self._identified is None or self._identified[0] != fingerprint:
            self._identified = fingerprint, self._identify(fingerprint)
        return self._identified[1]

    @property
    def known_identity(self) -> str:
        """The id of who answers if it was asked for before, else an empty text."""
        return "" if self._identified is None else self._identified[1]

    def close(self) -> None:
        """Close the engine. A second call does nothing."""
        with self._building:
            if self._built is not None:
                self._built.close()
            self._built = self._make = None
