# SPDX-License-Identifier: Apache-2.0
"""A member of a panel: a judge that is given what it takes, and that may compare by its ratings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from autoj_reward.distributions import VerdictDistribution
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.panels.combine import by_ratings
from autoj_reward.judge.panels.spec import MemberSpec
from autoj_reward.judge.spec import OPTIONAL_FIELDS
from autoj_reward.judgments import Judgment, PairJudgment, Provenance, RatingJudgment, Sample
from autoj_reward.types import Failure, Request, Usage


@dataclass(frozen=True, slots=True)
class Member:
    """A judge and its place in a panel.

    Attributes:
        spec: Name, weight, and how it compares.
        judge: Who judges.
    """

    spec: MemberSpec
    judge: Judge

    def can_judge(self, n_completions: int) -> bool:
        """Whether it judges requests of one completion, or of two."""
        return self.spec.tasks(n_completions) is not None

    def taken(self, n_completions: int) -> frozenset[str]:
        """Which of rubric and reference its template shows."""
        task = self.spec.tasks(n_completions)
        return frozenset() if task is None else task.fields & OPTIONAL_FIELDS

    def inputs_per_request(self, n_completions: int) -> int:
        """Inputs to its model for each request."""
        if not self.can_judge(n_completions):
            return 0
        settings = self.judge.settings
        both = n_completions == 2 and (settings.both_orders or self.spec.rates_to_compare)
        return settings.n_samples * (2 if both else 1)

    def check(self, requests: Sequence[Request]) -> None:
        """See `Judge.check`."""
        self.judge.check([r for request in requests for r in self._asked(request)])

    def judge_requests(self, requests: Sequence[Request]) -> list[Judgment]:
        """A judgment of each request, in the same order; a comparison by ratings is a comparison."""
        asked = [self._asked(request) for request in requests]
        judged = iter(self.judge.judge_requests([r for own in asked for r in own]))
        found: list[Judgment] = []
        for request, own in zip(requests, asked, strict=True):
            if len(request.completions) == len(own[0].completions):
                found.append(next(judged))
            else:
                first, second = cast(RatingJudgment, next(judged)), cast(RatingJudgment, next(judged))
                found.append(self._compared(self.judge.shown(request), first, second))
        return found

    def missing(self, request: Request, failure: Failure) -> RatingJudgment | PairJudgment:
        """The judgment of a member whose engine failed as a whole."""
        kind = RatingJudgment if len(request.completions) == 1 else PairJudgment
        return kind(
            mode=self.judge.settings.mode,
            distribution=None,
            samples=(Sample(failure=failure),),
            failure=failure,
            usage=Usage(),
            provenance=Provenance(
                judge=self.judge.spec.name, template=self.judge.spec.fingerprint, engine=""
            ),
        )

    def _asked(self, request: Request) -> list[Request]:
        """What the judge is asked about a request."""
        if len(request.completions) == 2 and self.spec.rates_to_compare:
            return [replace(request, completions=(completion,)) for completion in request.completions]
        return [request]

    def _compared(self, shown: Request, first: RatingJudgment, second: RatingJudgment) -> PairJudgment:
        """Two ratings as one comparison, the same in both orders."""
        rated = [first.distribution, second.distribution]
        distribution: VerdictDistribution | None = None
        samples: tuple[Sample, ...] = ()
        by_rule = shown.completions[0] == shown.completions[1] or (first.by_rule and second.by_rule)
        if rated[0] is not None and rated[1] is not None:
            distribution = by_ratings(rated[0], rated[1])
            if shown.completions[0] == shown.completions[1]:
                distribution = replace(distribution, probs=(0.0, 0.0, 1.0))
        if not by_rule:
            critique = "\n\n".join(f"{j.critique}" for j in (first, second) if j.critique)
            failure = first.failure or second.failure
            orders = (False, True) if self.judge.settings.both_orders else (False,)
            one = Sample(critique=critique, distribution=distribution, failure=failure)
            samples = tuple(replace(one, swapped=swapped) for swapped in orders)
        cuts = first.provenance.cut_chars + second.provenance.cut_chars
        return PairJudgment(
            mode=first.mode,
            distribution=distribution,
            samples=samples,
            failure=first.failure or second.failure,
            usage=first.usage + second.usage,
            provenance=replace(first.provenance, cut_chars=cuts),
            flags=first.flags + second.flags,
            penalties=first.penalties + second.penalties,
            by_rule=by_rule and distribution is not None,
        )
