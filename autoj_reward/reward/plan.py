# SPDX-License-Identifier: Apache-2.0
"""Plan a batch: deduplicate requests, and map their judgments back to completions.

Everything here is a function of the batch's texts: several processes that hold the same batch make the same
plan, and can share the judging. Which pairs of a group are compared, and what its comparisons come to, is
the ranking strategies' doing, so that a reward and `rank` give the same group the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from autoj_reward.judgments import PairJudgment, RatingJudgment
from autoj_reward.ranking.evidence import Answers, Compared, Evidence, Round
from autoj_reward.ranking.runner import as_compared
from autoj_reward.ranking.strategies import AllPairs, Ring, Strategy
from autoj_reward.ranking.tiebreak import distinct_completions
from autoj_reward.reward.groups import Item, find_groups
from autoj_reward.types import Request

RewardMode = Literal["rating", "pairwise"]
Schedule = Literal["ring", "all", "baseline"]
"""ring: each completion with its two neighbours in a circle: n comparisons for n completions. all: each with
each: n(n - 1)/2. baseline: each with one given completion: n."""

ALONE = "alone"
_STRATEGIES: dict[Schedule, Strategy] = {"ring": Ring(), "all": AllPairs()}


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRequest:
    """What a judgment comes to; small enough to send to another process.

    Attributes:
        raw: Expected rating, or the first completion's win probability; None with a failure.
        tie_prob: Of a comparison; None where the judge knows no ties.
        reason: Why there is no number, or None.
        critique: What the judge wrote, or None in direct mode.
    """

    raw: float | None
    tie_prob: float | None = None
    reason: str | None = None
    critique: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionScore:
    """What became of one completion.

    Attributes:
        raw: Rating, or win probability; None with a failure.
        reason: Why there is none: one of the failures' reasons, or `alone` for a completion that there was
            nothing to compare with.
        critique: The judge's words about it, or None.
    """

    raw: float | None
    reason: str | None = None
    critique: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlan:
    """The comparisons of one group.

    Attributes:
        members: For each distinct completion its indices in the batch.
        seed: The group's, see `DistinctCompletions`.
        asked: The pairs, by distinct completion.
        requests: For each pair its request's place in the plan.
    """

    members: tuple[tuple[int, ...], ...]
    seed: int
    asked: Round
    requests: tuple[int, ...]

    def outcomes(self, strategy: Strategy, verdicts: Sequence[JudgedRequest]) -> dict[int, CompletionScore]:
        """By index in the batch: each completion's win probability against the rest of the group."""
        judged = [verdicts[n] for n in self.requests]
        evidence = Evidence(n=len(self.members), seed=self.seed)
        answers = tuple(Compared(v.raw, v.tie_prob) for v in judged)
        evidence.add(self.asked, Answers(comparisons=answers))
        shares = strategy.standing(evidence).rewards.tolist()
        found: dict[int, CompletionScore] = {}
        for i, same in enumerate(self.members):
            own = [v for pair, v in zip(self.asked.compare, judged, strict=True) if i in pair]
            raw = None if math.isnan(shares[i]) else shares[i]
            if not own and len(same) > 1:
                raw = 0.5
            reason = None if raw is not None else next((v.reason for v in own if v.reason), ALONE)
            outcome = CompletionScore(raw=raw, reason=reason, critique=own[-1].critique if own else None)
            found.update(dict.fromkeys(same, outcome))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The judging of a batch.

    Attributes:
        items: The batch.
        groups: Its groups, as indices.
        requests: What is judged, each once.
        uses: Each item's request; empty where groups are compared.
        contests: Each group's comparisons; empty otherwise.
        strategy: What chose them.
    """

    items: tuple[Item, ...]
    groups: tuple[tuple[int, ...], ...]
    requests: tuple[Request, ...]
    uses: tuple[int, ...] = ()
    contests: tuple[GroupPlan, ...] = ()
    strategy: Strategy | None = None

    def outcomes(self, verdicts: Sequence[JudgedRequest]) -> list[CompletionScore]:
        """Each item's outcome, from the verdicts on the requests, in their order."""
        if self.strategy is None:
            return [
                CompletionScore(raw=v.raw, reason=v.reason, critique=v.critique)
                for v in (verdicts[n] for n in self.uses)
            ]
        found: dict[int, CompletionScore] = {}
        for contest in self.contests:
            found |= contest.outcomes(self.strategy, verdicts)
        return [found[i] for i in range(len(self.items))]


def make_plan(items: Sequence[Item], mode: RewardMode, schedule: Schedule = "ring") -> Plan:
    """Plan a batch.

    Args:
        items: The batch's completions.
        mode: rating: each completion by itself. pairwise: against others.
        schedule: Which others.
    """
    groups = find_groups(items)
    numbers: dict[tuple[object, ...], int] = {}
    requests: list[Request] = []

    def number(item: Item, *completions: str) -> int:
        key = (item.prompt, item.rubric, item.reference, item.language, *completions)
        if key not in numbers:
            numbers[key] = len(requests)
            requests.append(
                Request(
                    prompt=item.prompt,
                    completions=completions,
                    rubric=item.rubric,
                    reference=item.reference,
                    language=item.language,
                )
            )
        return numbers[key]

    def contest(group: Sequence[int], strategy: Strategy) -> GroupPlan:
        distinct = distinct_completions(items[group[0]].prompt, [items[i].completion for i in group])
        members = tuple(tuple(group[m] for m in same) for same in distinct.members)
        evidence = Evidence(n=len(members), seed=distinct.seed)
        asked = evidence.new(next(strategy.rounds(evidence)))
        firsts = [items[same[0]] for same in members]
        pairs = [number(firsts[i], firsts[i].completion, firsts[j].completion) for i, j in asked.compare]
        return GroupPlan(members=members, seed=distinct.seed, asked=asked, requests=tuple(pairs))

    strategy = _STRATEGIES[schedule] if mode == "pairwise" and schedule != "baseline" else None
    uses: list[int] = []
    contests: list[GroupPlan] = []
    if strategy is not None:
        contests = [contest(group, strategy) for group in groups]
    elif mode == "rating":
        uses = [number(item, item.completion) for item in items]
    else:
        uses = [number(item, item.completion, item.baseline or "") for item in items]
    return Plan(
        items=tuple(items),
        groups=tuple(tuple(g) for g in groups),
        requests=tuple(requests),
        uses=tuple(uses),
        contests=tuple(contests),
        strategy=strategy,
    )


def judged_request(judgment: RatingJudgment | PairJudgment) -> JudgedRequest:
    """A judgment's verdict."""
    failure = judgment.failure
    return JudgedRequest(
        raw=judgment.reward,
        tie_prob=as_compared(judgment).tie_prob if isinstance(judgment, PairJudgment) else None,
        reason=None if failure is None else failure.reason.value,
        critique=judgment.critique,
    )
