# SPDX-License-Identifier: Apache-2.0
"""Rules for preference pairs: drop ties, failures and duplicates, which would hurt training.

A pair is dropped for the first of these reasons:

alone       the group has only one completion
no_verdict  a completion, or the comparison of the two, has no verdict
identical   the texts are equal but for white space at the ends
empty       the chosen completion is empty
tie         the rewards differ by no more than the resolution, or the win probability from one half (unless
            ties are kept)
margin      the chosen one's reward is less than `min_margin` higher
length      the longer text is more than `max_length_ratio` times as long as the shorter
over_limit  the prompt has `max_pairs` pairs with larger margins
disagree    the comparison, or the two ratings' distributions, prefer the completion that the ranking places
            lower
orders      the two orders of the comparison do not both prefer the chosen one
win_prob    the win probability is below `min_win_prob`
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
from autoj_reward.ranking.orders import Candidate, Ranking
from autoj_reward.ranking.tiebreak import first_by_hash
from autoj_reward.types import Request, Text

PairPolicy = Literal["best_worst", "best_random", "adjacent", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSettings:
    """Which pairs to make and which to keep.

    Attributes:
        pairs: Pairs of a ranked group. best_worst; best_random: the best and one of the rest, chosen by a
            hash; adjacent: each with the next below; all: each with each.
        min_margin: Smallest difference of the rewards, at least 0, in rating points, or win probability if
            the strategy only compares.
        min_win_prob: Smallest win probability of the chosen one, in [0.5, 1]: from the comparison if there is
            one, else from the two ratings' distributions.
        confirm: Compare every pair directly too. Strategies that only compare always do.
        orders_agree: Drop a pair whose two orders prefer different completions.
        ties: drop or keep; a hash chooses the winner of a tie.
        max_length_ratio: Largest ratio of the two texts' lengths in characters, at least 1; None is no limit.
            Keeps a policy from learning length.
        max_pairs: Most pairs per prompt, at least 1; None is no limit.
        resolution: Rewards and win probabilities closer than this tie; None is the judge's own for each, as
            for `rank`.
    """

    pairs: PairPolicy = "best_worst"
    min_margin: float = 0.0
    min_win_prob: float = 0.5
    confirm: bool = False
    orders_agree: bool = True
    ties: Literal["drop", "keep"] = "drop"
    max_length_ratio: float | None = None
    max_pairs: int | None = None
    resolution: float | None = None

    def __post_init__(self) -> None:
        if self.pairs not in get_args(PairPolicy) or self.ties not in ("drop", "keep"):
            raise ConfigError(
                f"pairs = {self.pairs!r} or ties = {self.ties!r} is not one of the choices",
                hint=f"pairs: {', '.join(get_args(PairPolicy))}; ties: drop, keep",
            )
        if self.min_margin < 0 or not 0.5 <= self.min_win_prob <= 1 or (self.resolution or 0) < 0:
            raise ConfigError("min_margin and resolution must be at least 0, min_win_prob in [0.5, 1]")
        if self.max_length_ratio is not None and self.max_length_ratio < 1:
            raise ConfigError(f"max_length_ratio = {self.max_length_ratio} is below 1")
        if self.max_pairs is not None and self.max_pairs < 1:
            raise ConfigError(f"max_pairs = {self.max_pairs} is not at least 1")
        if self.ties == "keep" and (self.min_margin > 0 or self.min_win_prob > 0.5):
            raise ConfigError("ties='keep' cannot be combined with min_margin or min_win_prob")


@dataclass(frozen=True, slots=True)
class TieLimits:
    """Within how much two completions tie.

    Attributes:
        reward: By their rewards: rating points, or win probability.
        win_prob: By the distance of the win probability from one half.
    """

    reward: float
    win_prob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair:
    """Two completions of a group, the first preferred.

    Attributes:
        chosen: Index of the preferred one.
        rejected: Index of the other.
        margin: Difference of their rewards; 0 if a knockout ranked them against their rewards. Without
            rewards 2 win_prob - 1.
        win_prob: Probability in [0, 1] that the chosen one wins, a tie counted as one half: a soft label. It
            has the guard's penalties.
        chosen_reward: The chosen one's reward; None if the group was not ranked.
        rejected_reward: The rejected one's reward.
        chosen_rating: The chosen one's rating, if it was rated.
        rejected_rating: The rejected one's rating.
        comparison: Their comparison, if they were compared.
        chosen_first: Whether the chosen one is the comparison's first completion.
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
        """The chosen one's win probabilities, penalties included, when shown first and when shown second."""
        if self.comparison is None or self.comparison.order_win_probs is None:
            return None
        given, swapped = map(self.comparison.penalised, self.comparison.order_win_probs)
        return (given, swapped) if self.chosen_first else (1 - swapped, 1 - given)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledGroup:
    """The preference pairs of one prompt.

    Attributes:
        pairs: The pairs that were kept, largest margin first.
        dropped: Number of dropped pairs by reason.
        ranking: The ranking they came from; None for given pairs.
        judgments: All judgments made.
    """

    pairs: tuple[PreferencePair, ...]
    dropped: Counter[str] = field(default_factory=Counter)
    ranking: Ranking | None = None
    judgments: tuple[Judgment, ...] = ()


def unfit(texts: tuple[Text, Text], margin: float, settings: LabelSettings, limits: TieLimits) -> str | None:
    """Why a pair is dropped before it is compared, or None."""
    chosen, rejected = map(bare, texts)
    if chosen == rejected:
        return "identical"
    if not chosen:
        return "empty"
    if abs(margin) <= limits.reward and settings.ties == "drop":
        return "tie"
    if max(margin, 0.0) < settings.min_margin:
        return "margin"
    shorter, longer = sorted((len(chosen), len(rejected)))
    if settings.max_length_ratio is not None and longer > settings.max_length_ratio * shorter:
        return "length"
    return None


def if_sure(
    pair: PreferencePair, settings: LabelSettings, limits: TieLimits, dropped: Counter[str]
) -> PreferencePair | None:
    """The pair, or None if its win probability or the two orders drop it."""
    ahead = pair.win_prob - 0.5
    tied = abs(ahead) <= limits.win_prob or _rewards_tie(pair, limits.reward)
    if tied and settings.ties == "keep":
        return pair
    reason = None
    if abs(ahead) <= limits.win_prob:
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


def _rewards_tie(pair: PreferencePair, resolution: float) -> bool:
    if pair.chosen_reward is None or pair.rejected_reward is None:
        return pair.margin <= resolution
    return abs(pair.chosen_reward - pair.rejected_reward) <= resolution


def by_hash(
    group: Sequence[Request], a: Candidate, b: Candidate
) -> tuple[Candidate, Candidate, tuple[Text, Text]]:
    """Order two that tie by their hashes; an empty one comes second."""
    texts = group[a.index].completions[0], group[b.index].completions[0]
    if bare(texts[0]) and (not bare(texts[1]) or first_by_hash(group[0].prompt, texts) == 0):
        return a, b, texts
    return b, a, (texts[1], texts[0])


def bare(text: Text) -> str:
    """A completion's text as written to a trainer's file, stripped of white space at the ends."""
    return without_surrogates(completion_text(text)).strip()
