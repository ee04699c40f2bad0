# SPDX-License-Identifier: Apache-2.0
"""Choose a rubric for each row from the criteria of its scenario."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from autoj_reward.autoj.scenarios.answers import ScenarioClassifier
from autoj_reward.autoj.scenarios.criteria import CriteriaSet
from autoj_reward.autoj.scenarios.names import classifier_labels
from autoj_reward.criteria.rubric import Rubric
from autoj_reward.rows.fields import RowProblem


class ScenarioRubrics:
    """Finds a row's rubric by its scenario; classifies the prompt of a row without one.

    The classifier is made for the first such row.

    Args:
        sets: Criteria by scenario.
        make_classifier: Makes the classifier.
        criteria_per_call: Judge the criteria by themselves, as many in a call (None: all); 0 shows them as
            one text.
    """

    def __init__(
        self,
        sets: Mapping[str, CriteriaSet],
        make_classifier: Callable[[], ScenarioClassifier],
        criteria_per_call: int | None = 0,
    ) -> None:
        self._rubrics: dict[str, str | Rubric] = {
            scenario: one.rubric() if criteria_per_call == 0 else one.as_rubric(criteria_per_call)
            for scenario, one in sets.items()
        }
        self._known = {*classifier_labels(), *sets}
        self._make_classifier = make_classifier
        self._classifier: ScenarioClassifier | None = None
        # Rows are read several times; each prompt is classified once.
        self._found: dict[bytes, str] = {}

    @property
    def each(self) -> bool:
        """Whether criteria are judged by themselves, which every judge that rates does."""
        return any(isinstance(rubric, Rubric) for rubric in self._rubrics.values())

    @property
    def fingerprint(self) -> str:
        """Hash of all rubrics."""
        text = repr(sorted(self._rubrics.items()))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def __call__(self, row: Mapping[str, Any], prompt: str) -> str | Rubric | None:
        """The rubric; None for a scenario without criteria, such as `default`.

        Raises:
            RowProblem: The row names a scenario that does not exist.
        """
        scenario = row.get("scenario")
        if scenario is None or scenario == "":
            return self._rubrics.get(self._classified(prompt))
        if scenario not in self._known:
            raise RowProblem(
                f"{scenario!r} is not a scenario: `autoj-reward scenarios` lists them, and rows without one "
                "are classified",
                "scenario",
            )
        return self._rubrics.get(scenario)

    def _classified(self, prompt: str) -> str:
        key = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()[:16]
        if key not in self._found:
            if self._classifier is None:
                self._classifier = self._make_classifier()
            self._found[key] = self._classifier.classify([prompt])[0].scenario
        return self._found[key]
