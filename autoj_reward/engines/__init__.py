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
    """What a judge needs of a model. A wrapper around an engine is an engine too.

    An engine may offer more, for the functions of this module: `describe` (who answers), `stats` (what it
    did) and `load` (load now). Callers use those functions and never look inside a wrapper.
    """

    @property
    def fingerprint(self) -> str:
        """Everything that can change the output: weights, tokenizer, chat template, adapter,
        dtype, quantisation. Equal fingerprints mean exchangeable outputs."""
        ...

    def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
        """Answer every input: same length, same order.

        An input that cannot be answered (too long, refused by itself) gives a `Failure` in its
        place. An input with a `readout` gives an output with a `reading` and no text.

        Raises:
            EngineError: The call as a whole failed.
        """
        ...

    def close(self) -> None:
        """Free the model, its processes and connections. A second call does nothing."""
        ...


@runtime_checkable
class DescribedEngine(Engine, Protocol):
    """An engine that says who answers."""

    def describe(self) -> dict[str, Any]:
        """Who answers, as plain values, without loading anything.

        `engine` is the kind of engine, `fingerprint` its fingerprint, or None where only loading tells.
        `facts` are what the fingerprint is made from. A wrapper gives what the engine inside it gives.
        Everything else (`model`, `source`, `dtype`, `context_tokens`, `versions`) is information.
        """
        ...


def describe_engine(engine: Engine) -> dict[str, Any]:
    """`DescribedEngine.describe`, or what can be said of an engine without it."""
    describe = getattr(engine, "describe", None)
    if callable(describe):
        return dict(describe())
    known: dict[str, Any] = {"engine": type(engine).__name__, "fingerprint": engine.fingerprint}
    return known | ({"model": engine.model_name} if hasattr(engine, "model_name") else {})


def engine_stats(engine: Engine | None) -> EngineStats | None:
    """Where the engine's answers came from so far; None for an engine that keeps no count."""
    stats = getattr(engine, "stats", None)
    return stats if isinstance(stats, EngineStats) else None


def load_engine(engine: Engine) -> None:
    """Load now what the engine would otherwise load at its first use.

    Raises:
        EngineError: It cannot be loaded.
    """
    load = getattr(engine, "load", None)
    if callable(load):
        load()


def engine_or_factory(
    engine: Engine | Callable[[], Engine],
) -> tuple[Engine | None, Callable[[], Engine] | None]:
    """An engine, or a function that makes one: whichever it is, and None for the other.

    `isinstance` with a protocol looks at its properties (before Python 3.12 by asking for them), and asking a
    lazy engine for its fingerprint may load the model.
    """
    if callable(getattr(engine, "generate", None)):
        return cast(Engine, engine), None
    return None, cast(Callable[[], Engine], engine)
