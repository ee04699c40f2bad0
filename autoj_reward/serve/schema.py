# SPDX-License-Identifier: Apache-2.0
"""Request bodies: their OpenAPI schema, and their conversion to judge requests.

pydantic does not validate the texts, because completions may hold lone surrogates, which it rejects. Rows are
read as the command line reads them, with the same errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from autoj_reward.errors import ConfigError, TemplateError
from autoj_reward.judge.judge import Judge
from autoj_reward.reward.scale import Scale
from autoj_reward.rows.fields import OPTIONAL_FIELDS, Kind, RowProblem, row_format
from autoj_reward.serve.errors import Refusal
from autoj_reward.types import Request

_MESSAGE_CHARS = 400
_MESSAGE = {
    "type": "object",
    "properties": {
        "role": {"type": "string"},
        "content": {"description": "A text, a list of parts, or null."},
        "tool_calls": {"type": "array", "items": {"type": "object"}},
        "tool_call_id": {"type": "string"},
        "name": {"type": "string"},
        "reasoning_content": {"type": "string"},
    },
}
_TEXT = {
    "anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": _MESSAGE}, _MESSAGE],
    "description": "A text, or chat messages (docs/messages.md says how they are shown).",
}
_RUBRIC = {
    "anyOf": [{"type": "string"}, {"type": "array", "minItems": 1}, {"type": "object"}],
    "description": "A text, or criteria: [{text, weight, choices, essential}] (docs/criteria.md).",
}
_OPTIONAL = {"rubric": _RUBRIC, "reference": {"type": "string"}, "language": {"type": "string"}}


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list with at least one entry")
    return value


def _rows(**fields: Any) -> Any:
    row = {"type": "object", "properties": fields | _OPTIONAL, "required": list(fields)}
    return Annotated[
        list[Any], PlainValidator(_list), WithJsonSchema({"type": "array", "minItems": 1, "items": row})
    ]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    deadline_seconds: Annotated[
        float | None,
        Field(gt=0, le=86_400, description="Longest wait in seconds; at most the server's limit."),
    ] = None


_WHOLE = Field(description="Also give each whole judgment (distribution, samples, provenance) as `judgment`.")


class RateBody(_Body):
    """Completions to rate."""

    rows: _rows(prompt=_TEXT, completion=_TEXT)  # type: ignore[valid-type]
    scale: Annotated[
        Scale | None,
        Field(description="Scale of the rewards, as JudgeReward's. Without it they are expected ratings."),
    ] = None
    whole: Annotated[bool, _WHOLE] = False
    resolution: Annotated[
        float | None,
        Field(
            ge=0, le=1e6, description="With a scale: the step to which ratings are rounded, in rating points."
        ),
    ] = None


class CompareBody(_Body):
    """Pairs of completions to compare."""

    rows: _rows(prompt=_TEXT, first=_TEXT, second=_TEXT)  # type: ignore[valid-type]
    whole: Annotated[bool, _WHOLE] = False


class RankBody(_Body):
    """Groups of completions to order."""

    rows: _rows(prompt=_TEXT, completions={"type": "array", "minItems": 1, "items": _TEXT})  # type: ignore[valid-type]


_TEXTS = Annotated[
    Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
]


class RewardBody(BaseModel):
    """OpenRLHF's request to a remote reward model; unknown fields are ignored."""

    query: Annotated[_TEXTS, Field(description="Prompt and completion as one text, special tokens included.")]
    prompts: Annotated[_TEXTS, Field(description="The prompts alone, exactly as in the queries.")]
    labels: Annotated[Any, Field(description="Reference answers; used if the server is told to.")] = None


class RewardAnswer(BaseModel):
    """OpenRLHF's response from a remote reward model."""

    rewards: list[float | None]
    scores: list[float | None]
    extra_logs: dict[str, list[float | None]]


class RemoteRmBody(BaseModel):
    """slime's request to a remote reward model; unknown fields are ignored."""

    prompt: Annotated[Any, WithJsonSchema(_TEXT), Field(description="The prompt, as text or messages.")]
    response: Annotated[Any, WithJsonSchema({"type": "string"}), Field(description="The completion.")]
    label: Annotated[Any, Field(description="A reference answer; used if the server is told to.")] = None


def requests_of(kind: Kind, rows: Sequence[Any], judge: Judge, *, most: int) -> list[list[Request]]:
    """The judge requests of each row: one, or for a group one per completion.

    Raises:
        Refusal: A row is wrong (422), or there are more than `most` completions (413).
    """
    fields = row_format(kind, None, {})
    made: list[list[Request]] = []
    n = 0
    for i, row in enumerate(rows):
        where = f"rows[{i}]"
        if not isinstance(row, dict):
            raise invalid("must be an object", where)
        try:
            requests = fields.requests(row, optional=OPTIONAL_FIELDS)
        except RowProblem as problem:
            raise invalid(str(problem), f"{where}.{problem.field}" if problem.field else where) from None
        n += sum(len(request.completions) for request in requests)
        if n > most:
            raise Refusal(413, "too_many", f"more than {most:,} completions in one request", where=where)
        if (asked := requests[0].language) is not None:
            known = (*judge.spec.languages[:1], *judge.spec.translations)
            if asked not in known:
                raise invalid(
                    f"the judge has no templates in this language; it has {', '.join(known)}",
                    f"{where}.language",
                )
        check(judge, requests, where)
        made.append([judge.shown(request) for request in requests])
    return made


def check(judge: Judge, requests: Sequence[Request], where: str) -> None:
    """Check requests against the judge's templates.

    Raises:
        Refusal: A request does not fit (422).
    """
    try:
        judge.check(requests)
    except (ConfigError, TemplateError) as error:
        raise invalid(error.args[0], where) from None


def invalid(message: str, where: str) -> Refusal:
    """A 422 with a message of bounded length."""
    return Refusal(422, "invalid_request", message[:_MESSAGE_CHARS], where=where[:_MESSAGE_CHARS])
