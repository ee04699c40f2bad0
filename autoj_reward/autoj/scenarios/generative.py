# SPDX-License-Identifier: Apache-2.0
"""Auto-J's generative scenario classifier: a 13B model that writes a scenario's name, on any engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from autoj_reward.autoj.scenarios.answers import ScenarioAnswer, answer_of
from autoj_reward.autoj.scenarios.names import DEFAULT, classifier_labels
from autoj_reward.engines import Engine, engine_or_factory
from autoj_reward.engines.checkpoint.memory import Architecture
from autoj_reward.engines.factory import choose_engine
from autoj_reward.judge.generation import ask
from autoj_reward.judge.template import Template
from autoj_reward.types import (
    ContinuationQuery,
    Failure,
    FailureReason,
    JudgeInput,
    JudgeOutput,
    PlainWrapper,
    Sampling,
)

AUTOJ_CLASSIFIER = "autoj-scenario-classifier"

_WRITING = Sampling(max_new_tokens=32, stop=("\n",))
_CHARS_PER_TOKEN = 4
_MOST_CUTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierSpec:
    """The model of a generative classifier, for engines."""

    model: str = "GAIR/autoj-scenario-classifier"
    revision: str | None = None
    context_tokens: int | None = 4096
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "Llama 2 community licence"
    parameters: str = "13B"
    architecture: Architecture | None = Architecture(
        n_parameters=13.02, n_layers=40, n_heads=40, n_kv_heads=40, head_size=128, inner_size=13824
    )


class GenerativeClassifier:
    """Classifies queries by the probability of every label as the model's next words.

    If the engine cannot read probabilities, the model writes, and its first line is the answer.

    Args:
        spec: The model.
        engine: An engine, or its name as for `Judge.load`; None picks one.
        cache: As for `Judge.load`.
        refresh: As for `Judge.load`.
        min_prob: Probability in [0, 1] below which the answer is `default`.
        **engine_options: Options of the engine.

    Raises:
        ConfigError: The engine is unknown, or its options do not fit.
        StoreError: The cache cannot be used.
    """

    def __init__(
        self,
        spec: ClassifierSpec | None = None,
        *,
        engine: Engine | str | None = None,
        cache: Any = False,
        refresh: bool = False,
        min_prob: float = 0.0,
        **engine_options: Any,
    ) -> None:
        self.spec = spec or ClassifierSpec()
        self.name = self.spec.model
        self._min_prob = min_prob
        made = choose_engine(engine, self.spec, engine_options, cache=cache, refresh=refresh)
        self._engine, self._make_engine = engine_or_factory(made)
        text = (resources.files("autoj_reward.judge") / "templates" / "autoj_scenario.txt").read_bytes()
        self._template = Template(name="autoj_scenario.txt", text=text.decode("utf-8"))
        self._labels = classifier_labels()
        self._readout = ContinuationQuery(
            verdict_prefix="",
            continuations=self._labels,
            terminators=("\n",),
            end_of_turn=True,
            follow_above=1e-3,
        )

    def classify(self, queries: Sequence[str]) -> list[ScenarioAnswer]:
        """B answers in the same order; a query that does not fit is truncated in the middle.

        Raises:
            EngineError: The engine failed as a whole.
        """
        shown = list(queries)
        results = self._ask(shown)
        for _ in range(_MOST_CUTS):
            over = {i: r.overflow_tokens for i, r in enumerate(results) if _is_too_long(r) and shown[i]}
            if not over:
                break
            for i, n_tokens in over.items():
                shown[i] = _without_middle(shown[i], n_tokens * _CHARS_PER_TOKEN + 8)
            for i, result in zip(over, self._ask([shown[i] for i in over]), strict=True):
                results[i] = result
        return [self._answer(result) for result in results]

    def close(self) -> None:
        """Close the engine. A second call does nothing."""
        if self._engine is not None:
            self._engine.close()
        self._engine = self._make_engine = None

    def _ask(self, queries: Sequence[str]) -> list[Any]:
        """The readings; text for inputs whose probabilities the engine cannot read."""
        if self._engine is None:
            assert self._make_engine is not None, "the classifier is closed"
            self._engine = self._make_engine()
        inputs = [
            JudgeInput(body=self._template.fill({"input": q}), wrapper=PlainWrapper(), readout=self._readout)
            for q in queries
        ]
        answers: list[Any] = list(ask(self._engine, inputs))
        unread = [i for i, a in enumerate(answers) if isinstance(a, JudgeOutput) and a.reading is None]
        unwritten = [i for i in unread if not answers[i].text]
        again = [
            JudgeInput(body=inputs[i].body, wrapper=PlainWrapper(), sampling=_WRITING) for i in unwritten
        ]
        for i, answer in zip(unwritten, ask(self._engine, again), strict=True):
            answers[i] = answer
        return answers

    def _answer(self, result: JudgeOutput | Failure) -> ScenarioAnswer:
        if isinstance(result, Failure):
            return _no_answer(result.detail)
        if result.reading is not None:
            probs = result.reading.probs
            total = math.fsum(probs)
            if total <= 0.0:
                return _no_answer("no probability fell on a scenario")
            at = max(range(len(probs)), key=probs.__getitem__)
            return answer_of(self._labels[at], probs[at] / total, self._min_prob)
        written = result.text.strip().partition("\n")[0].strip().strip(".'\"`").lower()
        if written not in self._labels:
            return _no_answer(f"{written!r:.60} is not a scenario")
        return ScenarioAnswer(scenario=written, best=written, prob=None)


def _no_answer(problem: str) -> ScenarioAnswer:
    return ScenarioAnswer(scenario=DEFAULT, best=None, prob=None, problem=problem)


def _is_too_long(result: JudgeOutput | Failure) -> bool:
    return isinstance(result, Failure) and result.reason is FailureReason.TOO_LONG


def _without_middle(text: str, n_chars: int) -> str:
    start = max(0, len(text) - n_chars) // 2
    return text[:start] + text[start + n_chars :]
