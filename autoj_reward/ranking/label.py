# SPDX-License-Identifier: Apache-2.0
"""Build preference pairs; drop ties, failures and duplicates that would hurt training.

A pair is kept only if all of this holds; otherwise it is dropped under the first reason that applies.

alone       the group has more than one completion
no_verdict  both completions have a verdict, and so has their comparison where there is one
identical   their texts differ, also after white space at the ends is stripped
empty       the chosen one is not empty
tie         the rewards differ by more than the resolution, and so does the win probability from one half
            (unless ties are to be kept)
margin      the chosen one's reward is higher by at least `min_margin`
length      the longer text is at most `max_length_ratio` times as long as the shorter
over_limit  it is among the `max_pairs` of its prompt with the largest margins
disagree    its win probability is above one half: the comparison, or the two ratings' distributions, prefer
            the one that the ranking places higher
orders      both orders of its comparison prefer it
win_prob    its win probability is at least `min_win_prob`
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

import numpy as np

from autoj_reward.errors import ConfigError
from autoj_reward.json_text import without_surrogates
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.text import completion_text
from autoj_reward.judgments import Judgment, PairJudgment, RatingJudgment, VerdictDistribution
from autoj_reward.ranking.rank import (
    RESOLUTION,
    Candidate,
    Ranking,
    group_requests,
    rank_requests,
    shown_groups,
)
from autoj_reward.ranking.strategies import Pointwise, Strategy
from autoj_reward.ranking.tiebreak import distinct_completions, first_by_hash
from autoj_reward.types import Request, Text

PairPolicy = Literal["best_worst", "best_random", "adjacent", "all"]
REASONS = (
    "alone", "no_verdict", "identical", "empty", "tie", "margin", "length", "over_limit", "disagree",
    "orders", "win_prob",
)  # fmt: skip
"""Why a pair is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSettings:
    """Which pairs are made, and which of them are kept.

    Attributes:
        pairs: best_worst; best_random: the best and one of the rest, by lot; adjacent: each with the next
            below; all: each with each. Of groups that are ranked.
        min_margin: Least difference of the rewards, at least 0, on the rewards' scale: rating points, or
            shares of wins where the strategy only compares.
        min_win_prob: Least probability, in [0.5, 1], that the chosen one wins: by the comparison where there
            is one, else by the two ratings' distributions.
        confirm: Compare every pair directly as well, in both orders. Strategies that do not rate imply it.
        orders_agree: Drop a pair whose two orders prefer different completions.
        ties: drop, or keep them with the chosen one drawn by lot.
        max_length_ratio: Longest text over shortest, in characters, at least 1; None is no limit. A guard
            against teaching length.
        max_pairs: Most pairs of one prompt, at least 1; None is no limit.
        resolution: Rewards and win probabilities closer than this tie.
    """

    pairs: PairPolicy = "best_worst"
    min_margin: float = 0.0
    min_win_prob: float = 0.5
    confirm: bool = False
    orders_agree: bool = True
    ties: Literal["drop", "keep"] = "drop"
    max_length_ratio: float | None = None
    max_pairs: int | None = None
    resolution: float = RESOLUTION

    def __post_init__(self) -> None:
        if self.pairs not in get_args(PairPolicy) or self.ties not in ("drop", "keep"):
            raise ConfigError(
                f"pairs = {self.pairs!r} or ties = {self.ties!r} is not one of the choices",
                hint=f"pairs: {', '.join(get_args(PairPolicy))}; ties: drop, keep",
            )
        if self.min_margin < 0 or not 0.5 <= self.min_win_prob <= 1 or self.resolution < 0:
            raise ConfigError("min_margin and resolution are at least 0, min_win_prob is in [0.5, 1]")
        if self.max_length_ratio is not None and self.max_length_ratio < 1:
            raise ConfigError(f"max_length_ratio = {self.max_length_ratio} is below 1")
        if self.max_pairs is not None and self.max_pairs < 1:
            raise ConfigError(f"max_pairs = {self.max_pairs} is not at least 1")
        if self.ties == "keep" and (self.min_margin > 0 or self.min_win_prob > 0.5):
            raise ConfigError("ties cannot be kept where a least margin or win probability is asked for")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair:
    """Two completions of a group, the first preferred.

    Attributes:
        chosen: Index of the preferred one.
        rejected: Index of the other.
        margin: Difference of their rewards; 0 where a knockout placed the chosen one higher against their
            rewards. Without rewards 2 win_prob - 1.
        win_prob: Chance in [0, 1] that the chosen one wins, a tie counting one half: a soft label.
        chosen_reward: None where the group was not ranked.
        rejected_reward: Likewise.
        chosen_rating: The rating, where there is one.
        rejected_rating: Likewise.
        comparison: The comparison, where there is one; its first completion is the chosen one if
            `chosen_first`.
        chosen_first: See there.
    """

    chosen: int
    rejected: int
    margin: float
    win_prob: float
    chosen_reward: float | None = None
    rejected_reward: float | None = None
    chosen_rating: RatingJudgment | None = None
    rejected_rating: RatingJudgment | None = None
    comparison: PairJudgment | None = None
    chosen_first: bool = True

    @property
    def order_win_probs(self) -> tuple[float, float] | None:
        """The chosen one's win probability when shown first, and when shown second."""
        probs = None if self.comparison is None else self.comparison.order_win_probs
        if probs is None or self.chosen_first:
            return probs
        # Probabilities are of the request's first completion, shown first and shown second.
        return 1 - probs[1], 1 - probs[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledGroup:
    """What became of one prompt's completions.

    Attributes:
        pairs: The pairs kept, largest margin first.
        dropped: How many were dropped, by reason.
        ranking: The ranking they came from; None for pairs that were given.
        judgments: All judgments made.
    """

    pairs: tuple[PreferencePair, ...]
    dropped: Counter[str] = field(default_factory=Counter)
    ranking: Ranking | None = None
    judgments: tuple[Judgment, ...] = ()


def label(
    judge: Judge,
    prompts: Sequence[Text],
    groups: Sequence[Sequence[Text]],
    *,
    strategy: Strategy | None = None,
    settings: LabelSettings | None = None,
    rubrics: Sequence[str | None] | None = None,
    references: Sequence[str | None] | None = None,
    languages: Sequence[str | None] | None = None,
) -> list[LabelledGroup]:
    """Rank the completions of each prompt and make preference pairs of them.

    Args:
        judge: Judges.
        prompts: B prompts.
        groups: B groups of completions; sizes may differ, none may be empty.
        strategy: How they are ranked; None rates each once.
        settings: Which pairs; None takes the best against the worst.
        rubrics: B rubrics or None each, for templates that take one.
        references: B reference answers or None each, likewise.
        languages: B language codes or None each, for judges with templates in several.

    Returns:
        B labelled groups in the same order.

    Raises:
        ConfigError: Lengths differ, a group is empty, or the judge cannot answer what is asked.
        TemplateError: The template takes no rubric or reference, or needs one.
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
    """`label` for groups of requests of one completion each, and of one prompt in each group."""
    settings, strategy = settings or LabelSettings(), strategy or Pointwise()
    comparing = settings.confirm or strategy.asks == "comparisons"
    _check(judge, settings, comparing)
    groups = shown_groups(judge, groups)
    rankings = rank_requests(judge, groups, strategy=strategy, resolution=settings.resolution)
    drops = [Counter[str]() for _ in groups]
    selected = [
        _selected(group, ranking, settings, dropped)
        for group, ranking, dropped in zip(groups, rankings, drops, strict=True)
    ]
    compared = _compared(judge, groups, rankings, selected) if comparing else {}
    labelled = []
    for g, (ranking, pairs, dropped) in enumerate(zip(rankings, selected, drops, strict=True)):
        made = [
            _pair(a, b, _known(ranking, a, b) or compared.get((g, a.index, b.index)), settings, dropped)
            for a, b in pairs
        ]
        own = [j for (n, _, _), (j, _) in compared.items() if n == g]
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
    """Preference pairs of requests of two completions each, by direct comparison.

    Returns:
        A labelled group of at most one pair for each request, in the same order. Its completions are 0, the
        request's first, and 1.

    Raises:
        ConfigError: The judge does not compare, or not in both orders where they are to agree.
        EngineError: The engine failed as a whole.
    """
    settings = settings or LabelSettings()
    _check(judge, settings, True)
    requests = [judge.shown(request) for request in requests]
    different = [n for n, r in enumerate(requests) if not _same(*r.completions)]
    judged = dict(zip(different, judge.compare_requests([requests[n] for n in different]), strict=True))
    labelled = []
    for n, request in enumerate(requests):
        dropped: Counter[str] = Counter()
        judgment = judged.get(n)
        if judgment is None:
            dropped["identical"] += 1
        pair = None if judgment is None else _direct(request, judgment, settings, dropped)
        labelled.append(
            LabelledGroup(
                pairs=() if pair is None else (pair,),
                dropped=dropped,
                judgments=() if judgment is None else (judgment,),
            )
        )
    return labelled


def _check(judge: Judge, settings: LabelSettings, comparing: bool) -> None:
    if comparing and judge.spec.comparison is None:
        raise ConfigError(f"judge {judge.spec.name!r} does not compare", hint="label by its ratings alone")
    if comparing and settings.orders_agree and not judge.settings.both_orders:
        raise ConfigError(
            "the two orders of a comparison cannot agree where one is judged",
            hint="load the judge with both_orders=True, or set orders_agree=False",
        )


def _selected(
    group: Sequence[Request], ranking: Ranking, settings: LabelSettings, dropped: Counter[str]
) -> list[tuple[Candidate, Candidate]]:
    """Pairs of better and worse that pass what can be told before a comparison."""
    # In the ranking's order: a knockout's best is not always of the highest reward.
    known = [c for c in ranking.candidates if c.reward is not None]
    if len(known) < 2:
        dropped["no_verdict" if len(group) > 1 else "alone"] += 1
        return []
    kept = []
    for a, b in _policy(group, known, settings.pairs):
        texts = group[a.index].completions[0], group[b.index].completions[0]
        margin = cast(float, a.reward) - cast(float, b.reward)
        if abs(margin) <= settings.resolution and settings.ties == "keep":
            a, b, texts = _drawn(group, a, b)
            margin = abs(margin)
        if reason := _unfit(texts, margin, settings):
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


def _unfit(texts: tuple[Text, Text], margin: float, settings: LabelSettings) -> str | None:
    chosen, rejected = map(_bare, texts)
    if chosen == rejected:
        return "identical"
    if not chosen:
        return "empty"
    if abs(margin) <= settings.resolution and settings.ties == "drop":
        return "tie"
    if max(margin, 0.0) < settings.min_margin:
        return "margin"
    shorter, longer = sorted((len(chosen), len(rejected)))
    if settings.max_length_ratio is not None and longer > settings.max_length_ratio * shorter:
        return "length"
    return None


def _compared(
    judge: Judge,
    groups: Sequence[Sequence[Request]],
    rankings: Sequence[Ranking],
    selected: Sequence[Sequence[tuple[Candidate, Candidate]]],
) -> dict[tuple[int, int, int], tuple[PairJudgment, bool]]:
    """Comparisons of the pairs that their ranking has not compared, in one batch."""
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
    """A comparison that the ranking made, and whether a is its first."""
    for pair, chosen_first in (((a.index, b.index), True), ((b.index, a.index), False)):
        if pair in ranking.comparisons:
            return ranking.comparisons[pair], chosen_first
    return None


def _pair(
    a: Candidate,
    b: Candidate,
    compared: tuple[PairJudgment, bool] | None,
    settings: LabelSettings,
    dropped: Counter[str],
) -> PreferencePair | None:
    win_prob: float | None
    if compared is not None:
        judgment, chosen_first = compared
        raw = judgment.win_prob
        win_prob = raw if raw is None or chosen_first else 1 - raw
    else:
        judgment, chosen_first = None, True
        win_prob = _rated_above(a.judgment, b.judgment)
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
    return _if_sure(pair, settings, dropped)


def _direct(
    request: Request, judgment: PairJudgment, settings: LabelSettings, dropped: Counter[str]
) -> PreferencePair | None:
    if judgment.win_prob is None:
        dropped["no_verdict"] += 1
        return None
    ahead = judgment.win_prob - 0.5
    if abs(ahead) <= settings.resolution:
        first = first_by_hash(request.prompt, request.completions) == 0
    else:
        first = ahead > 0
    chosen, rejected = (0, 1) if first else (1, 0)
    texts = request.completions[chosen], request.completions[rejected]
    margin = abs(2 * judgment.win_prob - 1)
    if reason := _unfit(texts, margin, settings):
        dropped[reason] += 1
        return None
    win_prob = judgment.win_prob if first else 1 - judgment.win_prob
    pair = PreferencePair(
        chosen=chosen,
        rejected=rejected,
        margin=margin,
        win_prob=win_prob,
        comparison=judgment,
        chosen_first=first,
    )
    return _if_sure(pair, settings, dropped)


def _if_sure(pair: PreferencePair, settings: LabelSettings, dropped: Counter[str]) -> PreferencePair | None:
    """The pair, unless its win probability or the two orders speak against it."""
    ahead = pair.win_prob - 0.5
    tied = abs(ahead) <= settings.resolution or _near(pair, settings.resolution)
    if tied and settings.ties == "keep":
        return pair
    reason = None
    if abs(ahead) <= settings.resolution:
        reason = "tie"
    elif ahead < 0:
        reason = "disagree"
    elif settings.orders_agree and pair.order_win_probs is not None and min(pair.order_win_probs) <= 0.5:
        reason = "orders"
    elif pair.win_prob < settings.min_win_prob:
        reason = "win_prob"
    if reason is not None:
        dropped[reason] += 1
        return None
    return pair


def _near(pair: PreferencePair, resolution: float) -> bool:
    """Whether the two's rewards tie."""
    if pair.chosen_reward is None or pair.rejected_reward is None:
        return pair.margin <= resolution
    return abs(pair.chosen_reward - pair.rejected_reward) <= resolution


def _drawn(
    group: Sequence[Request], a: Candidate, b: Candidate
) -> tuple[Candidate, Candidate, tuple[Text, Text]]:
    """Two that tie in the order of their lots; one that is empty comes second."""
    texts = group[a.index].completions[0], group[b.index].completions[0]
    if _bare(texts[0]) and (not _bare(texts[1]) or first_by_hash(group[0].prompt, texts) == 0):
        return a, b, texts
    return b, a, (texts[1], texts[0])


def _rated_above(a: RatingJudgment | None, b: RatingJudgment | None) -> float | None:
    """Chance that a's rating is above b's, drawn independently from their distributions; equal is half."""
    x = None if a is None else a.distribution
    y = None if b is None else b.distribution
    if x is None or y is None:
        return None
    (values, probs), (others, other_probs) = _arrays(x), _arrays(y)
    above = (values[:, None] > others[None, :]) + 0.5 * (values[:, None] == others[None, :])
    return float(probs @ above @ other_probs)


def _arrays(distribution: VerdictDistribution) -> tuple[np.ndarray, np.ndarray]:
    return np.array(distribution.verdicts, dtype=np.float64), np.array(distribution.probs)


def _same(a: Text, b: Text) -> bool:
    return _bare(a) == _bare(b)


def _bare(text: Text) -> str:
    """A completion's text as a trainer's file holds it, white space at the ends stripped."""
    return without_surrogates(completion_text(text)).strip()
