# SPDX-License-Identifier: Apache-2.0
"""Best of N: order the completions of each prompt by a judge's reward."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.layout import completion_text, prompt_text
from autoj_reward.judgments import RatingJudgment
from autoj_reward.types import Request, Text


@dataclass(frozen=True, slots=True)
class Candidate:
    """One completion of a group: its index in the group, and its judgment."""

    index: int
    judgment: RatingJudgment

    @property
    def reward(self) -> float | None:
        """Expected rating on the judge's scale; None with a failure."""
        return self.judgment.reward


@dataclass(frozen=True, slots=True)
class Ranking:
    """A group's completions, best first; those without a verdict stand last.

    Equal rewards are ordered by a hash of prompt and completion: stable, the same in every run, and
    blind to where a completion stood.
    """

    candidates: tuple[Candidate, ...]

    @property
    def best(self) -> int | None:
        """Index of the best completion; None where not one has a verdict."""
        first = self.candidates[0]
        return None if first.reward is None else first.index


def rank(
    judge: Judge,
    prompts: Sequence[Text],
    groups: Sequence[Sequence[Text]],
    *,
    rubrics: Sequence[str | None] | None = None,
    references: Sequence[str | None] | None = None,
) -> list[Ranking]:
    """Rank the completions of each prompt, all groups in one batch.

    Args:
        judge: Rates the completions.
        prompts: B prompts.
        groups: B groups of completions; sizes may differ, none may be empty.
        rubrics: B rubrics or None each, for templates that take one.
        references: B reference answers or None each, likewise.

    Returns:
        B rankings in the same order.

    Raises:
        ConfigError: Lengths differ, or a group is empty.
        TemplateError: The template takes no rubric or reference, or needs one.
        EngineError: The engine failed as a whole.
    """
    columns = {"groups": groups, "rubrics": rubrics, "references": references}
    for name, column in columns.items():
        if column is not None and len(column) != len(prompts):
            raise ConfigError(f"there are {len(prompts)} prompts and {len(column)} {name}")
    if empty := [i for i, group in enumerate(groups) if len(group) == 0]:
        raise ConfigError(f"groups {empty} hold no completion")
    requests = [
        Request(
            prompt=prompt,
            completions=(completion,),
            rubric=rubrics[i] if rubrics is not None else None,
            reference=references[i] if references is not None else None,
        )
        for i, (prompt, group) in enumerate(zip(prompts, groups, strict=True))
        for completion in group
    ]
    judgments = iter(judge.rate_requests(requests))
    return [
        rank_judged(prompt, group, [next(judgments) for _ in group])
        for prompt, group in zip(prompts, groups, strict=True)
    ]


def best_of_n(
    judge: Judge,
    prompts: Sequence[Text],
    groups: Sequence[Sequence[Text]],
    *,
    n_best: int = 1,
) -> list[list[Text]]:
    """The best completions of each prompt.

    Args:
        judge: Rates the completions.
        prompts: B prompts.
        groups: B groups of completions.
        n_best: How many of each group, best first; at least 1.

    Returns:
        B lists of at most `n_best` completions. Completions without a verdict are left out, so a list
        may be shorter, or empty.

    Raises:
        ConfigError: `n_best` is below 1, lengths differ, or a group is empty.
        EngineError: The engine failed as a whole.
    """
    if n_best < 1:
        raise ConfigError(f"n_best = {n_best} is not at least 1")
    return [
        [group[c.index] for c in ranking.candidates if c.reward is not None][:n_best]
        for group, ranking in zip(groups, rank(judge, prompts, groups), strict=True)
    ]


def rank_judged(prompt: Text, group: Sequence[Text], judgments: Sequence[RatingJudgment]) -> Ranking:
    """Order one group by judgments that are there already: one for each completion, in their order."""

    def order(candidate: Candidate) -> tuple[bool, float, str]:
        reward = candidate.reward
        return (reward is None, -(reward or 0.0), _lot(prompt, group[candidate.index]))

    return Ranking(tuple(sorted((Candidate(i, j) for i, j in enumerate(judgments)), key=order)))


def _lot(prompt: Text, completion: Text) -> str:
    text = prompt_text(prompt) + "\x00" + completion_text(completion)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
