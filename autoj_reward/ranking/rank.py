# SPDX-License-Identifier: Apache-2.0
"""Rank the completions of each prompt with a judge and a strategy; best of N."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, overload

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.columns import as_column, as_groups
from autoj_reward.judge.requests import as_rubrics
from autoj_reward.judgments import RatingJudgment
from autoj_reward.ranking.budgeted import Budgeted
from autoj_reward.ranking.evidence import Answers, Evidence, Round
from autoj_reward.ranking.orders import Ranking, make_ranking
from autoj_reward.ranking.resolution import ranking_resolution
from autoj_reward.ranking.runner import JudgeOracle, as_rated, check_judge, run_strategy
from autoj_reward.ranking.strategies import Pointwise, Strategy
from autoj_reward.ranking.tiebreak import distinct_completions
from autoj_reward.types import Message, Request, Rubrics, Text

logger = logging.getLogger("autoj_reward")


def rank(
    judge: Judge,
    prompts: Sequence[Text],
    groups: Sequence[Sequence[Text]],
    *,
    strategy: Strategy | None = None,
    rubrics: Rubrics | None = None,
    references: Sequence[str | None] | None = None,
    languages: Sequence[str | None] | None = None,
    resolution: float | None = None,
) -> list[Ranking]:
    """Rank the completions of each prompt, each round of all groups in one batch.

    Args:
        judge: The judge.
        prompts: B prompts.
        groups: B groups of completions; sizes may differ, none may be empty.
        strategy: The strategy; None is `Pointwise()`: rate each completion once.
        rubrics: B rubrics or None each: texts, for templates that take one, or `Rubric`s of criteria.
        references: B reference answers or None each, likewise.
        languages: B language codes or None each, for judges with templates in several languages.
        resolution: Rewards closer than this tie; at least 0. None is the step to which trainers' rewards are
            rounded: 0.1 rating points on a scale of nine and 0.03 in win probability, in float32 0.001 and
            0.0001.

    Returns:
        B rankings in the same order.

    Raises:
        ConfigError: Lengths differ, a group is empty, or the judge lacks what the strategy needs.
        TemplateError: The template does not take a rubric or reference, or needs one.
        EngineError: The engine failed as a whole.
    """
    requests = group_requests(prompts, groups, rubrics, references, languages)
    return rank_requests(judge, requests, strategy=strategy, resolution=resolution)


def group_requests(
    prompts: Sequence[Text],
    groups: Sequence[Sequence[Text]],
    rubrics: Rubrics | None,
    references: Sequence[str | None] | None,
    languages: Sequence[str | None] | None = None,
) -> list[list[Request]]:
    """Make one request per completion of each group.

    Raises:
        ConfigError: Lengths differ, a group is a text or empty, or a column is not a list.
    """
    prompts = as_column("prompts", prompts)
    groups = as_groups("groups", groups, len(prompts))
    columns = {"rubrics": rubrics, "references": references, "languages": languages}
    given = {
        name: as_column(name, values, len(prompts)) for name, values in columns.items() if values is not None
    }
    if rubrics is not None:
        given["rubrics"] = as_rubrics(given["rubrics"])
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
    """Groups with texts as the judge sees them.

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
    resolution: float | None = None,
) -> list[Ranking]:
    """`rank` for groups of one-completion requests that share a prompt."""
    if resolution is not None and resolution < 0:
        raise ConfigError(f"resolution = {resolution} is below 0")
    strategy = strategy or Pointwise()
    check_judge(judge, strategy)
    ties = ranking_resolution(judge, strategy) if resolution is None else resolution
    groups = shown_groups(judge, groups)
    distincts = [distinct_completions(g[0].prompt, [r.completions[0] for r in g]) for g in groups]
    requests = [[g[m[0]] for m in d.members] for g, d in zip(groups, distincts, strict=True)]
    oracle = JudgeOracle(judge, requests)
    evidences = run_strategy(strategy, [(len(d.members), d.seed) for d in distincts], oracle)
    rankings = []
    for g, (distinct, evidence) in enumerate(zip(distincts, evidences, strict=True)):
        rated = {i: oracle.ratings[g, i] for i in evidence.ratings}
        compared = {(i, j): oracle.comparisons[g, i, j] for i, j in evidence.comparisons}
        rankings.append(make_ranking(strategy, distinct, evidence, rated, compared, ties))
    _warn_without_comparisons(strategy, evidences)
    return rankings


def _warn_without_comparisons(strategy: Strategy, evidences: Sequence[Evidence]) -> None:
    """Warn if a budget paid for ratings only, which makes it the pointwise strategy."""
    if not isinstance(strategy, Budgeted) or (strategy.calls is None and strategy.tokens is None):
        return
    rated = [e for e in evidences if e.n > 1 and not e.comparisons]
    if rated:
        logger.warning(
            "the budget paid for ratings alone in %d of %d groups: %s leaves no call for comparisons there; "
            "raise it, or use the strategy pointwise",
            len(rated),
            len(evidences),
            f"calls={strategy.calls}" if strategy.tokens is None else f"tokens={strategy.tokens}",
        )


@overload
def best_of_n(  # type: ignore[overload-overlap] # a text is one prompt, not a list of letters
    judge: Judge,
    prompts: str | Sequence[Message],
    groups: Sequence[Text],
    *,
    criteria: Any = None,
    n_best: int = 1,
    strategy: Strategy | None = None,
    rubrics: Rubrics | None = None,
    references: Sequence[str | None] | None = None,
    languages: Sequence[str | None] | None = None,
) -> list[Text]: ...


@overload
def best_of_n(
    judge: Judge,
    prompts: Sequence[Text],
    groups: Sequence[Sequence[Text]],
    *,
    criteria: Any = None,
    n_best: int = 1,
    strategy: Strategy | None = None,
    rubrics: Rubrics | None = None,
    references: Sequence[str | None] | None = None,
    languages: Sequence[str | None] | None = None,
) -> list[list[Text]]: ...


def best_of_n(
    judge: Judge,
    prompts: Any,
    groups: Any,
    *,
    criteria: Any = None,
    n_best: int = 1,
    strategy: Strategy | None = None,
    rubrics: Rubrics | None = None,
    references: Sequence[str | None] | None = None,
    languages: Sequence[str | None] | None = None,
) -> Any:
    """The best completions of each prompt, best first: at most `n_best` (at least 1) of each group.

    `best_of_n(judge, prompt, completions, criteria={"Correctness": "Is the answer right?"})` picks from one
    group, `best_of_n(judge, prompts, groups)` from many. Arguments that are not listed, and the errors, are
    those of `rank`.

    Args:
        judge: The judge.
        prompts: B prompts; or one, as a text or messages.
        groups: B groups of completions; the completions of one prompt.
        criteria: Criteria for all prompts, as `read_rubric` takes them: names and texts, a list, a `Rubric`.
        n_best: How many.
        strategy: See `rank`.
        rubrics: See `rank`; not with `criteria`.
        references: See `rank`.
        languages: See `rank`.

    Returns:
        B lists of at most `n_best` completions; of one prompt the list. Completions without a verdict are
        left out, so a list may be shorter, or empty.
    """
    if n_best < 1:
        raise ConfigError(f"n_best = {n_best} is not at least 1")
    if criteria is not None and rubrics is not None:
        raise ConfigError("criteria are for all prompts, and rubrics one for each: give one of them")
    one = isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], Mapping))
    prompts, groups = ([prompts], [groups]) if one else (prompts, groups)
    if criteria is not None:
        rubrics = [criteria] * len(prompts)
    requests = group_requests(prompts, groups, rubrics, references, languages)
    found = [best[:n_best] for best in _judged(groups, rank_requests(judge, requests, strategy=strategy))]
    return found[0] if one else found


def worst_of_n(
    judge: Judge,
    prompts: Sequence[Text],
    groups: Sequence[Sequence[Text]],
    *,
    n_worst: int = 1,
    strategy: Strategy | None = None,
    rubrics: Rubrics | None = None,
    references: Sequence[str | None] | None = None,
    languages: Sequence[str | None] | None = None,
) -> list[list[Text]]:
    """The worst completions of each prompt, the worst first; otherwise as `best_of_n`."""
    if n_worst < 1:
        raise ConfigError(f"n_worst = {n_worst} is not at least 1")
    requests = group_requests(prompts, groups, rubrics, references, languages)
    found = _judged(groups, rank_requests(judge, requests, strategy=strategy))
    return [ordered[::-1][:n_worst] for ordered in found]


def _judged(groups: Sequence[Sequence[Text]], rankings: Sequence[Ranking]) -> list[list[Text]]:
    """The completions with a verdict, best first."""
    return [
        [group[c.index] for c in ranking.candidates if c.reward is not None]
        for group, ranking in zip(groups, rankings, strict=True)
    ]


def rank_judged(
    prompt: Text,
    group: Sequence[Text],
    judgments: Sequence[RatingJudgment],
    *,
    resolution: float,
) -> Ranking:
    """Order one group by given judgments, one per completion; rewards closer than the resolution tie."""
    distinct = distinct_completions(prompt, group)
    evidence = Evidence(n=len(distinct.members), seed=distinct.seed)
    rated = {i: judgments[members[0]] for i, members in enumerate(distinct.members)}
    evidence.add(Round(rate=tuple(rated)), Answers(ratings=tuple(map(as_rated, rated.values()))))
    return make_ranking(Pointwise(), distinct, evidence, rated, {}, resolution)
