# SPDX-License-Identifier: Apache-2.0
"""Make requests from columns, and prepare them: texts, language, template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoj_reward.criteria.readers import read_rubric
from autoj_reward.criteria.rubric import Rubric
from autoj_reward.errors import ConfigError
from autoj_reward.judge.criteria.tasks import CriteriaCall, calls_of
from autoj_reward.judge.messages.columns import as_column
from autoj_reward.judge.messages.language import detect_language
from autoj_reward.judge.messages.parts import kind_of
from autoj_reward.judge.messages.text import Reasoning, prompt_text, shown_request
from autoj_reward.judge.messages.truncate import truncate_middle
from autoj_reward.judge.spec import JudgeSpec, JudgingTask
from autoj_reward.judge.template import Template
from autoj_reward.types import Request, Rubrics, Segment, Text


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """A request that a template can be filled with.

    Attributes:
        request: Its prompt and its one or two completions are texts, as the judge is shown them.
        task: The template and the verdicts that it is judged with.
        language: The language of that template; None for judges that have one set of templates.
        cut_chars: Characters cut from the middle of each completion to fit the context.
        call: The criterion of a rubric that is asked about; None for requests without one.
    """

    request: Request
    task: JudgingTask
    language: str | None
    cut_chars: tuple[int, ...]
    call: CriteriaCall | None = None

    @property
    def parts(self) -> list[PreparedRequest]:
        """A request for each criterion of a rubric; else the request itself."""
        rubric = self.request.rubric
        if not isinstance(rubric, Rubric) or self.is_pair:
            return [self]
        plain = replace(self.request, rubric=None)
        return [replace(self, request=plain, task=call.task, call=call) for call in calls_of(rubric)]

    @property
    def states_several(self) -> bool:
        """Whether its answer states several verdicts: of a list, or of several criteria."""
        return self.task.listing is not None or (self.call is not None and len(self.call.criteria) > 1)

    @property
    def is_pair(self) -> bool:
        """Whether two completions are compared."""
        return len(self.request.completions) == 2

    @property
    def is_tie(self) -> bool:
        """Whether two completions have the same text."""
        return self.is_pair and self.request.completions[0] == self.request.completions[1]

    def values(self, *, swapped: bool = False) -> dict[str, str]:
        """The template's fields and their texts; `swapped` shows the second completion first."""
        texts = [str(c) for c in self.request.completions]
        names = ("completion",) if len(texts) == 1 else ("first", "second")
        return self.context() | dict(zip(names, reversed(texts) if swapped else texts, strict=True))

    def context(self) -> dict[str, str]:
        """The fields that a request shares with others of its group: prompt, rubric and reference."""
        request = self.request
        rubric = request.rubric.text if isinstance(request.rubric, Rubric) else request.rubric
        fields = {"prompt": str(request.prompt), "rubric": rubric, "reference": request.reference}
        if self.call is not None:
            fields["criteria"] = self.call.text
        return {name: text for name, text in fields.items() if text is not None}

    def check(self) -> None:
        """Check that the template shows this request's fields; raises `TemplateError` if not."""
        first = self.parts[0]
        if first is not self:
            return first.check()
        values = self.values()
        if self.task.listing is not None:
            values["completions"] = values.pop("completion")
        self._template.check(frozenset(values))

    def body(self, *, swapped: bool = False) -> tuple[Segment, ...]:
        """The filled template; raises `TemplateError` if fields are missing or unknown."""
        return self._template.fill(self.values(swapped=swapped))

    @property
    def _template(self) -> Template:
        return self.task.template_for(reference=self.request.reference is not None)

    def truncated(self, overflow_tokens: int) -> PreparedRequest:
        """The request with its longest completion cut in the middle."""
        request, cut = truncate_middle(self.request, overflow_tokens, self.cut_chars)
        return replace(self, request=request, cut_chars=cut)


def prepare(spec: JudgeSpec, reasoning: Reasoning, requests: Sequence[Request]) -> list[PreparedRequest]:
    """Turn messages into text, and find each request's language and template.

    Raises:
        ConfigError: A request has messages that cannot be shown or too many completions, or its language
            cannot be detected because py3langid is not installed.
        TemplateError: The judge has no templates in a request's language.
    """
    prepared = []
    for i, given in enumerate(requests):
        try:
            request = shown_request(given, reasoning)
        except ConfigError as error:
            where = f"request {i}: " if len(requests) > 1 else ""
            raise ConfigError(f"{where}{error.args[0]}", hint=error.hint) from None
        language = language_of(spec, request, reasoning)
        n = len(request.completions)
        task = spec.in_language(language).task_for(n)
        prepared.append(PreparedRequest(request=request, task=task, language=language, cut_chars=(0,) * n))
    return prepared


def language_of(spec: JudgeSpec, request: Request, reasoning: Reasoning) -> str | None:
    """The language whose templates a request gets; None for judges that have one set of them."""
    if not spec.translations:
        return None
    known = (spec.languages[0], *spec.translations)
    return request.language or detect_language(prompt_text(request.prompt, reasoning), known)


def require_completions(requests: Sequence[Request], n: int) -> None:
    """Check that every request has n completions.

    Raises:
        ConfigError: One is not a request or has another number; says which.
    """
    for i, request in enumerate(as_column("requests", requests)):
        if not isinstance(request, Request):
            raise ConfigError(f"request {i} must be a Request, is {kind_of(request)}")
        if len(request.completions) != n:
            raise ConfigError(f"request {i} has {len(request.completions)} completions, not {n}")


def requests_from_columns(
    prompts: Sequence[Text],
    columns: Sequence[Sequence[Text]],
    rubrics: Rubrics | None,
    references: Sequence[str | None] | None,
    languages: Sequence[str | None] | None,
) -> list[Request]:
    """One request for each prompt.

    Args:
        prompts: B prompts.
        columns: One or two lists of B completions.
        rubrics: B rubrics (texts, or criteria as `read_rubric` takes them), or None for none; likewise the
            rest.
        references: B reference answers.
        languages: B language codes.

    Raises:
        ConfigError: A column is not a list, or has another length; a rubric is wrong.
    """
    prompts = as_column("prompts", prompts)
    n = len(prompts)
    names = ("completions",) if len(columns) == 1 else ("first completions", "second completions")
    columns = [as_column(name, column, n) for name, column in zip(names, columns, strict=True)]
    rubrics, references, languages = (
        [None] * n if values is None else as_column(name, values, n)
        for name, values in (("rubrics", rubrics), ("references", references), ("languages", languages))
    )
    rubrics = as_rubrics(rubrics)
    return [
        Request(prompt=prompt, completions=completions, rubric=rubric, reference=reference, language=language)
        for prompt, completions, rubric, reference, language in zip(
            prompts, zip(*columns, strict=True), rubrics, references, languages, strict=True
        )
    ]


def as_rubrics(rubrics: Sequence[Any]) -> list[str | Rubric | None]:
    """Rubrics as requests hold them: texts, a `Rubric`, or None.

    Raises:
        ConfigError: One is none of these, nor what `read_rubric` takes; says which.
    """
    made = []
    for n, rubric in enumerate(rubrics):
        try:
            made.append(read_rubric(rubric))
        except ConfigError as error:
            raise ConfigError(f"rubrics[{n}]: {error.args[0]}", hint=error.hint) from None
    return made
