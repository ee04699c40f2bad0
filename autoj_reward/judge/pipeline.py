# SPDX-License-Identifier: Apache-2.0
"""From prepared requests to judgments: guard, rules, truncation, samples in each order, aggregation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from autoj_reward.criteria.rubric import Rubric
from autoj_reward.errors import ConfigError
from autoj_reward.judge.criteria.together import judge_criteria
from autoj_reward.judge.engine import JudgeEngine
from autoj_reward.judge.guard.guard import GuardRunner
from autoj_reward.judge.listwise import judge_lists
from autoj_reward.judge.messages.truncate import MOST_CUTS
from autoj_reward.judge.panels.spec import PanelSpec
from autoj_reward.judge.requests import PreparedRequest
from autoj_reward.judge.samples import MeteredSample, judge_directly, judge_with_critique, overflow_tokens
from autoj_reward.judge.settings import JudgeSettings
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.judge.verdict import VerdictSet
from autoj_reward.judge.verdicts.reread import reread
from autoj_reward.judgments import (
    Judgment,
    PairJudgment,
    Provenance,
    RatingJudgment,
    Sample,
    Verdict,
    VerdictDistribution,
    aggregate,
    mirrored,
)
from autoj_reward.judgments.rubric import RubricJudgment, rubric_judgment
from autoj_reward.types import Failure, JudgeInput, Request, Usage


class RequestPipeline:
    """Judges prepared requests, each of one completion or of two.

    Args:
        spec: The judge.
        settings: How it is run.
        engine: Its engine, not built before a request needs it.
    """

    def __init__(self, spec: JudgeSpec, settings: JudgeSettings, engine: JudgeEngine) -> None:
        self._spec = spec
        self._settings = settings
        self._engine = engine
        self._guard = None if settings.guard is None else GuardRunner(settings.guard, spec)

    def judge(self, requests: Sequence[PreparedRequest]) -> list[Judgment]:
        """A judgment for each request, in the same order; the guard sees completions first.

        Raises:
            ConfigError: The spec is that of a panel, whose members are asked instead.
            TemplateError: Fields are missing or unknown.
            EngineError: The engine failed as a whole.
        """
        if isinstance(self._spec, PanelSpec):
            raise ConfigError(
                "this needs a judge with one model, and a panel has several", hint="name a member"
            )
        if self._guard is None:
            return self._judge_unguarded(requests)
        guarded = [self._guard.apply(prepared.request) for prepared in requests]
        sanitized = [replace(p, request=g.request) for p, g in zip(requests, guarded, strict=True)]
        verdicts = [g.verdict for g in guarded]
        undecided = [p for p, verdict in zip(sanitized, verdicts, strict=True) if verdict is None]
        judged = iter(self._judge_unguarded(undecided))
        judgments = [
            next(judged) if verdict is None else self._by_rule(prepared, verdict)
            for prepared, verdict in zip(sanitized, verdicts, strict=True)
        ]
        fingerprint = self._guard.guard.fingerprint
        # The judgments of a batch share a few.
        shared = {id(j.provenance): j.provenance for j in judgments}
        provenances = {key: replace(provenance, guard=fingerprint) for key, provenance in shared.items()}
        return [
            replace(j, provenance=provenances[id(j.provenance)], flags=g.flags, penalties=g.penalties)
            for j, g in zip(judgments, guarded, strict=True)
        ]

    def _judge_unguarded(self, requests: Sequence[PreparedRequest]) -> list[Judgment]:
        """Two completions with the same text tie without asking the judge.

        A judge that is asked often prefers whichever is shown first.
        """
        for prepared in requests:
            if prepared.is_tie:
                prepared.check()
        asked = iter(self._ask_parts([p for p in requests if not p.is_tie]))
        return [self._by_rule(p, "tie") if p.is_tie else next(asked) for p in requests]

    def _by_rule(self, prepared: PreparedRequest, verdict: Verdict) -> Judgment:
        """A judgment for which no judge was asked, and for which no model is loaded."""
        return _judgment_type(prepared)(
            mode=self._settings.mode,
            distribution=prepared.task.verdicts.point(verdict),
            samples=(),
            failure=None,
            usage=Usage(),
            provenance=self._provenance(prepared, engine="", judge_id=self._engine.known_identity),
            by_rule=True,
        )

    def _ask_parts(self, requests: Sequence[PreparedRequest]) -> list[Judgment]:
        """Judge requests; one by a rubric of criteria is judged by each of them."""
        parts = [prepared.parts for prepared in requests]
        judged = iter(self._ask([part for own in parts for part in own]))
        return [
            next(judged) if own[0] is prepared else self._by_rubric(prepared, [next(judged) for _ in own])
            for prepared, own in zip(requests, parts, strict=True)
        ]

    def _by_rubric(self, prepared: PreparedRequest, judged: Sequence[Judgment]) -> RubricJudgment:
        ratings = cast(Sequence[float], prepared.task.verdicts.verdicts)
        return rubric_judgment(
            cast(Rubric, prepared.request.rubric), cast(Sequence[RatingJudgment], judged), ratings
        )

    def _ask(self, requests: Sequence[PreparedRequest]) -> list[Judgment]:
        """Judge requests as they are, truncating those that do not fit if the settings allow it."""
        if not requests:
            return []
        current = list(requests)
        results = self._sample(current)
        for _ in range(MOST_CUTS if self._settings.overlong == "truncate" else 0):
            overlong = {
                i: tokens
                for i, result in enumerate(results)
                if current[i].task.listing is None and (tokens := overflow_tokens(m.sample for m in result))
            }
            if not overlong:
                break
            before, shared = list(current), dict[tuple[int, int], Request]()
            for i, tokens in overlong.items():
                cut = before[i].truncated(tokens)
                # The criteria of one call share their request, by which they are put together again.
                request = shared.setdefault((id(before[i].request), tokens), cut.request)
                current[i] = replace(cut, request=request)
            for i, result in zip(overlong, self._sample([current[i] for i in overlong]), strict=True):
                results[i] = result
        fingerprint, identity = self._engine.engine.fingerprint, self._engine.identity
        provenances: dict[Any, Provenance] = {}
        judgments = []
        for prepared, result in zip(current, results, strict=True):
            if prepared.task.listing is not None:
                prepared = replace(prepared, cut_chars=(max(m.cut_chars for m in result),))
            kind = prepared.cut_chars, prepared.language
            if kind not in provenances:
                provenances[kind] = self._provenance(prepared, engine=fingerprint, judge_id=identity)
            judgments.append(self._judgment(prepared, result, provenances[kind]))
        if self._settings.check_critiques and self._settings.mode == "critique":
            sets = [None if one.states_several else one.task.verdicts for one in current]
            return reread(judgments, sets, self._spec, self._settings, self._engine.engine)
        return judgments

    def _provenance(self, prepared: PreparedRequest, *, engine: str, judge_id: str) -> Provenance:
        return Provenance(
            judge=self._spec.name,
            template=self._spec.fingerprint,
            engine=engine,
            judge_id=judge_id,
            cut_chars=prepared.cut_chars,
            language=prepared.language,
        )

    def _sample(self, requests: Sequence[PreparedRequest]) -> list[list[MeteredSample]]:
        """All samples of every request; those of a list or of a rubric's call are judged together."""
        kinds = ["criteria" if p.call else "alone" if p.task.listing is None else "list" for p in requests]
        own = {kind: [p for p, k in zip(requests, kinds, strict=True) if k == kind] for kind in set(kinds)}
        for prepared in (*own.get("list", ()), *own.get("criteria", ())):
            prepared.check()
        found = {"alone": iter(self._sample_each(own.get("alone", [])))}
        for kind, judge_together in (("list", judge_lists), ("criteria", judge_criteria)):
            if kind in own:
                found[kind] = iter(judge_together(own[kind], self._spec, self._settings, self._engine.engine))
        return [next(found[kind]) for kind in kinds]

    def _sample_each(self, requests: Sequence[PreparedRequest]) -> list[list[MeteredSample]]:
        """K draws of every request in the given order, then K in the swapped order."""
        settings = self._settings
        direct = settings.mode == "direct"
        wrapper = self._spec.direct_wrapper if direct else self._spec.wrapper
        inputs: list[JudgeInput] = []
        verdicts: list[VerdictSet] = []
        swaps: list[list[bool]] = []
        for prepared in requests:
            orders = (False, True) if prepared.is_pair and settings.both_orders else (False,)
            bodies = [prepared.body(swapped=s) for s in orders]
            inputs += [
                JudgeInput(body=body, wrapper=wrapper, sampling=settings.sampling, sample_index=k)
                for body in bodies
                for k in range(settings.n_samples)
            ]
            swaps.append([s for s in orders for _ in range(settings.n_samples)])
            verdicts += [prepared.task.verdicts] * len(swaps[-1])
        # Every template is filled by now, so a wrong field is reported before a model is loaded.
        run = judge_directly if direct else judge_with_critique
        judged = iter(run(inputs, self._engine.engine, self._spec, verdicts, settings.rules))
        return [
            [replace(m, sample=_mapped_back(m.sample)) if s else m for s, m in zip(own, judged, strict=False)]
            for own in swaps
        ]

    def _judgment(
        self, prepared: PreparedRequest, metered: Sequence[MeteredSample], provenance: Provenance
    ) -> Judgment:
        """Average a request's samples, each order by itself first."""
        samples = tuple(m.sample for m in metered)
        given = _average([s.distribution for s in samples if s.distribution and not s.swapped])
        other = _average([s.distribution for s in samples if s.distribution and s.swapped])
        orders = [given, other] if any(s.swapped for s in samples) else [given]
        readable = [d for d in orders if d is not None]
        # One order alone would bring back the slot bias that the other is there to cancel.
        complete = len(readable) == len(orders)
        return _judgment_type(prepared)(
            mode=self._settings.mode,
            distribution=_average(readable) if complete else None,
            samples=samples,
            failure=None if complete else _common_failure(samples),
            usage=metered[0].usage if len(metered) == 1 else sum((m.usage for m in metered), start=Usage()),
            provenance=provenance,
        )


def _judgment_type(prepared: PreparedRequest) -> type[RatingJudgment | PairJudgment]:
    return PairJudgment if prepared.is_pair else RatingJudgment


def _mapped_back(sample: Sample) -> Sample:
    """A sample of the swapped order, in terms of the request's own order."""
    stated = None if sample.stated is None else mirrored(sample.stated)
    distribution = sample.distribution.swapped() if sample.distribution else None
    return replace(sample, swapped=True, stated=stated, distribution=distribution)


def _average(distributions: Sequence[VerdictDistribution]) -> VerdictDistribution | None:
    """The average; one distribution is returned as it is, which saves a fifth of a warm cache's time."""
    return distributions[0] if len(distributions) == 1 else aggregate(distributions)


def _common_failure(samples: Sequence[Sample]) -> Failure:
    """The first failure with the most frequent reason."""
    failures = [s.failure for s in samples if s.failure is not None]
    reason = Counter(f.reason for f in failures).most_common(1)[0][0]
    return next(f for f in failures if f.reason is reason)
