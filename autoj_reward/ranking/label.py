# SPDX-License-Identifier: Apache-2.0
"""Label preference pairs: rank groups or compare given pairs, and keep the pairs that `pair_rules` accept."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import cast

import numpy as np

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judgments import PairJudgment, RatingJudgment, VerdictDistribution
from autoj_reward.ranking.orders import Candidate, Ranking
from autoj_reward.ranking.pair_rules import (
    LabelledGroup,
    LabelSettings,
    PairPolicy,
    PreferencePair,
    TieLimits,
    bare,
    by_hash,
    if_sure,
    unfit,
)
from autoj_reward.ranking.rank import group_requests, rank_requests, shown_groups
from autoj_reward.ranking.resolution import engine_resolution, ranking_resolution
from autoj_reward.ranking.strategies import Pointwise, Strategy
from autoj_reward.ranking.tiebreak import distinct_completions, first_by_hash
from autoj_reward.types import Request, Rubrics, Text


def label(
    judge: Judge,
    prompts: Sequence[Text],
    groups: Sequence[Sequence[Text]],
    *,
    strategy: Strategy | None = None,
    settings: LabelSettings | None = None,
    rubrics: Rubrics | None = None,
    references: Sequence[str | None] | None = None,
    languages: Sequence[str | None] | None = None,
) -> list[LabelledGroup]:
    """Rank the completions of each prompt and make preference pairs of them.

    Args:
        judge: The judge.
        prompts: B prompts.
        groups: B groups of completions; sizes may differ, none may be empty.
        strategy: How to rank; None is `Pointwise()`: rate each completion once.
        settings: Which pairs to make and keep; None takes the best against the worst.
        rubrics: B rubrics or None each: texts, for templates that take one, or `Rubric`s of criteria.
        references: B reference answers or None each, likewise.
        languages: B language codes or None each, for judges with templates in several languages.

    Returns:
        B labelled groups in the same order.

    Raises:
        ConfigError: Lengths differ, a group is empty, or the judge lacks what strategy or settings need.
        TemplateError: The template does not take a rubric or reference, or needs one.
        EngineError: The engine failed as a whole.
    """
    requests = group_requests(prompts, groups, rubrics, references, languages)
    return label_requests(judge, requests, strategy=strategy, settings=settings)


def label_requests(
    judge: Judge,
    groups: Sequence[Sequence[Request]],
    *,
    strategy: Strategy | None = None,
    settings: LabelSettings | None = None,
) -> list[LabelledGroup]:
    """`label` for groups of one-completion requests that share a prompt."""
    settings, strategy = settings or LabelSettings(), strategy or Pointwise()
    comparing = settings.confirm or strategy.asks == "comparisons"
    _check(judge, settings, comparing)
    groups = shown_groups(judge, groups)
    limits = _limits(judge, settings, ranking_resolution(judge, strategy))
    rankings = rank_requests(judge, groups, strategy=strategy, resolution=limits.reward)
    drops = [Counter[str]() for _ in groups]
    selected = [
        _selected(group, ranking, settings, limits, dropped)
        for group, ranking, dropped in zip(groups, rankings, drops, strict=True)
    ]
    compared = _compared(judge, groups, rankings, selected) if comparing else {}
    labelled = []
    for g, (ranking, pairs, dropped) in enumerate(zip(rankings, selected, drops, strict=True)):
        made = [
            _pair(
                a, b, _known(ranking, a, b) or compared.get((g, a.index, b.index)), settings, limits, dropped
            )
            for a, b in pairs
        ]
        own = [judgment for (n, _, _), (judgment, _) in compared.items() if n == g]
        labelled.append(
            LabelledGroup(
                pairs=tuple(p for p in made if p is not None),
                dropped=dropped,
                ranking=ranking,
                judgments=(*ranking.judgments, *own),
            )
        )
    return labelled


def label_compared(
    judge: Judge, requests: Sequence[Request], *, settings: LabelSettings | None = None
) -> list[LabelledGroup]:
    """Label requests of two completions by direct comparison.

    Returns:
        For each request, in order, a labelled group of at most one pair; 0 is the request's first completion,
        1 the second.

    Raises:
        ConfigError: The judge does not compare, or only in one order where `orders_agree` needs both.
        EngineError: The engine failed as a whole.
    """
    settings = settings or LabelSettings()
    _check(judge, settings, True)
    limits = _limits(judge, settings, engine_resolution(judge, pairwise=True))
    requests = [judge.shown(request) for request in requests]
    different = [n for n, r in enumerate(requests) if bare(r.completions[0]) != bare(r.completions[1])]
    judged = dict(zip(different, judge.compare_requests([requests[n] for n in different]), strict=True))
    labelled = []
    for n, request in enumerate(requests):
        dropped: Counter[str] = Counter()
        if (judgment := judged.get(n)) is None:
            labelled.append(LabelledGroup(pairs=(), dropped=Counter(identical=1)))
            continue
        pair = _direct(request, judgment, settings, limits, dropped)
        pairs = () if pair is None else (pair,)
        labelled.append(LabelledGroup(pairs=pairs, dropped=dropped, judgments=(judgment,)))
    return labelled


def _limits(judge: Judge, settings: LabelSettings, of_rewards: float) -> TieLimits:
    """The ties of the settings; by default those of the judge, given that of the rewards."""
    if settings.resolution is not None:
        return TieLimits(settings.resolution, settings.resolution)
    return TieLimits(of_rewards, engine_resolution(judge, pairwise=True))


def _check(judge: Judge, settings: LabelSettings, comparing: bool) -> None:
    if comparing and judge.spec.comparison is None:
        raise ConfigError(f"judge {judge.spec.name!r} does not compare", hint="label by its ratings alone")
    if comparing and settings.orders_agree and not judge.settings.both_orders:
        raise ConfigError(
            "orders_agree needs both orders of a comparison, and the judge compares in one order",
            hint="load the judge with both_orders=True, or set orders_agree=False",
        )


def _selected(
    group: Sequence[Request],
    ranking: Ranking,
    settings: LabelSettings,
    limits: TieLimits,
    dropped: Counter[str],
) -> list[tuple[Candidate, Candidate]]:
    """Pairs (better, worse) that pass the rules that need no comparison."""
    # In the ranking's order: the best of a knockout need not have the highest reward.
    known = [c for c in ranking.candidates if c.reward is not None]
    if len(known) < 2:
        dropped["no_verdict" if len(group) > 1 else "alone"] += 1
        return []
    kept = []
    for a, b in _policy(group, known, settings.pairs):
        texts = group[a.index].completions[0], group[b.index].completions[0]
        margin = cast(float, a.reward) - cast(float, b.reward)
        if abs(margin) <= limits.reward and settings.ties == "keep":
            a, b, texts = by_hash(group, a, b)
            margin = abs(margin)
        if reason := unfit(texts, margin, settings, limits):
            dropped[reason] += 1
        else:
            kept.append((a, b, margin))
    kept.sort(key=lambda pair: -pair[2])
    limit = settings.max_pairs or len(kept)
    if over := len(kept[limit:]):
        dropped["over_limit"] += over
    return [(a, b) for a, b, _ in kept[:limit]]


def _policy(
    group: Sequence[Request], known: Sequence[Candidate], policy: PairPolicy
) -> list[tuple[Candidate, Candidate]]:
    if policy == "best_worst":
        return [(known[0], known[-1])]
    if policy == "adjacent":
        return list(itertools.pairwise(known))
    if policy == "all":
        return [(a, b) for n, a in enumerate(known) for b in known[n + 1 :]]
    seed = distinct_completions(group[0].prompt, [r.completions[0] for r in group]).seed
    return [(known[0], known[1 + int(np.random.default_rng(seed).integers(len(known) - 1))])]


def _compared(
    judge: Judge,
    groups: Sequence[Sequence[Request]],
    rankings: Sequence[Ranking],
    selected: Sequence[Sequence[tuple[Candidate, Candidate]]],
) -> dict[tuple[int, int, int], tuple[PairJudgment, bool]]:
    """Compare the pairs that their ranking has not compared, in one batch."""
    wanted = [
        (g, a.index, b.index)
        for g, pairs in enumerate(selected)
        for a, b in pairs
        if _known(rankings[g], a, b) is None
    ]
    requests = [groups[g][i].paired_with(groups[g][j]) for g, i, j in wanted]
    judged = judge.compare_requests(requests) if requests else []
    return {key: (judgment, True) for key, judgment in zip(wanted, judged, strict=True)}


def _known(ranking: Ranking, a: Candidate, b: Candidate) -> tuple[PairJudgment, bool] | None:
    """The ranking's comparison of a and b, and whether a is its first completion."""
    for pair, chosen_first in (((a.index, b.index), True), ((b.index, a.index), False)):
        if pair in ranking.comparisons:
            return ranking.comparisons[pair], chosen_first
    return None


def _pair(
    a: Candidate,
    b: Candidate,
    compared: tuple[PairJudgment, bool] | None,
    settings: LabelSettings,
    limits: TieLimits,
    dropped: Counter[str],
) -> PreferencePair | None:
    judgment, chosen_first = compared or (None, True)
    win_prob = _rated_above(a.judgment, b.judgment) if judgment is None else judgment.reward
    if win_prob is not None and not chosen_first:
        win_prob = 1 - win_prob
    if win_prob is None:
        dropped["no_verdict"] += 1
        return None
    pair = PreferencePair(
        chosen=a.index,
        rejected=b.index,
        margin=max(0.0, cast(float, a.reward) - cast(float, b.reward)),
        win_prob=win_prob,
        chosen_reward=a.reward,
        rejected_reward=b.reward,
        chosen_rating=a.judgment,
        rejected_rating=b.judgment,
        comparison=judgment,
        chosen_first=chosen_first,
    )
    return if_sure(pair, settings, limits, dropped)


def _direct(
    request: Request,
    judgment: PairJudgment,
    settings: LabelSettings,
    limits: TieLimits,
    dropped: Counter[str],
) -> PreferencePair | None:
    win_prob = judgment.reward
    if win_prob is None:
        dropped["no_verdict"] += 1
        return None
    first = win_prob > 0.5
    if abs(win_prob - 0.5) <= limits.win_prob:
        first = first_by_hash(request.prompt, request.completions) == 0
    chosen, rejected = (0, 1) if first else (1, 0)
    texts = request.completions[chosen], request.completions[rejected]
    margin = abs(2 * win_prob - 1)
    if reason := unfit(texts, margin, settings, limits):
        dropped[reason] += 1
        return None
    pair = PreferencePair(
        chosen=chosen,
        rejected=rejected,
        margin=margin,
        win_prob=win_prob if first else 1 - win_prob,
        comparison=judgment,
        chosen_first=first,
    )
    return if_sure(pair, settings, limits, dropped)


def _rated_above(a: RatingJudgment | None, b: RatingJudgment | None) -> float | None:
    """Probability that a's rating, less its penalty, is above b's, drawn from their distributions; a tie
    counts one half.
    """
    if a is None or a.distribution is None or b is None or b.distribution is None:
        return None
    values, probs = _arrays(a.distribution, *a.penalties)
    others, other_probs = _arrays(b.distribution, *b.penalties)
    above = (values[:, None] > others[None, :]) + 0.5 * (values[:, None] == others[None, :])
    # Probabilities sum to 1 up to rounding.
    return min(1.0, float(probs @ above @ other_probs))


def _arrays(distribution: VerdictDistribution, penalty: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Ratings less a penalty in shares of their scale, but at least its lowest, and their probabilities."""
    ratings = np.array(distribution.verdicts, dtype=np.float64)
    lowered = np.maximum(ratings.min(), ratings - penalty * np.ptp(ratings))
    return lowered, np.array(distribution.probs)
