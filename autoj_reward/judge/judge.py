# SPDX-License-Identifier: Apache-2.0
"""The `Judge`: template, engine and verdict set as one object."""

from __future__ import annotations

import functools
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from autoj_reward.engines import Engine, describe_engine, engine_or_factory
from autoj_reward.engines.factory import choose_engine, describe_plan
from autoj_reward.errors import ConfigError
from autoj_reward.judge.columns import as_column
from autoj_reward.judge.description import described, judge_id
from autoj_reward.judge.guard.guard import Guard, GuardedRequest, GuardRunner, make_guard
from autoj_reward.judge.language import detect_language
from autoj_reward.judge.messages.parts import kind_of
from autoj_reward.judge.messages.text import (
    Reasoning,
    ShownText,
    check_reasoning,
    completion_text,
    prompt_text,
    shown_request,
)
from autoj_reward.judge.pipeline import Judged, ReadingRules, judge_directly, judge_with_critique
from autoj_reward.judge.presets import load_spec
from autoj_reward.judge.spec import JudgeSpec, JudgingTask
from autoj_reward.judge.truncate import truncate_middle
from autoj_reward.judge.verdict import VerdictSet
from autoj_reward.judgments import (
    PairJudgment,
    Provenance,
    RatingJudgment,
    Sample,
    Verdict,
    VerdictDistribution,
    aggregate,
)
from autoj_reward.types import Failure, FailureReason, JudgeInput, Mode, Request, Sampling, Text, Usage

if TYPE_CHECKING:
    from autoj_reward.cache.store import JudgmentStore

Overlong = Literal["error", "truncate"]

_MOST_CUTS = 8
"""Rounds of cutting before an input counts as too long after all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """How a judge is run.

    Attributes:
        mode: direct or critique.
        n_samples: K critiques of each input, averaged as distributions. Direct mode needs one.
        both_orders: Whether each pair is judged in both orders, and the two averaged.
        overlong: error: an input that does not fit is a `too_long` failure. truncate: the middle of
            its longest completion is cut until it fits, and the judgment says how much.
        sampling: How critiques are written.
        rules: How verdicts are read.
        guard: What is done about completions that work on the judge; None shows them as they are.
        reasoning: What is done with the policy's reasoning: strip, strip_opened or keep, see `Reasoning`.
    """

    mode: Mode
    n_samples: int
    both_orders: bool
    overlong: Overlong
    sampling: Sampling
    rules: ReadingRules
    guard: Guard | None = None
    reasoning: Reasoning = "strip"


class Judge:
    """Rates and compares completions. Make one with `Judge.load`.

    A judge is thread-safe as far as its engine is. Its engine is built at the first request. A judge made by
    `load` can be pickled: the copy builds an engine of its own, from the same settings.

    Example:
        >>> with Judge.load("mini") as judge:                                   # doctest: +SKIP
        ...     judge.rate(["Name a prime."], ["7 is a prime."])[0].expected_rating
    """

    def __init__(
        self, spec: JudgeSpec, settings: JudgeSettings, engine: Engine | Callable[[], Engine]
    ) -> None:
        self.spec = spec
        self.settings = settings
        self.dtype: str | None = spec.engine_options.get("dtype")
        """What the engine was told to compute in; None where nobody said."""
        self._choose: Callable[[], Engine | Callable[[], Engine]] = functools.partial(_given, engine)
        self._engine, self._make_engine = engine_or_factory(engine)
        self._plan: Callable[[], dict[str, Any]] = dict
        self._identified: tuple[str, str] | None = None
        self._building = threading.Lock()
        self._guarding = None if settings.guard is None else GuardRunner(settings.guard, spec)

    @classmethod
    def load(
        cls,
        name_or_path: str | JudgeSpec,
        *,
        engine: Engine | str | None = None,
        mode: Mode | None = None,
        n_samples: int = 1,
        both_orders: bool = True,
        overlong: Overlong | Literal["cut"] = "error",
        temperature: float | None = None,
        max_new_tokens: int | None = None,
        seed: int | None = None,
        min_mass: float | None = None,
        follow_above: float = 1e-4,
        force_verdict: bool = False,
        cache: bool | str | Path | JudgmentStore = False,
        refresh: bool = False,
        guard: bool | Guard | Mapping[str, Any] | None = None,
        reasoning: Reasoning = "strip",
        **engine_options: Any,
    ) -> Judge:
        """Make a judge. No model is loaded before the first request.

        Args:
            name_or_path: A preset (`mini`, `autoj-13b`), a preset's hub name, a TOML file, or any
                instruct model's folder or hub name; or a judge that is already read.
            engine: `transformers`, `vllm`, `server:URL`, `recorded:FILE` or an engine of your own. None picks
                vLLM where there is a GPU and it is installed, else transformers.
            mode: direct or critique; None takes the judge's own default.
            n_samples: K critiques of each input; more than 1 needs a temperature.
            both_orders: Judge pairs in both orders and average.
            overlong: What happens to an input that does not fit: error or truncate.
            temperature: Instead of the judge's own.
            max_new_tokens: Instead of the judge's own.
            seed: For sampling.
            min_mass: Least probability, in (0, 1], inside the verdict set; None takes the judge's own.
            follow_above: Branches at or below this probability may be left unread.
            force_verdict: In critique mode, close a critique that ends without a verdict (cut off at its
                limit, or left open) with the words before one, and read the distribution there; such
                samples are marked as forced. By default they are failures.
            cache: Pay for every answer of the engine once. True: a file in the user's cache folder
                (`$AUTOJ_REWARD_CACHE` names another), which the command line uses too; or a file; or an
                open store. False, so that a library call writes no file unasked. With a cache, an equal
                request gets the stored answer: draw k of a sampled critique is draw k again, also
                without a seed.
            refresh: With a cache: ask the engine all the same, and keep its answers instead.
            guard: Neutralise and flag what works on the judge in completions (see `Guard`). True takes the
                defaults, a mapping sets some. None shows completions as they are, which published figures
                need; rewards should have a guard.
            reasoning: What is done with the reasoning of policies. strip: a `<think>` block at the beginning
                of a completion's turn, and reasoning that messages keep beside the answer, are not shown.
                strip_opened: the policy's chat template opens the block, so all up to the first `</think>`
                goes as well. keep: all is shown.
            **engine_options: For the engine (`dtype`, `adapter`, ...).

        Raises:
            ConfigError: A setting is wrong, or there is no such judge.
            TemplateError: The judge's template does not show the right fields.
            StoreError: The cache cannot be used.
        """
        spec = name_or_path if isinstance(name_or_path, JudgeSpec) else load_spec(name_or_path)
        chosen = mode or spec.default_mode
        changes: dict[str, Any] = {"seed": seed if seed is not None else spec.sampling.seed}
        if temperature is not None:
            changes["temperature"] = temperature
        if max_new_tokens is not None:
            changes["max_new_tokens"] = max_new_tokens
        sampling = replace(spec.sampling, **changes)
        least = spec.min_mass if min_mass is None else min_mass
        if not 0 < least <= 1:
            raise ConfigError(f"min_mass = {least} is not in (0, 1]")
        if overlong == "cut":
            warnings.warn("overlong='cut' is now 'truncate'", DeprecationWarning, stacklevel=2)
            overlong = "truncate"
        if chosen not in ("direct", "critique") or overlong not in ("error", "truncate"):
            raise ConfigError(f"mode = {chosen!r} or overlong = {overlong!r} is not one of the choices")
        if n_samples < 1 or sampling.max_new_tokens < 1 or sampling.temperature < 0:
            raise ConfigError("n_samples and max_new_tokens are at least 1, temperature at least 0")
        if n_samples > 1 and (chosen == "direct" or sampling.temperature == 0):
            raise ConfigError(
                f"n_samples = {n_samples} would draw the same {n_samples} times: mode is {chosen}, "
                f"temperature {sampling.temperature:g}",
                hint="use mode='critique' with a temperature above 0, or one sample",
            )
        if force_verdict and chosen == "direct":
            raise ConfigError(
                "force_verdict is for critiques that end without a verdict; direct mode writes none",
                hint="use mode='critique', or leave it out",
            )
        settings = JudgeSettings(
            mode=chosen,
            n_samples=n_samples,
            both_orders=both_orders,
            overlong=overlong,
            sampling=sampling,
            rules=ReadingRules(min_mass=least, follow_above=follow_above, force_verdict=force_verdict),
            guard=make_guard(guard),
            reasoning=check_reasoning(reasoning),
        )
        choose = functools.partial(choose_engine, engine, spec, engine_options, cache=cache, refresh=refresh)
        # A server that was started elsewhere has a dtype of its own.
        served = isinstance(engine, str) and engine.startswith("server")
        dtype = engine_options.get("dtype", None if served else spec.engine_options.get("dtype"))
        plan = (
            functools.partial(describe_plan, engine, spec, engine_options)
            if engine is None or isinstance(engine, str)
            else dict
        )
        return _chosen(spec, settings, choose, dtype, plan)

    @property
    def engine(self) -> Engine:
        """The engine; built when first asked for."""
        with self._building:
            if self._engine is None:
                if self._make_engine is None:
                    raise ConfigError("the judge is closed")
                self._engine = self._make_engine()
            return self._engine

    @property
    def built_engine(self) -> Engine | None:
        """The engine if it was built already, to look at what it counted; None before and after."""
        return self._engine

    @property
    def identity(self) -> str:
        """Who answers, as 12 hexadecimal digits: equal ids mean exchangeable answers.

        The engine with its weights, tokenizer, adapter, dtype and quantisation (or endpoint and served
        model), the template with its wrapper, and how critiques are sampled. Where only loading tells, the
        model is loaded.
        """
        fingerprint = self.engine.fingerprint
        if self._identified is None or self._identified[0] != fingerprint:
            self._identified = fingerprint, judge_id(self.spec, self.settings, fingerprint)
        return self._identified[1]

    def describe(self, how: Literal["load", "files", "plan"] = "load") -> dict[str, Any]:
        """Who judges, in which mode, with which template, from which weights, as plain values.

        Args:
            how: What it may take. load: whatever it takes, the model too. files: hashing the checkpoint and
                asking the hub. plan: settings and small files alone. What is not known then is None.
        """
        if how == "load":
            assert self.identity
        plan = self._plan() if how == "plan" else {}
        if not plan and how != "plan" and self._engine is None:
            plan = self._plan() or {"engine": "unknown"}
        return described(self.spec, self.settings, plan or describe_engine(self.engine))

    def close(self) -> None:
        """Close the engine. A second call does nothing."""
        with self._building:
            if self._engine is not None:
                self._engine.close()
            self._engine = self._make_engine = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _chosen, (self.spec, self.settings, self._choose, self.dtype, self._plan)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rate(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        *,
        rubrics: Sequence[str | None] | None = None,
        references: Sequence[str | None] | None = None,
        languages: Sequence[str | None] | None = None,
    ) -> list[RatingJudgment]:
        """Rate completions.

        Args:
            prompts: B prompts.
            completions: B completions, one for each prompt.
            rubrics: B rubrics or None each, for templates that take one.
            references: B reference answers or None each, likewise.
            languages: B language codes or None each, for judges with templates in several; None: by the
                prompt's first words.

        Returns:
            B judgments in the same order; one without a verdict carries a failure.

        Raises:
            ConfigError: Lengths differ, or the judge does not rate.
            TemplateError: The template takes no rubric or reference, or needs one.
            EngineError: The engine failed as a whole.
        """
        return self.rate_requests(_requests(prompts, [completions], rubrics, references, languages))

    def compare(
        self,
        prompts: Sequence[Text],
        firsts: Sequence[Text],
        seconds: Sequence[Text],
        *,
        rubrics: Sequence[str | None] | None = None,
        references: Sequence[str | None] | None = None,
        languages: Sequence[str | None] | None = None,
    ) -> list[PairJudgment]:
        """Compare pairs of completions.

        Args:
            prompts: B prompts.
            firsts: B completions.
            seconds: B completions.
            rubrics: B rubrics or None each, for templates that take one.
            references: B reference answers or None each, likewise.
            languages: B language codes or None each, for judges with templates in several; None: by the
                prompt's first words.

        Returns:
            B judgments in the same order. Win probabilities are of the first completion.

        Raises:
            ConfigError: Lengths differ, or the judge does not compare.
            TemplateError: The template takes no rubric or reference, or needs one.
            EngineError: The engine failed as a whole.
        """
        return self.compare_requests(_requests(prompts, [firsts, seconds], rubrics, references, languages))

    def check(self, requests: Sequence[Request]) -> None:
        """Check that every request can be laid out, without loading a model.

        Raises:
            ConfigError: A request has not one or two completions, or a message without text.
            TemplateError: Fields are missing or unknown, or the judge has no templates in its language.
        """
        for request in self._shown(requests):
            protocol = self._protocol(request)
            protocol.template.check(frozenset(_values(request, swapped=False)))

    def shown(self, request: Request) -> Request:
        """The request with the texts that the judge is shown, before its guard sees them.

        Raises:
            ConfigError: Its prompt or a completion is neither text nor messages, or cannot be shown.
        """
        return shown_request(request, self.settings.reasoning)

    def shown_prompt(self, prompt: Text) -> str:
        """A prompt as the judge is shown it; raises as `shown`."""
        return prompt_text(prompt, self.settings.reasoning)

    def shown_completion(self, completion: Text) -> str:
        """A completion as the judge is shown it; raises as `shown`."""
        return ShownText(completion_text(completion, self.settings.reasoning))

    def rate_requests(self, requests: Sequence[Request]) -> list[RatingJudgment]:
        """`rate` for requests of one completion each; B judgments in the same order."""
        self._expect(requests, 1)
        return [RatingJudgment(**parts) for parts in self._judge(requests)]

    def compare_requests(self, requests: Sequence[Request]) -> list[PairJudgment]:
        """`compare` for requests of two completions each; B judgments in the same order."""
        self._expect(requests, 2)
        return [PairJudgment(**parts) for parts in self._judge(requests)]

    def judge_requests(self, requests: Sequence[Request]) -> list[RatingJudgment | PairJudgment]:
        """Judge requests of one completion and of two, in whichever languages, in one batch.

        Returns:
            B judgments in the same order: a rating for one completion, a comparison for two.

        Raises:
            ConfigError: A request has another number of completions, or another reason of `check`.
            TemplateError: Fields are missing or unknown.
            EngineError: The engine failed as a whole.
        """
        return [
            (PairJudgment if len(request.completions) == 2 else RatingJudgment)(**parts)
            for request, parts in zip(requests, self._judge(requests), strict=True)
        ]

    def language_of(self, request: Request) -> str | None:
        """The language whose templates a request gets; None for judges that have one set of them.

        Raises:
            ConfigError: It cannot be found out: the package py3langid is not installed.
        """
        if not self.spec.translations:
            return None
        known = (self.spec.languages[0], *self.spec.translations)
        return request.language or detect_language(self.shown_prompt(request.prompt), known)

    def _shown(self, requests: Sequence[Request]) -> list[Request]:
        shown = []
        for i, request in enumerate(requests):
            try:
                shown.append(self.shown(request))
            except ConfigError as error:
                where = f"request {i}: " if len(requests) > 1 else ""
                raise ConfigError(f"{where}{error.args[0]}", hint=error.hint) from None
        return shown

    def _expect(self, requests: Sequence[Request], n: int) -> None:
        for i, request in enumerate(as_column("requests", requests)):
            if not isinstance(request, Request):
                raise ConfigError(f"request {i} must be a Request, is {kind_of(request)}")
            if len(request.completions) != n:
                raise ConfigError(f"request {i} has {len(request.completions)} completions, not {n}")

    def _protocol(self, request: Request) -> JudgingTask:
        spec, n_completions = self.spec.in_language(self.language_of(request)), len(request.completions)
        protocol = {1: spec.rating, 2: spec.comparison}.get(n_completions)
        if protocol is None:
            raise ConfigError(f"judge {self.spec.name!r} does not judge {n_completions} completions at once")
        return protocol

    def _judge(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """Judge requests, guarded where there is a guard; the parts of a judgment for each."""
        requests = self._shown(requests)
        if self._guarding is None:
            return self._judge_different(requests)
        guarded = [self._guarding.apply(request) for request in requests]
        asked = iter(self._judge_different([g.request for g in guarded if g.verdict is None]))
        fingerprint = self._guarding.guard.fingerprint
        return [
            self._guarded_parts(g, fingerprint, None if g.verdict is not None else next(asked))
            for g in guarded
        ]

    def _guarded_parts(
        self, seen: GuardedRequest, fingerprint: str, parts: dict[str, Any] | None
    ) -> dict[str, Any]:
        """The parts of a judgment with what the guard adds; by rule where the judge was not asked."""
        if parts is None:
            assert seen.verdict is not None
            parts = self._by_rule(seen.request, seen.verdict)
        provenance = replace(parts["provenance"], guard=fingerprint)
        return {**parts, "provenance": provenance, "flags": seen.flags, "penalties": seen.penalties}

    def _judge_different(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """Judge requests of equal kind as they are; two completions of one text tie, and nobody is asked.

        A judge that is asked all the same often prefers whichever is shown first.
        """
        equal = [
            len(r.completions) == 2 and len(set(map(completion_text, r.completions))) == 1 for r in requests
        ]
        self.check([r for r, e in zip(requests, equal, strict=True) if e])
        asked = iter(self._judge_shown([r for r, e in zip(requests, equal, strict=True) if not e]))
        return [self._by_rule(r, "tie") if e else next(asked) for r, e in zip(requests, equal, strict=True)]

    def _by_rule(self, request: Request, verdict: Verdict) -> dict[str, Any]:
        """The parts of a judgment that no judge was asked for."""
        return {
            "mode": self.settings.mode,
            "distribution": self._protocol(request).verdicts.point(verdict),
            "samples": (),
            "failure": None,
            "usage": Usage(),
            "provenance": Provenance(
                judge=self.spec.name,
                template=self.spec.fingerprint,
                engine="",
                # Nobody was asked, and no model is loaded to say who would have been.
                judge_id=self._identified[1] if self._identified else "",
                cut_chars=(0,) * len(request.completions),
                language=self.language_of(request),
            ),
            "by_rule": True,
        }

    def _judge_shown(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """Judge requests of equal kind as they are; the parts of a judgment for each."""
        cut = [(0,) * len(r.completions) for r in requests]
        results = self._attempt(requests)
        current = list(requests)
        for _ in range(_MOST_CUTS if self.settings.overlong == "truncate" else 0):
            again = {i: over for i, r in enumerate(results) if (over := _overflow(r))}
            if not again:
                break
            for i, over in again.items():
                current[i], removed = truncate_middle(current[i], over)
                cut[i] = tuple(a + b for a, b in zip(cut[i], removed, strict=True))
            renewed = self._attempt([current[i] for i in again])
            for i, result in zip(again, renewed, strict=True):
                results[i] = result
        fingerprint = self.engine.fingerprint if requests else ""
        kinds = [(removed, self.language_of(r)) for removed, r in zip(cut, requests, strict=True)]
        provenances = {
            (removed, language): Provenance(
                judge=self.spec.name,
                template=self.spec.fingerprint,
                engine=fingerprint,
                judge_id=self.identity,
                cut_chars=removed,
                language=language,
            )
            for removed, language in set(kinds)
        }
        return [self._parts(result, provenances[kind]) for result, kind in zip(results, kinds, strict=True)]

    def _attempt(self, requests: Sequence[Request]) -> list[list[Judged]]:
        """All samples of every request: given order first, K draws each, then the swapped order."""
        if not requests:
            return []
        settings = self.settings
        direct = settings.mode == "direct"
        wrapper = self.spec.direct_wrapper if direct else self.spec.wrapper
        inputs: list[JudgeInput] = []
        verdicts: list[VerdictSet] = []
        swaps: list[list[bool]] = []
        for request in requests:
            protocol = self._protocol(request)
            orders = (False, True) if len(request.completions) == 2 and settings.both_orders else (False,)
            bodies = [protocol.template.fill(_values(request, swapped=s)) for s in orders]
            inputs += [
                JudgeInput(body=body, wrapper=wrapper, sampling=settings.sampling, sample_index=k)
                for body in bodies
                for k in range(settings.n_samples)
            ]
            swaps.append([s for s in orders for _ in range(settings.n_samples)])
            verdicts += [protocol.verdicts] * len(swaps[-1])
        # All are laid out by now: what cannot be is said before a model is loaded.
        run = judge_directly if direct else judge_with_critique
        judged = iter(run(inputs, self.engine, self.spec, verdicts, settings.rules))
        return [
            [replace(j, sample=_mapped_back(j.sample)) if s else j for s, j in zip(own, judged, strict=False)]
            for own in swaps
        ]

    def _parts(self, judged: Sequence[Judged], provenance: Provenance) -> dict[str, Any]:
        samples = tuple(j.sample for j in judged)
        given = _merged([s.distribution for s in samples if s.distribution and not s.swapped])
        swapped = _merged([s.distribution for s in samples if s.distribution and s.swapped])
        orders = [given, swapped] if any(s.swapped for s in samples) else [given]
        readable = [d for d in orders if d is not None]
        # One order alone would bring back the slot bias that the other is there to cancel.
        complete = len(readable) == len(orders)
        return {
            "mode": self.settings.mode,
            "distribution": _merged(readable) if complete else None,
            "samples": samples,
            "failure": None if complete else _common_failure(samples),
            "usage": judged[0].usage if len(judged) == 1 else sum((j.usage for j in judged), start=Usage()),
            "provenance": provenance,
        }


def _given(engine: Engine | Callable[[], Engine]) -> Engine | Callable[[], Engine]:
    return engine


def _chosen(
    spec: JudgeSpec,
    settings: JudgeSettings,
    choose: Callable[[], Engine | Callable[[], Engine]],
    dtype: str | None,
    plan: Callable[[], dict[str, Any]] = dict,
) -> Judge:
    """A judge that chooses its engine, and whose copy in another process chooses again."""
    judge = Judge(spec, settings, choose())
    judge._choose = choose
    judge.dtype = dtype
    judge._plan = plan
    return judge


def _values(request: Request, *, swapped: bool) -> dict[str, str]:
    """The template's fields and their texts, of a request that is shown."""
    texts = [str(c) for c in request.completions]
    names = ("completion",) if len(texts) == 1 else ("second", "first") if swapped else ("first", "second")
    values = {"prompt": str(request.prompt), **dict(zip(names, texts, strict=True))}
    extra = {"rubric": request.rubric, "reference": request.reference}
    return values | {name: text for name, text in extra.items() if text is not None}


def _mapped_back(sample: Sample) -> Sample:
    stated = sample.stated
    if stated in ("first", "second"):
        stated = "second" if stated == "first" else "first"
    distribution = sample.distribution.swapped() if sample.distribution else None
    return replace(sample, swapped=True, stated=stated, distribution=distribution)


def _merged(distributions: Sequence[VerdictDistribution]) -> VerdictDistribution | None:
    """The average. Of one it is that one, which a warm cache would otherwise spend a fifth of its time on."""
    return distributions[0] if len(distributions) == 1 else aggregate(distributions)


def _overflow(judged: Sequence[Judged]) -> int:
    """Tokens by which a request's longest input is over the limit; 0 where all fit."""
    failures = [j.sample.failure for j in judged if j.sample.failure is not None]
    return max((f.overflow_tokens for f in failures if f.reason is FailureReason.TOO_LONG), default=0)


def _common_failure(samples: Sequence[Sample]) -> Failure:
    """The failure that stands for all: the most frequent reason, in its first occurrence."""
    failures = [s.failure for s in samples if s.failure is not None]
    reason = Counter(f.reason for f in failures).most_common(1)[0][0]
    return next(f for f in failures if f.reason is reason)


def _requests(
    prompts: Sequence[Text],
    columns: Sequence[Sequence[Text]],
    rubrics: Sequence[str | None] | None,
    references: Sequence[str | None] | None,
    languages: Sequence[str | None] | None,
) -> list[Request]:
    prompts = as_column("prompts", prompts)
    n = len(prompts)
    names = ("completions",) if len(columns) == 1 else ("first completions", "second completions")
    columns = [as_column(name, column, n) for name, column in zip(names, columns, strict=True)]
    rubrics, references, languages = (
        None if values is None else as_column(name, values, n)
        for name, values in (("rubrics", rubrics), ("references", references), ("languages", languages))
    )
    return [
        Request(
            prompt=prompts[i],
            completions=tuple(column[i] for column in columns),
            rubric=rubrics[i] if rubrics is not None else None,
            reference=references[i] if references is not None else None,
            language=languages[i] if languages is not None else None,
        )
        for i in range(n)
    ]
