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
        scenario: A label of the classifier; `default` if it is uncertain.
        best: The most probable label; None without an answer.
        prob: That label's probability in [0, 1]; None if the classifier gives none.
        problem: Why there is no answer; empty if there is one.
    """

    scenario: str
    best: str | None
    prob: float | None
    problem: str = ""


class ScenarioClassifier(Protocol):
    """Classifies queries by scenario."""

    @property
    def name(self) -> str:
        """Name in messages and records."""
        ...

    def classify(self, queries: Sequence[str]) -> list[ScenarioAnswer]:
        """B answers in the same order."""
        ...

    def close(self) -> None:
        """Free its resources. A second call does nothing."""
        ...


def answer_of(best: str, prob: float, min_prob: float) -> ScenarioAnswer:
    """The answer for the most probable label: `default` if its probability is below `min_prob`."""
    return ScenarioAnswer(scenario=best if prob >= min_prob else DEFAULT, best=best, prob=prob)
