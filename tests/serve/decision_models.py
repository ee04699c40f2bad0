# SPDX-License-Identifier: Apache-2.0
"""Fields and types of OpenAI's decisions API as vLLM 0.33.0 has them, and a check of a JSON value against them.

From `vllm/entrypoints/openai/decisions/protocol.py` of vLLM 0.33.0 (Apache-2.0): each model forbids other
fields. A field with `?` may be left out. `|` separates types, `[...]` is a list, quotes are one text.
"""

from __future__ import annotations

from typing import Any

MODELS: dict[str, dict[str, str]] = {
    "DecisionRequest": {
        "model": "str",
        "input": "str | [DecisionInputMessage]",
        "questions": "[PredicateQuestion | ChoiceQuestion | ScoreQuestion]",
        "safety_identifier?": "str | null",
        "joint?": "bool",
        "cache_salt?": "str | null",
    },
    "DecisionInputMessage": {
        "role": "'user'",
        "content": "str | [DecisionInputText]",
        "type?": "'message'",
    },
    "DecisionInputText": {"type": "'input_text'", "text": "str"},
    "PredicateQuestion": {"type": "'predicate'", "instructions": "str", "name?": "str"},
    "ChoiceQuestion": {
        "type": "'choice'",
        "instructions": "str",
        "name?": "str",
        "choices": "[ChoiceOption]",
    },
    "ChoiceOption": {"value": "str | bool", "description?": "str"},
    "ScoreQuestion": {"type": "'score'", "instructions": "str", "name?": "str", "levels": "[ScoreLevel]"},
    "ScoreLevel": {"label": "str", "description?": "str"},
    "DecisionResponse": {
        "model": "str",
        "answers": "[PredicateAnswer | ChoiceAnswer | ScoreAnswer]",
        "usage": "OpenAIDecisionUsage",
    },
    "PredicateAnswer": {"type": "'predicate'", "name": "str | null", "probability": "float"},
    "ChoiceAnswer": {
        "type": "'choice'",
        "name": "str | null",
        "choice": "str | bool",
        "probabilities": "[ChoiceProbability]",
        "confidence": "float",
    },
    "ChoiceProbability": {"value": "str | bool", "probability": "float"},
    "ScoreAnswer": {
        "type": "'score'",
        "name": "str | null",
        "score": "float",
        "probabilities": "[ScoreProbability]",
        "confidence": "float",
    },
    "ScoreProbability": {"value": "int", "label": "str", "probability": "float"},
    "OpenAIDecisionUsage": {
        "input_tokens": "int",
        "input_tokens_details": "InputTokensDetails",
        "output_tokens": "int",
        "output_tokens_details": "OutputTokensDetails",
        "total_tokens": "int",
    },
    "InputTokensDetails": {"cached_tokens?": "int", "cache_write_tokens?": "int"},
    "OutputTokensDetails": {"reasoning_tokens?": "int"},
}

_PLAIN: dict[str, Any] = {"str": str, "bool": bool, "int": int, "float": (int, float), "null": type(None)}


def fits(value: Any, types: str) -> bool:
    """Whether a JSON value is of one of the types."""
    if types.startswith("[") and types.endswith("]") and "|" not in types.partition("]")[2]:
        return isinstance(value, list) and all(fits(item, types[1:-1]) for item in value)
    if " | " in types and not types.startswith("["):
        one, _, others = types.partition(" | ")
        return fits(value, one) or fits(value, others)
    if types.startswith("'"):
        return bool(value == types.strip("'"))
    if types in _PLAIN:
        return isinstance(value, _PLAIN[types]) and (types == "bool" or not isinstance(value, bool))
    return isinstance(value, dict) and _is_model(value, MODELS[types])


def _is_model(value: dict[str, Any], fields: dict[str, str]) -> bool:
    known = {name.removesuffix("?"): types for name, types in fields.items()}
    needed = {name for name in fields if not name.endswith("?")}
    return needed <= value.keys() <= known.keys() and all(fits(v, known[k]) for k, v in value.items())
