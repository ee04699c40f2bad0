# SPDX-License-Identifier: Apache-2.0
"""Which preference pairs are kept: not ties, failures and duplicates, which would hurt training.

A pair is kept only if all of this holds; otherwise it is dropped under the first reason that applies.

alone       the group has more than one completion
no_verdict  both completions have a verdict, and so has their comparison, if they were compared
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

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from autoj_reward.errors import ConfigError
from autoj_reward.json_text import without_surrogates
from autoj_reward.judge.messages.text import completion_text
from autoj_reward.judgments import Judgment, PairJudgment, RatingJudgment
from autoj_reward.ranking.orders import RESOLUTION, Candidate, Ranking
from autoj_reward.ranking.tiebreak import first_by_hash
from autoj_reward.types import Request, Text

PairPolicy = Literal["best_worst", "best_random", "adjacent", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSettings:
    """Which pairs are made, and which of them are kept.

    Attributes:
        pairs: best_worst; best_random: the best and one of the rest, by a hash; adjacent: each with the next
            below; all: each with each. Of groups that are ranked.
        min_margin: Least difference of the rewards, at least 0, on the rewards' scale: rating points, or
            shares of wins where the strategy only compares.
        min_win_prob: Least probability, in [0.5, 1], that the chosen one wins: by the comparison where there
            is one, else by the two ratings' distributions.
        confirm: Compare every pair directly as well, in both orders. Strategies that do not rate imply it.
        orders_agree: Drop a pair whose two orders prefer different completions.
        ties: drop, or keep them, a hash choosing.
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
        rejected_reward: The rejected one's.
        chosen_rating: Its rating, if it was rated.
        rejected_rating: The rejected one's.
        comparison: Their comparison, if they were compared; its first completion is the chosen one if
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


def unfit(texts: tuple[Text, Text], margin: float, settings: LabelSettings) -> str | None:
    """Why a pair is dropped before it is compared; None if it is not."""
    chosen, rejected = map(bare, texts)
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


def if_sure(pair: PreferencePair, settings: LabelSettings, dropped: Counter[str]) -> PreferencePair | None:
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


def by_hash(
    group: Sequence[Request], a: Candidate, b: Candidate
) -> tuple[Candidate, Candidate, tuple[Text, Text]]:
    """Two that tie, in the order of their hashes; one that is empty comes second."""
    texts = group[a.index].completions[0], group[b.index].completions[0]
    if bare(texts[0]) and (not bare(texts[1]) or first_by_hash(group[0].prompt, texts) == 0):
        return a, b, texts
    return b, a, (texts[1], texts[0])


def same_text(a: Text, b: Text) -> bool:
    """Whether two completions are equal, white space at the ends stripped."""
    return bare(a) == bare(b)


def bare(text: Text) -> str:
    """A completion's text as a trainer's file holds it, white space at the ends stripped."""
    return without_surrogates(completion_text(text)).strip()
