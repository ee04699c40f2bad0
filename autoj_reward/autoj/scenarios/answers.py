# SPDX-License-Identifier: Apache-2.0
"""Results of a scenario classifier, and the protocol that every classifier implements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from autoj_reward.autoj.scenarios.names import DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioAnswer:
    """The scenario of one query.

    Attributes:
        scenario: One of the classifier's labels; `default` where it is uncertain.
        best: The most probable label, whether or not it was sure enough; None without an answer.
        prob: That label's probability in [0, 1]; None where the classifier gives none.
        problem: Why there is no answer, or an empty text.
    """

    scenario: str
    best: str | None
    prob: float | None
    problem: str = ""


class ScenarioClassifier(Protocol):
    """Tells what kind of request a query is."""

    @property
    def name(self) -> str:
        """What messages and records call it."""
        ...

    def classify(self, queries: Sequence[str]) -> list[ScenarioAnswer]:
        """B answers in the same order."""
        ...

    def close(self) -> None:
        """Free what it holds. A second call does nothing."""
        ...


def settled(best: str, prob: float, min_prob: float) -> ScenarioAnswer:
    """An answer that is `default` where its probability is below `min_prob`."""
    return ScenarioAnswer(scenario=best if prob >= min_prob else DEFAULT, best=best, prob=prob)
