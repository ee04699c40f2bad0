# SPDX-License-Identifier: Apache-2.0
"""The methods of `Judge` on a reward server: columns in, judgments out."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, overload

from autoj_reward.errors import ConfigError, EngineContractBroken
from autoj_reward.judge.requests import requests_from_columns, require_completions
from autoj_reward.judging import J, judgment_of, request_row
from autoj_reward.judgments import PairJudgment, RatingJudgment
from autoj_reward.redact import redact
from autoj_reward.reward.scale import Scale
from autoj_reward.types import Request, Rubrics, Text

Row = dict[str, Any]


class ServedJudge(abc.ABC):
    """Rates and compares as `Judge` does, by asking a reward server, whose `url` a subclass sets."""

    url: str

    @abc.abstractmethod
    def _ask(self, path: str, rows: Sequence[Row], **options: Any) -> list[Row]:
        """The server's rows for these rows."""

    @abc.abstractmethod
    async def _ask_async(self, path: str, rows: Sequence[Row], **options: Any) -> list[Row]:
        """`_ask`, as a coroutine."""

    @overload
    def rate(
        self, rows: Sequence[Row], *, scale: Scale | None = None, resolution: float | None = None
    ) -> list[Row]: ...

    @overload
    def rate(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        *,
        rubrics: Rubrics | None = None,
        references: Sequence[str | None] | None = None,
        languages: Sequence[str | None] | None = None,
    ) -> list[RatingJudgment]: ...

    def rate(self, *columns: Any, **named: Any) -> Any:  # noqa: D417 - what rows take
        """Rate completions: columns as `Judge.rate` takes them, or rows.

        `rate(prompts, completions, rubrics=, references=, languages=)` returns B judgments, as `Judge.rate`
        does. `rate(rows, scale=, resolution=)` returns rows:

        Args:
            rows: Each with `prompt` and `completion` (texts or chat messages), and `rubric`, `reference` and
                `language` if the judge takes them.
            scale: Scale of the rewards: raw, unit or centred, as `JudgeReward`'s. None leaves `reward` as
                the judge's expected rating.
            resolution: With a scale, the step to which ratings are rounded; 0 for none, None for the noise
                of the server's engine.

        Returns:
            For each row, in order, the fields that `autoj-reward rate` adds: `reward` (None with a
            `failure`), `rating`, `expected_rating`, `critique`, `mass`, ...

        Raises:
            EngineUnavailable: The server did not answer within `patience_seconds`.
            EngineRejected: The server rejected this request; says why.
            EngineContractBroken: The response is not a reward server's.
        """
        requests = _requests("rate", columns, named)
        if requests is None:
            return self._ask("/v1/rate", *columns, **named)
        return self.rate_requests(requests)

    @overload
    def compare(self, rows: Sequence[Row]) -> list[Row]: ...

    @overload
    def compare(
        self,
        prompts: Sequence[Text],
        firsts: Sequence[Text],
        seconds: Sequence[Text],
        *,
        rubrics: Rubrics | None = None,
        references: Sequence[str | None] | None = None,
        languages: Sequence[str | None] | None = None,
    ) -> list[PairJudgment]: ...

    def compare(self, *columns: Any, **named: Any) -> Any:
        """Compare pairs: columns as `Judge.compare`, or rows with `prompt`, `first`, `second`; as `rate`."""
        requests = _requests("compare", columns, named)
        if requests is None:
            return self._ask("/v1/compare", *columns, **named)
        return self.compare_requests(requests)

    def rate_requests(self, requests: Sequence[Request]) -> list[RatingJudgment]:
        """`rate` for requests of one completion each; B judgments in the same order."""
        return self._judgments(self._ask("/v1/rate", _request_rows(requests, 1), whole=True), RatingJudgment)

    def compare_requests(self, requests: Sequence[Request]) -> list[PairJudgment]:
        """`compare` for requests of two completions each; B judgments in the same order."""
        return self._judgments(self._ask("/v1/compare", _request_rows(requests, 2), whole=True), PairJudgment)

    async def arate(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        *,
        rubrics: Rubrics | None = None,
        references: Sequence[str | None] | None = None,
        languages: Sequence[str | None] | None = None,
    ) -> list[RatingJudgment]:
        """`rate` of columns, as a coroutine."""
        requests = requests_from_columns(prompts, [completions], rubrics, references, languages)
        rows = await self._ask_async("/v1/rate", _request_rows(requests, 1), whole=True)
        return self._judgments(rows, RatingJudgment)

    async def acompare(
        self,
        prompts: Sequence[Text],
        firsts: Sequence[Text],
        seconds: Sequence[Text],
        *,
        rubrics: Rubrics | None = None,
        references: Sequence[str | None] | None = None,
        languages: Sequence[str | None] | None = None,
    ) -> list[PairJudgment]:
        """`compare` of columns, as a coroutine."""
        requests = requests_from_columns(prompts, [firsts, seconds], rubrics, references, languages)
        rows = await self._ask_async("/v1/compare", _request_rows(requests, 2), whole=True)
        return self._judgments(rows, PairJudgment)

    def _judgments(self, rows: Sequence[Row], kind: type[J]) -> list[J]:
        try:
            return [judgment_of(row["judgment"], kind) for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise EngineContractBroken(
                f"{redact(self.url)} did not send whole judgments: {error!r}",
                hint="the server and this client need the same version of this package",
            ) from error


def _requests(kind: str, columns: tuple[Any, ...], named: dict[str, Any]) -> list[Request] | None:
    """The requests of columns, given by place or name; None for rows."""
    names = ("prompts", "completions") if kind == "rate" else ("prompts", "firsts", "seconds")
    if "rows" in named or (len(columns) == 1 and not {*names} & named.keys()):
        return None
    given = dict(zip(names, columns, strict=False))
    further = {name: named.pop(name, None) for name in ("rubrics", "references", "languages")}
    if len(columns) > len(names) or given.keys() & named.keys() or {*given, *named} != {*names}:
        raise ConfigError(
            f"{kind} takes {', '.join(names)}, or rows", hint="scale and resolution go with rows alone"
        )
    prompts, *texts = ({**given, **named}[name] for name in names)
    return requests_from_columns(prompts, texts, **further)


def _request_rows(requests: Sequence[Request], n: int) -> list[Row]:
    require_completions(requests, n)
    return [request_row(request) for request in requests]
