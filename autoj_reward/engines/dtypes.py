# SPDX-License-Identifier: Apache-2.0
"""Find out what an engine computes in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autoj_reward.engines import Engine, describe_engine, is_loaded


class EngineDtypes:
    """The dtypes of an engine, from its plan or its own description.

    They are kept once they are known: the plan is read from files, and a server asks with every request.

    Args:
        plan: Describes the engine before it is built; empty for an engine that was given.
        built: The engine if it was built already.
    """

    def __init__(self, plan: Callable[[], dict[str, Any]], built: Callable[[], Engine | None]) -> None:
        self._plan, self._built = plan, built
        self._known: dict[str, Any] | None = None

    def __getitem__(self, name: str) -> str | None:
        """`dtype`, or `head_dtype` of the logits; None if the engine does not name it yet."""
        if self._known is not None:
            return self._known.get(name)
        engine = self._built()
        loaded = is_loaded(engine)
        found = self._plan() or ({} if engine is None else describe_engine(engine))
        if loaded or found.get("dtype") is not None:
            self._known = found
        return found.get(name)
