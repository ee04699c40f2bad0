# SPDX-License-Identifier: Apache-2.0
"""Chains of inputs, each of which follows from the answer before: a critique, then the verdict in it.

An engine that has `generate_chains` asks what follows from one answer while others are still being computed:
nothing waits for the slowest of a batch, and what a critique left in the prefix cache is still there when its
verdict is read. Other engines are asked in rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from autoj_reward.engines import Engine
from autoj_reward.errors import EngineContractBroken
from autoj_reward.types import Failure, Follow, JudgeInput, JudgeOutput

Chain = list[JudgeOutput | Failure]


def generate_chains(engine: Engine, inputs: Sequence[JudgeInput], follow: Follow) -> list[Chain]:
    """Answer every input, and what follows from the answers.

    Returns:
        For each input its answers, at least one, in the order in which they were asked for.

    Raises:
        EngineContractBroken: The engine gave back another number of answers.
        EngineError: The engine failed as a whole.
    """
    if not inputs:
        return []
    together = getattr(engine, "generate_chains", None)
    chains = cast(list[Chain], together(inputs, follow)) if together else in_rounds(engine, inputs, follow)
    if len(chains) != len(inputs) or not all(chains):
        raise EngineContractBroken(f"the engine returned {len(chains)} chains for {len(inputs)} inputs")
    return chains


def in_rounds(engine: Engine, inputs: Sequence[JudgeInput], follow: Follow) -> list[Chain]:
    """`generate_chains` with one call of `Engine.generate` for each place in the chains."""
    chains: list[Chain] = [[] for _ in inputs]
    asked = dict(enumerate(inputs))
    while asked:
        answers = engine.generate(list(asked.values()))
        if len(answers) != len(asked):
            raise EngineContractBroken(f"the engine returned {len(answers)} outputs for {len(asked)} inputs")
        for n, answer in zip(asked, answers, strict=True):
            chains[n].append(answer)
        following = zip(asked, follow([(n, chains[n]) for n in asked]), strict=True)
        asked = {n: item for n, item in following if item is not None}
    return chains
