# SPDX-License-Identifier: Apache-2.0
"""Best of N: rank the completions of each prompt with a judge and a strategy."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from autoj_reward.errors import ConfigError
from autoj_reward.judge.columns import as_column, as_groups
from autoj_reward.judge.judge import Judge
from autoj_reward.judgments import Judgment, PairJudgment, RatingJudgment
from autoj_reward.ranking.bradley_terry import cyclic_triads, find_cycles
from autoj_reward.ranking.budgeted import Budgeted
from autoj_reward.ranking.evidence import Answers, Evidence, Round
from autoj_reward.ranking.runner import JudgeOracle, as_rated, check_judge, run_strategy
from autoj_reward.ranking.strategies import Pointwise, Standing, Strategy
from autoj_reward.ranking.tiebreak import DistinctCompletions, distinct_completions
from autoj_reward.types import Failure, Request, Text, Usage

logger = logging.getLogger("autoj_reward")

RESOLUTION = 1e-4
"""Rewards closer than this tie. Ten times what two engines differ by in float32; in bfloat16 they differ by
up to 0.06."""

_MIDDLE = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One completion of a group.

    Attributes:
        index: Where it stands in its group.
        judgment: Its rating; None where the strategy did not rate.
        reward: With pointwise strategies the expected (or greedy) rating on the judge's scale; with those
            that compare, the mean win probability against the rest of the group, in [0, 1], by the fitted
            strengths. None without any verdict.
        low: Lower end of an interval of 95%: of a rating the middle of its own distribution, which says how
            sure the judge is; of a win probability the error that the comparisons leave. None with reward.
        high: Its upper end.
        best_prob: Probability that it is the best for this judge; None where nothing was compared.
    """

    index: int
    judgment: RatingJudgment | None
    reward: float | None = None
    low: float | None = None
    high: float | None = None
    best_prob: float | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """A group's completions, best first; those without a verdict stand last.

    Rewards within the resolution of the best among them tie. Ties are ordered by a hash of prompt and
    completion: stable, the same in every run, and blind to where a completion stood. Completions of equal
    text are judged once and stand together.

    Attributes:
        candidates: Best first.
        tied_best: Indices that tie for the first place, ascending; empty where nothing has a verdict.
        strategy: How they were ordered.
        n_calls: Judge calls spent: one for each draw of a rating, one for each draw and order of a
            comparison.
        comparisons: Judgments of pairs, by the indices of their first and second completion.
        cycles: Sets of completions that beat each other in a circle.
        cyclic_triads: How many triples go in a circle, of how many whose three pairs were all decided.
    """

    candidates: tuple[Candidate, ...]
    tied_best: tuple[int, ...] = ()
    strategy: str = "pointwise"
    n_calls: int = 0
    comparisons: Mapping[tuple[int, int], PairJudgment] = field(default_factory=dict)
    cycles: tuple[tuple[int, ...], ...] = ()
    cyclic_triads: tuple[int, int] = (0, 0)

    @property
    def best(self) -> int | None:
        """Index of the best completion; None where not one has a verdict."""
        first = self.candidates[0]
        return None if first.reward is None else first.index

    @property
    def ranks(self) -> list[int | None]:
        """For each completion, in the group's order, its place from 1; None without a verdict."""
        places = {c.index: None if c.reward is None else p for p, c in enumerate(self.candidates, start=1)}
        return [places[i] for i in range(len(places))]

    @property
    def rewards(self) -> list[float | None]:
        """For each completion, in the group's order, its reward; None without a verdict."""
        return [c.reward for c in sorted(self.candidates, key=lambda c: c.index)]

    @property
    def judgments(self) -> list[Judgment]:
        """Every judgment made for the ranking, once."""
        rated = {id(c.judgment): c.judgment for c in self.candidates if c.judgment is not None}
        return [*rated.values(), *self.comparisons.values()]

    def failure(self, index: int) -> Failure | None:
        """Why a completion has no verdict: its rating's failure, else that of a comparison; None with one."""
        candidate = next(c for c in self.candidates if c.index == index)
        if candidate.reward is not None:
            return None
        own = [candidate.judgment] if candidate.judgment is not None else []
        copies = [pair for pair in self.comparisons if index in pair]
        failures = [j.failure for j in (*own, *(self.comparisons[p] for p in copies)) if j.failure]
        return failures[0] if failures else None

    @property
    def usage(self) -> Usage:
        """Tokens of all judgments."""
        return sum((j.usage for j in self.judgments), start=Usage())


def rank(
    judge: Judge,
    prompts: Sequence[Text],
    groups: Sequence[Sequence[Text]],
    *,
    strategy: Strategy | None = None,
    rubrics: Sequence[str | None] | None = None,
    references: Sequence[str | None] | None = None,
    languages: Sequence[str | None] | None = None,
    resolution: float = RESOLUTION,
) -> list[Ranking]:
    """Rank the completions of each prompt, each round of all groups in one batch.

    Args:
        judge: Judges the completions.
        prompts: B prompts.
        groups: B groups of completions; sizes may differ, none may be empty.
        strategy: How; None rates each completion once and orders by expected rating.
        rubrics: B rubrics or None each, for templates that take one.
        references: B reference answers or None each, likewise.
        languages: B language codes or None each, for judges with templates in several.
        resolution: Rewards closer than this tie; at least 0.

    Returns:
        B rankings in the same order.

    Raises:
        ConfigError: Lengths differ, a group is empty, or the judge cannot answer what the strategy asks.
        TemplateError: The template takes no rubric or reference, or needs one.
        EngineError: The engine failed as a whole.
    """
    requests = group_requests(prompts, groups, rubrics, references, languages)
    return rank_requests(judge, requests, strategy=strategy, resolution=resolution)


def group_requests(
    prompts: Sequence[Text],
    groups: Sequence[Sequence[Text]],
    rubrics: Sequence[str | None] | None,
    references: Sequence[str | None] | None,
    languages: Sequence[str | None] | None = None,
) -> list[list[Request]]:
    """A request of one completion for each completion of each group.

    Raises:
        ConfigError: Lengths differ, a group is a text or empty, or something is no list.
    """
    prompts = as_column("prompts", prompts)
    groups = as_groups("groups", groups, len(prompts))
    columns = {"rubrics": rubrics, "references": references, "languages": languages}
    given = {
        name: as_column(name, values, len(prompts)) for name, values in columns.items() if values is not None
    }
    return [
        [
            Request(
                prompt=prompt,
                completions=(completion,),
                **{name.removesuffix("s"): values[i] for name, values in given.items()},
            )
            for completion in group
        ]
        for i, (prompt, group) in enumerate(zip(prompts, groups, strict=True))
    ]


def shown_groups(judge: Judge, groups: Sequence[Sequence[Request]]) -> list[list[Request]]:
    """Groups with the texts that the judge is shown.

    Raises:
        ConfigError: A prompt or completion is neither text nor messages, or cannot be shown.
    """
    shown: list[list[Request]] = []
    for g, group in enumerate(groups):
        shown.append([])
        for i, request in enumerate(group):
            try:
                shown[g].append(judge.shown(request))
            except ConfigError as error:
                raise ConfigError(f"group {g}, completion {i}: {error.args[0]}", hint=error.hint) from None
    return shown


def rank_requests(
    judge: Judge,
    groups: Sequence[Sequence[Request]],
    *,
    strategy: Strategy | None = None,
    resolution: float = RESOLUTION,
) -> list[Ranking]:
    """`rank` for groups of requests of one completion each, and of one prompt in each group."""
    if resolution < 0:
        raise ConfigError(f"resolution = {resolution} is below 0")
    strategy = strategy or Pointwise()
    check_judge(judge, strategy)
    groups = shown_groups(judge, groups)
    entrants = [distinct_completions(g[0].prompt, [r.completions[0] for r in g]) for g in groups]
    distinct = [[g[m[0]] for m in e.members] for g, e in zip(groups, entrants, strict=True)]
    referee = JudgeOracle(judge, distinct)
    evidences = run_strategy(strategy, [(len(e.members), e.seed) for e in entrants], referee)
    rankings = []
    for g, (e, evidence) in enumerate(zip(entrants, evidences, strict=True)):
        rated = {i: referee.ratings[g, i] for i in evidence.ratings}
        compared = {(i, j): referee.comparisons[g, i, j] for i, j in evidence.comparisons}
        rankings.append(_ranking(strategy, e, evidence, rated, compared, resolution))
    _note_without_comparison(strategy, evidences)
    return rankings


def _note_without_comparison(strategy: Strategy, evidences: Sequence[Evidence]) -> None:
    """Say so where a budget paid for ratings alone: that is the pointwise strategy under another name."""
    if not isinstance(strategy, Budgeted) or (strategy.calls is None and strategy.tokens is None):
        return
    rated = [e for e in evidences if e.n > 1 and not e.comparisons]
    if rated:
        logger.warning(
            "the budget paid for ratings alone in %d of %d groups: %s allows no comparison there; raise it, "
            "or use the strategy pointwise",
            len(rated),
            len(evidences),
            f"calls={strategy.calls}" if strategy.tokens is None else f"tokens={strategy.tokens}",
        )


def best_of_n(
    judge: Judge,
    prompts: Sequence[Text],
    groups: Sequence[Sequence[Text]],
    *,
    n_best: int = 1,
    strategy: Strategy | None = None,
    rubrics: Sequence[str | None] | None = None,
    references: Sequence[str | None] | None = None,
    languages: Sequence[str | None] | None = None,
) -> list[list[Text]]:
    """The best completions of each prompt.

    Args:
        judge: Judges the completions.
        prompts: B prompts.
        groups: B groups of completions.
        n_best: How many of each group, best first; at least 1.
        strategy: How; None rates each completion once.
        rubrics: B rubrics or None each, for templates that take one.
        references: B reference answers or None each, likewise.
        languages: B language codes or None each, for judges with templates in several.

    Returns:
        B lists of at most `n_best` completions. Completions without a verdict are left out, so a list
        may be shorter, or empty.

    Raises:
        ConfigError: `n_best` is below 1, lengths differ, or a group is empty.
        EngineError: The engine failed as a whole.
    """
    if n_best < 1:
        raise ConfigError(f"n_best = {n_best} is not at least 1")
    rankings = rank(
        judge,
        prompts,
        groups,
        strategy=strategy,
        rubrics=rubrics,
        references=references,
        languages=languages,
    )
    return [found[:n_best] for found in _in_order(groups, rankings)]


def worst_of_n(
    judge: Judge,
    prompts: Sequence[Text],
    groups: Sequence[Sequence[Text]],
    *,
    n_worst: int = 1,
    strategy: Strategy | None = None,
    rubrics: Sequence[str | None] | None = None,
    references: Sequence[str | None] | None = None,
    languages: Sequence[str | None] | None = None,
) -> list[list[Text]]:
    """The worst completions of each prompt: `best_of_n` from the other end, the worst first."""
    if n_worst < 1:
        raise ConfigError(f"n_worst = {n_worst} is not at least 1")
    rankings = rank(
        judge,
        prompts,
        groups,
        strategy=strategy,
        rubrics=rubrics,
        references=references,
        languages=languages,
    )
    return [found[::-1][:n_worst] for found in _in_order(groups, rankings)]


def _in_order(groups: Sequence[Sequence[Text]], rankings: Sequence[Ranking]) -> list[list[Text]]:
    """The completions that have a verdict, best first."""
    return [
        [group[c.index] for c in ranking.candidates if c.reward is not None]
        for group, ranking in zip(groups, rankings, strict=True)
    ]


def rank_judged(
    prompt: Text,
    group: Sequence[Text],
    judgments: Sequence[RatingJudgment],
    *,
    resolution: float = RESOLUTION,
) -> Ranking:
    """Order one group by judgments that are there already: one for each completion, in their order."""
    entrants = distinct_completions(prompt, group)
    evidence = Evidence(n=len(entrants.members), seed=entrants.seed)
    rated = {i: judgments[members[0]] for i, members in enumerate(entrants.members)}
    evidence.add(Round(rate=tuple(rated)), Answers(ratings=tuple(map(as_rated, rated.values()))))
    return _ranking(Pointwise(), entrants, evidence, rated, {}, resolution)


def order(standing: Standing, resolution: float) -> list[list[int]]:
    """Entrants in blocks of those that tie, best block first; those without a reward are in none.

    A block is led by its best, and holds all of its tier whose rewards are within the resolution of it.
    """
    known = np.flatnonzero(~np.isnan(standing.rewards)).tolist()
    known.sort(key=lambda i: (-standing.tiers[i], -standing.rewards[i], i))
    blocks: list[list[int]] = []
    for i in known:
        leads = blocks and blocks[-1][0]
        if (
            blocks
            and standing.tiers[leads] == standing.tiers[i]
            and standing.rewards[leads] - standing.rewards[i] <= resolution
        ):
            blocks[-1].append(i)
        else:
            blocks.append([i])
    return [sorted(block) for block in blocks]


def tied_best(standing: Standing, resolution: float) -> list[int]:
    """Entrants that tie for the first place."""
    blocks = order(standing, resolution)
    return blocks[0] if blocks else []


def _ranking(
    strategy: Strategy,
    entrants: DistinctCompletions,
    evidence: Evidence,
    rated: Mapping[int, RatingJudgment],
    compared: Mapping[tuple[int, int], PairJudgment],
    resolution: float,
) -> Ranking:
    standing = strategy.standing(evidence)
    blocks = order(standing, resolution)
    last = sorted(set(range(evidence.n)) - {i for block in blocks for i in block})
    members = entrants.members
    candidates = tuple(
        _candidate(index, i, standing, rated.get(i))
        for i in [i for block in blocks for i in block] + last
        for index in members[i]
    )
    beats = evidence.beats(resolution)
    return Ranking(
        candidates=candidates,
        tied_best=tuple(sorted(m for i in (blocks[0] if blocks else []) for m in members[i])),
        strategy=strategy.name,
        n_calls=evidence.n_calls,
        comparisons={(members[i][0], members[j][0]): judgment for (i, j), judgment in compared.items()},
        cycles=tuple(tuple(sorted(m for i in cycle for m in members[i])) for cycle in find_cycles(beats)),
        cyclic_triads=cyclic_triads(beats),
    )


def _candidate(index: int, i: int, standing: Standing, judgment: RatingJudgment | None) -> Candidate:
    low, high = _number(standing.lows[i]), _number(standing.highs[i])
    reward = _number(standing.rewards[i])
    if low is None and reward is not None and judgment is not None:
        low, high = _middle(judgment)
    best_prob = None if standing.best_prob is None else float(standing.best_prob[i])
    return Candidate(index, judgment, reward, low, high, best_prob)


def _middle(judgment: RatingJudgment) -> tuple[float | None, float | None]:
    """Between which ratings the middle 95% of a rating's distribution lies."""
    distribution = judgment.distribution
    if distribution is None:
        return None, None
    ratings = sorted(zip(distribution.verdicts, distribution.probs, strict=True), key=lambda vp: vp[0])
    below = np.cumsum([p for _, p in ratings])
    low, high = (min(int(np.searchsorted(below, q - 1e-12)), len(ratings) - 1) for q in _MIDDLE)
    return float(ratings[low][0]), float(ratings[high][0])


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
