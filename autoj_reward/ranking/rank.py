# SPDX-License-Identifier: Apache-2.0
"""Best of N: rank the completions of each prompt with a judge and a strategy."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.columns import as_column, as_groups
from autoj_reward.judgments import RatingJudgment
from autoj_reward.ranking.budgeted import Budgeted
from autoj_reward.ranking.evidence import Answers, Evidence, Round
from autoj_reward.ranking.orders import RESOLUTION, Ranking, make_ranking
from autoj_reward.ranking.runner import JudgeOracle, as_rated, check_judge, run_strategy
from autoj_reward.ranking.strategies import Pointwise, Strategy
from autoj_reward.ranking.tiebreak import distinct_completions
from autoj_reward.types import Request, Text

logger = logging.getLogger("autoj_reward")


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
        references: B reference answers or None each, for templates that take one.
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
        rankings.append(make_ranking(strategy, e, evidence, rated, compared, resolution))
    _note_without_comparison(strategy, evidences)
    return rankings


def _note_without_comparison(strategy: Strategy, evidences: Sequence[Evidence]) -> None:
    """Warn if a budget paid for ratings alone: that is the pointwise strategy under another name."""
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
        references: B reference answers or None each, for templates that take one.
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
    """Order one group by judgments that were made before: one for each completion, in their order."""
    entrants = distinct_completions(prompt, group)
    evidence = Evidence(n=len(entrants.members), seed=entrants.seed)
    rated = {i: judgments[members[0]] for i, members in enumerate(entrants.members)}
    evidence.add(Round(rate=tuple(rated)), Answers(ratings=tuple(map(as_rated, rated.values()))))
    return make_ranking(Pointwise(), entrants, evidence, rated, {}, resolution)
