# SPDX-License-Identifier: Apache-2.0
"""The `Judge`: template, engine and verdict set as one object."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from autoj_reward.engines import Engine, describe_engine
from autoj_reward.engines.dtypes import EngineDtypes
from autoj_reward.engines.factory import choose_engine, describe_plan
from autoj_reward.judge.batching.async_calls import AsyncCalls
from autoj_reward.judge.batching.batcher import Kind
from autoj_reward.judge.description import described, judge_id
from autoj_reward.judge.engine import JudgeEngine
from autoj_reward.judge.guard.guard import Guard
from autoj_reward.judge.messages.text import Reasoning, ShownText, completion_text, prompt_text, shown_request
from autoj_reward.judge.panels.spec import PanelSpec
from autoj_reward.judge.pipeline import RequestPipeline
from autoj_reward.judge.presets import load_spec
from autoj_reward.judge.requests import language_of, prepare, requests_from_columns, require_completions
from autoj_reward.judge.settings import JudgeSettings, Overlong, make_settings
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.judgments import Judgment, PairJudgment, RatingJudgment
from autoj_reward.types import Mode, Request, Rubrics, Text

if TYPE_CHECKING:
    from autoj_reward.cache.store import JudgmentStore


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
        self._dtype: str | None = spec.engine_options.get("dtype")
        self._dtypes = EngineDtypes(lambda: self._plan(), lambda: self.built_engine)
        self._choose: Callable[[], Engine | Callable[[], Engine]] = functools.partial(_given, engine)
        self._plan: Callable[[], dict[str, Any]] = dict
        self._answerer = JudgeEngine(engine, functools.partial(judge_id, spec, settings))
        self._pipeline = RequestPipeline(spec, settings, self._answerer)
        self._async_calls = AsyncCalls(self)

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
        check_critiques: bool = False,
        cache: bool | str | Path | JudgmentStore = False,
        refresh: bool = False,
        guard: bool | Guard | Mapping[str, Any] | None = None,
        reasoning: Reasoning = "strip",
        **engine_options: Any,
    ) -> Judge:
        """Make a judge. No model is loaded before the first request.

        Args:
            name_or_path: A preset (`mini`, `autoj-13b`), a preset's hub name, a TOML file, or any
                instruct model's folder or hub name; or one that is read. `kind = "panel"` gives a `Panel`.
            engine: `transformers`, `vllm`, `server:URL`, `decisions:URL`, `recorded:FILE` or an engine of
                your own. None picks vLLM if it is installed and a GPU is present, else transformers.
            mode: direct or critique; None takes the judge's own default.
            n_samples: K critiques of each input; more than 1 needs a temperature.
            both_orders: Judge pairs in both orders and average.
            overlong: What happens to an input that does not fit: error, or truncate its longest completion
                (of a list the longer ones).
            temperature: Instead of the judge's own.
            max_new_tokens: Instead of the judge's own.
            seed: For sampling.
            min_mass: Least probability, in (0, 1], inside the verdict set; None takes the judge's own.
            follow_above: Branches at or below this probability may be left unread.
            force_verdict: In critique mode, close a critique that ends without a verdict (cut off at its
                limit, or left open) with the words before one, and read the distribution there; such
                samples are marked as forced. By default they are failures.
            check_critiques: Let the judge read each critique alone too; see `Judgment.n_contradicted`.
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
            ConfigError: A setting is wrong, or the judge does not exist.
            TemplateError: The judge's template does not show the right fields.
            StoreError: The cache cannot be used.
        """
        spec = name_or_path if isinstance(name_or_path, JudgeSpec) else load_spec(name_or_path)
        given: dict[str, Any] = {
            "mode": mode, "n_samples": n_samples, "both_orders": both_orders, "overlong": overlong,
            "temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed, "min_mass": min_mass,
            "follow_above": follow_above, "force_verdict": force_verdict, "guard": guard,
            "reasoning": reasoning, "check_critiques": check_critiques,
        }  # fmt: skip
        if isinstance(spec, PanelSpec):
            from autoj_reward.judge.panels.panel import load_panel

            given |= {"engine": engine, "cache": cache, "refresh": refresh}
            return load_panel(spec, given, engine_options)
        settings = make_settings(spec, **given)
        choose = functools.partial(choose_engine, engine, spec, engine_options, cache=cache, refresh=refresh)
        # A server that was started elsewhere has a dtype of its own.
        served = isinstance(engine, str) and engine.startswith(("server", "decisions:"))
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
        return self._answerer.engine

    @property
    def built_engine(self) -> Engine | None:
        """The engine if it was built already, to read its counts; None before, and after `close`."""
        return self._answerer.built

    @property
    def dtype(self) -> str | None:
        """What the engine computes in, such as `bfloat16`; None if that is not known without loading it."""
        return self._dtype if self._dtype not in (None, "auto") else self._dtypes["dtype"]

    @property
    def head_dtype(self) -> str | None:
        """What the engine computes logits in; None if that is not known without loading it."""
        return self._dtypes["head_dtype"] or self.dtype

    @property
    def identity(self) -> str:
        """Who answers, as 12 hexadecimal digits: equal ids mean exchangeable answers.

        The engine with its weights, tokenizer, adapter, dtype and quantisation (or endpoint and served
        model), the template with its wrapper, and how critiques are sampled. Where only loading tells, the
        model is loaded.
        """
        return self._answerer.identity

    def with_settings(self, *, engine_of: Judge | None = None, **changes: Any) -> Judge:
        """This judge with other settings, on the same engine: closing either of the two closes it.

        Args:
            engine_of: Take the engine of this judge, which has to run the same model.
            **changes: Fields of `JudgeSettings`.
        """
        engine = functools.partial(getattr, engine_of or self, "engine")
        settings = replace(self.settings, **changes)
        return _chosen(self.spec, settings, functools.partial(_given, engine), self._dtype, self._plan)

    def inputs_per_request(self, n_completions: int) -> int:
        """Inputs to the model for a request of one completion, or of two."""
        orders = 2 if n_completions == 2 and self.settings.both_orders else 1
        return self.settings.n_samples * orders

    def describe(self, how: Literal["load", "files", "plan"] = "load") -> dict[str, Any]:
        """Who judges, in which mode, with which template, from which weights, as plain values.

        Args:
            how: What it may take. load: whatever it takes, the model too. files: hashing the checkpoint and
                asking the hub. plan: settings and small files alone. What is not known then is None.
        """
        if how == "load":
            assert self.identity
        plan = self._plan() if how == "plan" else {}
        if not plan and how != "plan" and self.built_engine is None:
            plan = self._plan() or {"engine": "unknown"}
        return described(self.spec, self.settings, plan or describe_engine(self.engine))

    def close(self) -> None:
        """Close the engine. A second call does nothing."""
        self._async_calls.close()
        self._answerer.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _chosen, (self.spec, self.settings, self._choose, self._dtype, self._plan)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rate(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        *,
        rubrics: Rubrics | None = None,
        references: Sequence[str | None] | None = None,
        languages: Sequence[str | None] | None = None,
    ) -> list[RatingJudgment]:
        """Rate completions.

        Args:
            prompts: B prompts.
            completions: B completions, one for each prompt.
            rubrics: B rubrics or None each: texts, for templates that take one, or `Rubric`s of criteria.
            references: B reference answers or None each, likewise.
            languages: B language codes or None each, for judges of several; None: by the prompt's words.

        Returns:
            B judgments in the same order; one without a verdict carries a failure.

        Raises:
            ConfigError: Lengths differ, or the judge does not rate.
            TemplateError: The template takes no rubric or reference, or needs one.
            EngineError: The engine failed as a whole.
        """
        return self.rate_requests(
            requests_from_columns(prompts, [completions], rubrics, references, languages)
        )

    def compare(
        self,
        prompts: Sequence[Text],
        firsts: Sequence[Text],
        seconds: Sequence[Text],
        *,
        rubrics: Rubrics | None = None,
        references: Sequence[str | None] | None = None,
        languages: Sequence[str | None] | None = None,
    ) -> list[PairJudgment]:
        """Compare pairs of completions.

        Args:
            prompts: B prompts.
            firsts: B completions.
            seconds: B completions.
            rubrics: B rubrics or None each: texts, for templates that take one, or `Rubric`s of criteria.
            references: B reference answers or None each, likewise.
            languages: B language codes or None each, for judges of several; None: by the prompt's words.

        Returns:
            B judgments in the same order. Win probabilities are of the first completion.

        Raises:
            ConfigError: Lengths differ, or the judge does not compare.
            TemplateError: The template takes no rubric or reference, or needs one.
            EngineError: The engine failed as a whole.
        """
        return self.compare_requests(
            requests_from_columns(prompts, [firsts, seconds], rubrics, references, languages)
        )

    async def arate(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        *,
        rubrics: Rubrics | None = None,
        references: Sequence[str | None] | None = None,
        languages: Sequence[str | None] | None = None,
    ) -> list[RatingJudgment]:
        """`rate` as a coroutine: calls that run concurrently in an event loop are judged as one batch.

        A judge that rates lists judges each call by itself, so that no other call's completions are on its
        lists. A cancelled call takes its requests out of the queue.
        """
        requests = requests_from_columns(prompts, [completions], rubrics, references, languages)
        return cast(list[RatingJudgment], await self._judged_async("rate", requests))

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
        """`compare` as a coroutine; as `arate`."""
        requests = requests_from_columns(prompts, [firsts, seconds], rubrics, references, languages)
        return cast(list[PairJudgment], await self._judged_async("compare", requests))

    async def _judged_async(self, kind: Kind, requests: Sequence[Request]) -> list[Judgment]:
        # A request that does not fit the template fails its own call, not the batch of several.
        self.check(requests)
        return await self._async_calls.judge(kind, requests)

    @property
    def kinds_in_lists(self) -> frozenset[Kind]:
        """What it judges in lists, whose verdicts depend on the whole call: `rate`, or nothing."""
        in_lists = self.spec.rating is not None and self.spec.rating.listing is not None
        return frozenset({"rate"} if in_lists else ())

    def check(self, requests: Sequence[Request]) -> None:
        """Check that every request can be laid out, without loading a model.

        Raises:
            ConfigError: A request has not one or two completions, or a message without text.
            TemplateError: Fields are missing or unknown, or the judge has no templates in its language.
        """
        for prepared in prepare(self.spec, self.settings.reasoning, requests):
            prepared.check()

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
        require_completions(requests, 1)
        return cast(list[RatingJudgment], self.judge_requests(requests))

    def compare_requests(self, requests: Sequence[Request]) -> list[PairJudgment]:
        """`compare` for requests of two completions each; B judgments in the same order."""
        require_completions(requests, 2)
        return cast(list[PairJudgment], self.judge_requests(requests))

    def judge_requests(self, requests: Sequence[Request]) -> list[RatingJudgment | PairJudgment]:
        """Judge requests of one completion and of two, in whichever languages, in one batch.

        Returns:
            B judgments in the same order: a rating for one completion, a comparison for two.

        Raises:
            ConfigError: A request has another number of completions, or another reason of `check`.
            TemplateError: Fields are missing or unknown.
            EngineError: The engine failed as a whole.
        """
        prepared = prepare(self.spec, self.settings.reasoning, requests)
        return cast(list[RatingJudgment | PairJudgment], self._pipeline.judge(prepared))

    def language_of(self, request: Request) -> str | None:
        """The language whose templates a request gets; None for judges that have one set of them.

        Raises:
            ConfigError: It cannot be found out: the package py3langid is not installed.
        """
        return language_of(self.spec, request, self.settings.reasoning)


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
    judge._dtype = dtype
    judge._plan = plan
    return judge
