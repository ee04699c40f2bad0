# SPDX-License-Identifier: Apache-2.0
"""A verdict as a question to `/v1/decisions`, and its probabilities from the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from autoj_reward.engines.openai.connection import MalformedResponse
from autoj_reward.errors import EngineRejected
from autoj_reward.types import ContinuationLogprob, ContinuationLogprobs, ContinuationQuery

_MOST_CHOICES, _MOST_LEVELS = 255, 10
_TOLERANCE = 1e-3
"""How far the probabilities of an answer may sum from 1."""


def question_of(query: ContinuationQuery) -> dict[str, Any]:
    """The question for a verdict set: a predicate for yes and no, a score for rising numbers, else a choice.

    Raises:
        EngineRejected: There are more verdicts than a question may have choices.
    """
    texts = _texts(query)
    asked = "Give the verdict that the text above asks for."
    if query.verdict_prefix.strip():
        asked += f" It follows these words: {query.verdict_prefix.strip()}"
    kind = _kind(texts)
    if kind == "predicate":
        return {"type": kind, "instructions": f"{asked}\nIs it yes?"}
    if kind == "score":
        return {"type": kind, "instructions": asked, "levels": [{"label": text} for text in texts]}
    if len(texts) > _MOST_CHOICES:
        raise EngineRejected(
            f"the judge has {len(texts)} verdicts, and a decision at most {_MOST_CHOICES} choices",
            hint="use a coarser scale, or --engine server:URL",
        )
    return {"type": kind, "instructions": asked, "choices": [{"value": text} for text in texts]}


def reading_of(query: ContinuationQuery, answer: Any) -> ContinuationLogprobs:
    """The verdicts' probabilities from an answer.

    They are among the options. `confidence` is the chosen option's probability among all tokens, so it says
    how much of the probability the options had.

    Raises:
        MalformedResponse: It is no answer to the question.
    """
    texts = _texts(query)
    kind = _kind(texts)
    if not isinstance(answer, Mapping) or answer.get("type") != kind:
        raise MalformedResponse(f"an answer is not of type {kind}")
    if kind == "predicate":
        yes = _probability(answer.get("probability"))
        probs, mass = [yes if text.casefold() == "yes" else 1.0 - yes for text in texts], 1.0
    else:
        rows = answer.get("probabilities")
        name = "label" if kind == "score" else "value"
        given = [row.get(name) for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
        if not isinstance(rows, list) or given != texts:
            raise MalformedResponse("an answer's options are not those of the question")
        probs = [_probability(row.get("probability")) for row in rows]
        if abs(math.fsum(probs) - 1.0) > _TOLERANCE:
            raise MalformedResponse(f"an answer's probabilities sum to {math.fsum(probs):g}")
        mass = min(1.0, _probability(answer.get("confidence")) / max(probs))
    left = {text.casefold(): p * mass for text, p in zip(texts, probs, strict=True)}
    # Of several spellings the first has the option's probability.
    found = [left.pop(text.strip().casefold(), 0.0) for text in query.continuations]
    paths = [
        ContinuationLogprob(text=text, path_logprob=math.log(p) if p > 0 else -math.inf, end_logprob=0.0)
        for text, p in zip(query.continuations, found, strict=True)
    ]
    return ContinuationLogprobs(paths=tuple(paths))


def _texts(query: ContinuationQuery) -> list[str]:
    """The options: the verdicts without blanks at their ends, spellings that differ in case alone once."""
    first: dict[str, str] = {}
    for text in query.continuations:
        first.setdefault(text.strip().casefold(), text.strip())
    return list(first.values())


def _kind(texts: list[str]) -> str:
    if {text.casefold() for text in texts} == {"yes", "no"}:
        return "predicate"
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return "choice"
    rising = all(a < b for a, b in pairwise(numbers))
    return "score" if rising and 2 <= len(texts) <= _MOST_LEVELS else "choice"


def _probability(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e-9 <= value <= 1.0 + 1e-6:
        raise MalformedResponse(f"{value!r} is no probability")
    return min(1.0, max(0.0, float(value)))
