# SPDX-License-Identifier: Apache-2.0
"""Let a judge write the criteria for a prompt, from the prompt and a reference answer."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autoj_reward.criteria.readers import read_rubric
from autoj_reward.criteria.rubric import Criterion, Rubric
from autoj_reward.errors import ConfigError
from autoj_reward.judge.criteria.tasks import REFERENCE
from autoj_reward.judge.generation import Turn, write
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.spec import read_text
from autoj_reward.judge.template import Template
from autoj_reward.types import Failure, FailureReason, JudgeInput, Request, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenRubric:
    """What a judge wrote for one prompt.

    Attributes:
        rubric: The criteria, each text once; None with a failure.
        failure: Why there are none, or None.
        text: All that it wrote.
        usage: Tokens spent.
    """

    rubric: Rubric | None
    failure: Failure | None
    text: str
    usage: Usage


def write_rubrics(judge: Judge, requests: Sequence[Request]) -> list[WrittenRubric]:
    """Criteria for each request's prompt and reference, in the same order; equal ones are asked for once.

    Raises:
        ConfigError: A prompt cannot be shown.
        EngineError: The engine failed as a whole.
    """
    keys = [(judge.shown_prompt(request.prompt), request.reference) for request in requests]
    different = list(dict.fromkeys(keys))
    inputs = [
        JudgeInput(
            body=_template().fill(
                {"prompt": prompt} | ({} if reference is None else {"reference": reference})
            ),
            wrapper=judge.spec.wrapper,
            sampling=judge.settings.sampling,
        )
        for prompt, reference in different
    ]
    turns = write(inputs, judge.engine, judge.spec.thinking)
    made = dict(zip(different, map(_read, turns), strict=True))
    first = {key: keys.index(key) for key in different}
    # The tokens of equal prompts are counted once.
    return [made[key] if first[key] == n else replace(made[key], usage=Usage()) for n, key in enumerate(keys)]


@functools.cache
def _template() -> Template:
    name = "rubric_writing.txt"
    return Template(name=name, text=read_text(name, None), blocks={"reference": REFERENCE})


def _read(turn: Turn) -> WrittenRubric:
    """The criteria in what was written, or why there are none."""
    text = turn.critique
    found: Rubric | Failure | None = turn.failure
    if found is None:
        found = _criteria(text)
    if isinstance(found, Failure) and turn.failure is None and turn.finish_reason == "length":
        detail = f"the output was cut at the token limit: {found.detail}"
        found = replace(found, reason=FailureReason.TRUNCATED, detail=detail)
    rubric = found if isinstance(found, Rubric) else None
    failure = found if isinstance(found, Failure) else None
    return WrittenRubric(rubric=rubric, failure=failure, text=text, usage=turn.usage)


def _criteria(text: str) -> Rubric | Failure:
    """The first JSON list of criteria in a text."""
    problem = "the output holds no JSON list of criteria"
    start = text.find("[")
    while start >= 0:
        try:
            held, _ = json.JSONDecoder().raw_decode(text, start)
            if isinstance(held, list) and held:
                rubric = read_rubric(held)
                assert isinstance(rubric, Rubric)
                return replace(rubric, criteria=_distinct(rubric.criteria))
        except ConfigError as error:
            problem = str(error.args[0])
        except (ValueError, RecursionError):
            pass
        # A list within a list that could not be read holds no criteria either.
        start = text.find("\n[", start + 1) + 1 or -1
    return Failure(reason=FailureReason.NO_VERDICT, detail=problem, raw_text=text)


def _distinct(criteria: Sequence[Criterion]) -> tuple[Criterion, ...]:
    """The first of those with one text, case and blanks left out."""
    by_text: dict[str, Criterion] = {}
    for criterion in criteria:
        by_text.setdefault(" ".join(criterion.text.casefold().split()).rstrip("."), criterion)
    return tuple(by_text.values())
