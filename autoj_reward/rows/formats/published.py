# SPDX-License-Identifier: Apache-2.0
"""Readers of published data sets whose rows need more than the names of their fields."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

from autoj_reward.judgments import Preference
from autoj_reward.rows.containers.objects import Row
from autoj_reward.rows.formats.conversations import split_pair
from autoj_reward.rows.formats.parts import (
    RowParts,
    RowProblem,
    kind_of,
    list_of,
    preference_in,
    unpacked,
    value_of,
)
from autoj_reward.rows.formats.readers import LETTERS, prompt_of
from autoj_reward.types import Text


def arena_conversations(row: Row) -> RowParts:
    """Chatbot Arena and MT-Bench: two conversations, and the winner."""
    prompt, first, second = split_pair(value_of(row, "conversation_a"), value_of(row, "conversation_b"))
    return RowParts(
        prompt=prompt, completions=(first, second), preference=preference_in(row, "winner", LETTERS)
    )


def arena_responses(row: Row) -> RowParts:
    """LMSYS's arena of 55,000 battles: lists of turns, as JSON texts or not."""
    prompts = unpacked(value_of(row, "prompt"))
    turns = [prompts] if isinstance(prompts, str) else list_of(row, "prompt", "turns")
    answers = [_answered(turns, unpacked(value_of(row, f"response_{side}"))) for side in "ab"]
    fields: dict[str, Preference] = {
        "winner_model_a": "first", "winner_model_b": "second", "winner_tie": "tie",
    }  # fmt: skip
    won = [name for field, name in fields.items() if str(row.get(field)).lower() in ("1", "1.0", "true")]
    return RowParts(
        prompt=cast(Text, turns[0]),
        completions=answers,
        preference=won[0] if len(won) == 1 else preference_in(row, "winner", LETTERS),
    )


def _answered(prompts: list[Any], answers: Any) -> Text:
    """One turn's answer as it is; several turns as the conversation after the first prompt."""
    if isinstance(answers, str):
        return answers
    said = [answers] if not isinstance(answers, list) else answers
    if len(said) != len(prompts):
        raise RowProblem(
            f"must hold an answer to each of {len(prompts)} turns, holds {len(said)}", "response"
        )
    if len(said) == 1:
        return cast(Text, said[0] or "")
    messages = []
    for n, (asked, answer) in enumerate(zip(prompts, said, strict=True)):
        messages += [{"role": "user", "content": asked}] if n else []
        messages.append({"role": "assistant", "content": answer or ""})
    return messages


def helpsteer(row: Row) -> RowParts:
    """HelpSteer 2 and 3: a strength from -3 (the first is much better) to 3 (the second)."""
    strength: Any = value_of(row, "overall_preference|preference_strength")
    try:
        strength = float(strength)
    except (TypeError, ValueError):
        strength = math.nan
    if not math.isfinite(strength):
        raise RowProblem("must be a number from -3 to 3", "overall_preference")
    return RowParts(
        prompt=prompt_of(row, "context|prompt"),
        completions=(value_of(row, "response1|response_1"), value_of(row, "response2|response_2")),
        preference="tie" if strength == 0 else "first" if strength < 0 else "second",
    )


def safe_rlhf(row: Row) -> RowParts:
    """PKU-SafeRLHF: the id of the more helpful response."""
    return RowParts(
        prompt=prompt_of(row),
        completions=(value_of(row, "response_0"), value_of(row, "response_1")),
        preference=preference_in(row, "better_response_id", {0: "first", 1: "second"}),
    )


def webgpt(row: Row) -> RowParts:
    """WebGPT's comparisons: a question object and a score of each answer."""
    question = value_of(row, "question")
    asked = value_of(question, "full_text") if isinstance(question, dict) else question
    scores = [row.get("score_0"), row.get("score_1")]
    known = all(isinstance(s, int | float) and math.isfinite(s) for s in scores)
    return RowParts(
        prompt=asked,
        completions=(value_of(row, "answer_0"), value_of(row, "answer_1")),
        preference=_by_score(float(cast(float, scores[0])), float(cast(float, scores[1]))) if known else None,
    )


def summaries(row: Row) -> RowParts:
    """OpenAI's comparisons of summaries: a post or article, two summaries, and the choice."""
    info = value_of(row, "info")
    if not isinstance(info, dict):
        raise RowProblem(f"must be an object with post or article, is {kind_of(info)}", "info")
    made = list_of(row, "summaries", "summaries")
    if len(made) != 2 or not all(isinstance(s, dict) for s in made):
        raise RowProblem("must be a list of two objects with text", "summaries")
    return RowParts(
        prompt=f"Summarize the following text:\n\n{value_of(info, 'post|article')}",
        completions=tuple(value_of(s, "text") for s in made),
        preference=preference_in(row, "choice", {0: "first", 1: "second"}),
    )


def lm_eval(row: Row) -> RowParts:
    """Samples that lm-eval logged: the prompt among the arguments, the first response."""
    arguments: Any = value_of(row, "arguments")
    if isinstance(arguments, dict):
        arguments = [list(item.values()) for item in arguments.values() if isinstance(item, dict)]
    prompt, response = _first_text(arguments), _first_text(value_of(row, "resps"))
    if prompt is None or response is None:
        raise RowProblem(
            "must hold a generated text: samples of tasks that compare log-probabilities have none",
            "arguments" if prompt is None else "resps",
        )
    return RowParts(prompt=prompt, completions=(response,))


def _first_text(value: Any) -> str | None:
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return value if isinstance(value, str) else None


def by_model(row: Row) -> Iterator[Row]:
    """Auto-J's selection: a row for each policy model; `model` says which, `completions` are its outputs."""
    outputs = value_of(row, "outputs")
    if not isinstance(outputs, dict) or not outputs:
        raise RowProblem(f"must map model names to their outputs, is {kind_of(outputs)}", "outputs")
    others = {key: value for key, value in row.items() if key != "outputs"}
    for model, made in outputs.items():
        if not isinstance(made, dict) or "outputs" not in made:
            raise RowProblem("needs a list 'outputs'", f"outputs.{model}")
        beside = {name: made[name] for name in ("gold", "systems", "logprobs") if name in made}
        yield {**others, "model": model, "completions": made["outputs"], **beside}


def _by_score(first: float, second: float) -> Preference:
    return "tie" if first == second else "first" if first > second else "second"
