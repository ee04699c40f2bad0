# SPDX-License-Identifier: Apache-2.0
"""The engine interface: rendered inputs in, text and token log-probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast, runtime_checkable

from autoj_reward.types import EngineStats, Failure, JudgeInput, JudgeOutput

__all__ = [
    "DescribedEngine",
    "Engine",
    "describe_engine",
    "engine_or_factory",
    "engine_stats",
    "load_engine",
]


@runtime_checkable
class Engine(Protocol):
    """A model as a judge uses it. A wrapper around an engine is an engine too.

    An engine may also have `describe` (what it is), `stats` (what it did) and `load` (load now). Callers use
    the functions of this module for them and never look inside a wrapper.
    """

    @property
    def fingerprint(self) -> str:
        """Identity of everything that can change the output; equal ones mean exchangeable outputs.

        It covers weights, tokenizer, chat template, adapter, dtype and quantisation.
        """
        ...

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Answer every input: same length, same order.

        An input that cannot be answered (too long, refused) gives a `Failure`. An input with a `readout`
        gives an output with a `reading` and no text.

        Raises:
            EngineError: The call as a whole failed.
        """
        ...

    def close(self) -> None:
        """Free the model, its processes and connections. A second call does nothing."""
        ...


@runtime_checkable
class DescribedEngine(Engine, Protocol):
    """An engine that describes itself."""

    def describe(self) -> dict[str, Any]:
        """The engine's model and settings as plain values, without loading anything.

        `engine` is the kind of engine, `fingerprint` its fingerprint or None if known only after loading,
        `facts` what the fingerprint is a hash of. The rest (`model`, `source`, `dtype`, `context_tokens`,
        `versions`) is information. A wrapper describes the engine inside it.
        """
        ...


def describe_engine(engine: Engine) -> dict[str, Any]:
    """`DescribedEngine.describe`, or kind and fingerprint of an engine without it."""
    describe = getattr(engine, "describe", None)
    if callable(describe):
        return dict(describe())
    known: dict[str, Any] = {"engine": type(engine).__name__, "fingerprint": engine.fingerprint}
    return known | ({"model": engine.model_name} if hasattr(engine, "model_name") else {})


def engine_stats(engine: Engine | None) -> EngineStats | None:
    """Counts of the engine's outputs so far; None for an engine that does not count."""
    stats = getattr(engine, "stats", None)
    return stats if isinstance(stats, EngineStats) else None


def load_engine(engine: Engine) -> None:
    """Load an engine now instead of at its first use.

    Raises:
        EngineError: It cannot be loaded.
    """
    load = getattr(engine, "load", None)
    if callable(load):
        load()


def is_loaded(engine: Engine | None) -> bool:
    """Whether an engine has loaded its model; None stands for an engine that was not built yet."""
    if engine is None:
        return False
    inner = getattr(engine, "inner", None)
    return bool(getattr(engine, "is_built", True)) if inner is None else is_loaded(inner)


def engine_or_factory(
    engine: Engine | Callable[[], Engine],
) -> tuple[Engine | None, Callable[[], Engine] | None]:
    """Tell an engine from a function that creates one; None for the other.

    Not with `isinstance`, which before Python 3.12 reads a protocol's properties: reading a lazy engine's
    fingerprint may load the model.
    """
    if callable(getattr(engine, "generate", None)):
        return cast(Engine, engine), None
    return None, cast(Callable[[], Engine], engine)
