# SPDX-License-Identifier: Apache-2.0
"""Engines turn rendered inputs into text and token log-probabilities; nothing else does I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast, runtime_checkable

from autoj_reward.types import Failure, JudgeInput, JudgeOutput

__all__ = ["Engine", "parted"]


@runtime_checkable
class Engine(Protocol):
    """What a judge needs of a model. A wrapper around an engine is an engine too."""

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


def parted(engine: Engine | Callable[[], Engine]) -> tuple[Engine | None, Callable[[], Engine] | None]:
    """An engine, or a function that makes one: whichever it is, and None for the other.

    `isinstance` with a protocol looks at its properties (before Python 3.12 by asking for them), and asking a
    lazy engine for its fingerprint may load the model.
    """
    if callable(getattr(engine, "generate", None)):
        return cast(Engine, engine), None
    return None, cast(Callable[[], Engine], engine)
