# SPDX-License-Identifier: Apache-2.0
"""Plan a batch: deduplicate requests, and map their judgments back to completions.

Everything here is a function of the batch's texts: several processes that hold the same batch make the same
plan, and can share the judging.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from autoj_reward.judgments import PairJudgment, RatingJudgment
from autoj_reward.reward.groups import Item, find_groups
from autoj_reward.reward.pairs import Schedule, group_pairs, mean_wins
from autoj_reward.types import Request

RewardMode = Literal["rating", "pairwise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRequest:
    """What a judgment comes to; small enough to send to another process.

    Attributes:
        raw: Expected rating, or the first completion's win probability; None with a failure.
        reason: Why there is none, or None.
        critique: What the judge wrote, or None in direct mode.
    """

    raw: float | None
    reason: str | None = None
    critique: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionScore:
    """What became of one completion.

    Attributes:
        raw: Rating, or mean win probability; None with a failure.
        reason: Why there is none: one of the failures' reasons, or `alone` for a completion that there was
            nothing to compare with.
        critique: The judge's words about it, or None.
    """

    raw: float | None
    reason: str | None = None
    critique: str | None = None


ALONE = "alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The judging of a batch.

    Attributes:
        mode: rating or pairwise.
        schedule: For pairwise.
        items: The batch.
        groups: Its groups, as indices.
        requests: What is judged, each once.
        uses: For rating and baseline, each item's request. For groups, each group's requests.
    """

    mode: RewardMode
    schedule: Schedule
    items: tuple[Item, ...]
    groups: tuple[tuple[int, ...], ...]
    requests: tuple[Request, ...]
    uses: tuple[tuple[int, ...], ...]

    def outcomes(self, verdicts: Sequence[JudgedRequest]) -> list[CompletionScore]:
        """Each item's outcome, from the verdicts on the requests, in their order."""
        if self.mode == "rating" or self.schedule == "baseline":
            return [
                CompletionScore(raw=v.raw, reason=v.reason, critique=v.critique)
                for v in (verdicts[used[0]] for used in self.uses)
            ]
        results: list[CompletionScore | None] = [None] * len(self.items)
        for group, used in zip(self.groups, self.uses, strict=True):
            pairs = group_pairs(self.items, group, self.schedule)
            judged = [verdicts[n] for n in used]
            means = mean_wins(self.items, group, self.schedule, [v.raw for v in judged])
            about = {
                tiebreak_hash: v
                for pair, v in zip(pairs, judged, strict=True)
                for tiebreak_hash in self._lots(pair)
            }
            failed = {
                tiebreak_hash: v.reason
                for pair, v in zip(pairs, judged, strict=True)
                if v.reason is not None
                for tiebreak_hash in self._lots(pair)
            }
            for i, raw in means.items():
                tiebreak_hash = self.items[i].tiebreak_hash
                reason = None if raw is not None else failed.get(tiebreak_hash, ALONE)
                critique = about[tiebreak_hash].critique if tiebreak_hash in about else None
                results[i] = CompletionScore(raw=raw, reason=reason, critique=critique)
        return [r for r in results if r is not None]

    def _lots(self, pair: tuple[int, int]) -> tuple[str, str]:
        return self.items[pair[0]].tiebreak_hash, self.items[pair[1]].tiebreak_hash


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

    uses: list[tuple[int, ...]]
    if mode == "rating":
        uses = [(number(item, item.completion),) for item in items]
    elif schedule == "baseline":
        uses = [(number(item, item.completion, item.baseline or ""),) for item in items]
    else:
        uses = [
            tuple(
                number(items[i], items[i].completion, items[j].completion)
                for i, j in group_pairs(items, group, schedule)
            )
            for group in groups
        ]
    return Plan(
        mode=mode,
        schedule=schedule,
        items=tuple(items),
        groups=tuple(tuple(g) for g in groups),
        requests=tuple(requests),
        uses=tuple(uses),
    )


def judged_request(judgment: RatingJudgment | PairJudgment) -> JudgedRequest:
    """A judgment's verdict."""
    failure = judgment.failure
    return JudgedRequest(
        raw=judgment.reward,
        reason=None if failure is None else failure.reason.value,
        critique=judgment.critique,
    )
