# SPDX-License-Identifier: Apache-2.0
"""Plan a batch: deduplicate requests, and map their judgments back to completions.

A plan depends only on the batch's texts, so processes that hold the same batch make the same plan and can
share the judging. Ranking strategies choose the pairs and turn comparisons into win probabilities, so a
reward and `rank` give a group the same numbers.
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
class RawScore:
    """The judge's number for a request or a completion; small enough to send to another process.

    Attributes:
        raw: Expected rating, or win probability (of a comparison's first completion); None with a failure.
        tie_prob: Tie probability of a comparison; None if the judge has no ties.
        reason: Why there is no number: a failure's reason, or `alone` for the only completion of a group.
        critique: The judge's critique; None in direct mode.
    """

    raw: float | None
    tie_prob: float | None = None
    reason: str | None = None
    critique: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlan:
    """The comparisons of one group.

    Attributes:
        members: For each distinct completion its indices in the batch.
        seed: The group's seed, see `DistinctCompletions`.
        asked: The pairs to compare, as indices of distinct completions.
        requests: For each pair the index of its request in the plan.
    """

    members: tuple[tuple[int, ...], ...]
    seed: int
    asked: Round
    requests: tuple[int, ...]

    def scores(self, strategy: Strategy, judged: Sequence[RawScore]) -> dict[int, RawScore]:
        """Each completion's win probability against the rest of its group, by index in the batch."""
        compared = [judged[n] for n in self.requests]
        evidence = Evidence(n=len(self.members), seed=self.seed)
        evidence.add(self.asked, Answers(comparisons=tuple(Compared(s.raw, s.tie_prob) for s in compared)))
        shares = strategy.standing(evidence).rewards.tolist()
        found: dict[int, RawScore] = {}
        for i, same in enumerate(self.members):
            own = [s for pair, s in zip(self.asked.compare, compared, strict=True) if i in pair]
            raw = None if math.isnan(shares[i]) else shares[i]
            if not own and len(same) == 1:
                # Even with itself, which is no number to train on.
                raw = None
            reason = None if raw is not None else next((s.reason for s in own if s.reason), ALONE)
            score = RawScore(raw=raw, reason=reason, critique=own[-1].critique if own else None)
            found.update(dict.fromkeys(same, score))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The requests of a batch and how their judgments map to its completions.

    Attributes:
        items: The batch.
        groups: Its groups, as indices.
        requests: The distinct requests.
        uses: For each item the index of its request; empty if completions of a group are compared.
        contests: The comparisons of each group; empty otherwise.
        strategy: What chose them; None otherwise.
    """

    items: tuple[Item, ...]
    groups: tuple[tuple[int, ...], ...]
    requests: tuple[Request, ...]
    uses: tuple[int, ...] = ()
    contests: tuple[GroupPlan, ...] = ()
    strategy: Strategy | None = None

    def cuts(self, n_shares: int, *, whole_groups: bool) -> list[int]:
        """Where the requests are cut into shares, 0 and their number included.

        With `whole_groups` requests of one prompt that follow each other stay together, for judges that rate
        several completions in one call.
        """
        n, prompts = len(self.requests), [r.prompt for r in self.requests]
        cuts = [n * share // n_shares for share in range(n_shares + 1)]
        for k, cut in enumerate(cuts if whole_groups else ()):
            while 0 < cut < n and prompts[cut] == prompts[cut - 1]:
                cut += 1
            cuts[k] = cut
        return cuts

    def scores(self, judged: Sequence[RawScore]) -> list[RawScore]:
        """The score of each item, from those of the requests."""
        if self.strategy is None:
            return [judged[n] for n in self.uses]
        found: dict[int, RawScore] = {}
        for contest in self.contests:
            found |= contest.scores(self.strategy, judged)
        return [found[i] for i in range(len(self.items))]


def make_plan(items: Sequence[Item], mode: RewardMode, schedule: Schedule = "ring") -> Plan:
    """Plan a batch: rate each completion, or compare it with those that the schedule selects."""
    groups = find_groups(items)
    numbers: dict[tuple[object, ...], int] = {}
    requests: list[Request] = []

    def number(item: Item, *completions: str) -> int:
        key = (*item.group, *completions)
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


def raw_score(judgment: RatingJudgment | PairJudgment) -> RawScore:
    """Reduce a judgment to what rewards need."""
    failure = judgment.failure
    return RawScore(
        raw=judgment.reward,
        tie_prob=as_compared(judgment).tie_prob if isinstance(judgment, PairJudgment) else None,
        reason=None if failure is None else failure.reason.value,
        critique=judgment.critique,
    )
