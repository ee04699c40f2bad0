# SPDX-License-Identifier: Apache-2.0
"""Turn scalar scores into preferences: choose the threshold below which a difference is a tie.

Auto-J's leaderboard takes the threshold that scores best on the pairs it is evaluated on. That figure is
reported, and a cross-validated one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoj_reward.autoj.pairs import Decision, LabelledPair, Scores
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.evaluate.report import interval
from autoj_reward.judge.messages.text import prompt_text
from autoj_reward.judgments import Preference
from autoj_reward.statistics import Share, as_plain, share

THRESHOLDS = tuple(k / 100 for k in range(201))
"""0 to 2.0 in steps of 0.01."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdSearch:
    """A tie threshold, and its accuracy.

    Attributes:
        threshold: The smallest of those that score best on all pairs.
        best: Accuracy over three labels at that threshold: the published way, which looks at the test set.
        cross_validated: Accuracy where each fold is decided by the threshold that is best on the others.
        fold_thresholds: Those thresholds.
        n_unreadable: Pairs without both scores; they count as wrong.
    """

    threshold: float
    best: Share
    cross_validated: Share
    fold_thresholds: tuple[float, ...]
    n_unreadable: int

    def as_dict(self) -> dict[str, Any]:
        """As plain data; shares are percentages."""
        return dict(as_plain(self))

    def notes(self) -> tuple[str, ...]:
        """Two lines for people."""
        folds = ", ".join(f"{t:.2f}" for t in self.fold_thresholds)
        return (
            f"tie threshold {self.threshold:.2f}, the best on these pairs themselves: {interval(self.best)}",
            f"threshold chosen on other folds ({folds}): {interval(self.cross_validated)}",
        )


def decide(scores: Scores, threshold: float) -> Preference | None:
    """The preference of two scores: a tie if they are equal or differ by less than the threshold.

    None if a score is missing.
    """
    first, second = scores
    if first is None or second is None:
        return None
    if first == second or abs(first - second) < threshold:
        return "tie"
    return "first" if first > second else "second"


def decisions_at(scores: Sequence[Scores], threshold: float) -> list[Decision]:
    """Every pair's decision at one threshold, in one order: scores do not depend on it."""
    return [Decision(given=decide(s, threshold)) for s in scores]


def search_threshold(
    pairs: Sequence[LabelledPair], scores: Sequence[Scores], *, n_folds: int = 10, seed: int = 0
) -> ThresholdSearch:
    """Choose the tie threshold among 0 to 2.0 by accuracy over three labels.

    Args:
        pairs: B pairs.
        scores: B pairs of scores, in the same order.
        n_folds: Folds of the cross-validation, 2 to B. Rows of one prompt share a fold.
        seed: Of the folds.

    Raises:
        DataError: The numbers differ, or there are fewer than two prompts.
        ConfigError: There are not at least two folds.
    """
    if len(pairs) != len(scores) or not pairs:
        raise DataError(f"there are {len(pairs)} pairs and {len(scores)} rows of scores")
    if n_folds < 2:
        raise ConfigError(f"{n_folds} folds cannot cross-validate", hint="at least 2")
    right = [[decide(s, t) == p.preference for t in THRESHOLDS] for p, s in zip(pairs, scores, strict=True)]
    best = _best(right)
    fold_of = _folds([prompt_text(p.prompt) for p in pairs], n_folds, seed)
    chosen: list[int] = []
    held_out = [False] * len(pairs)
    for fold in sorted(set(fold_of)):
        at = _best([row for row, f in zip(right, fold_of, strict=True) if f != fold])
        chosen.append(at)
        for i, f in enumerate(fold_of):
            if f == fold:
                held_out[i] = right[i][at]
    return ThresholdSearch(
        threshold=THRESHOLDS[best],
        best=share([row[best] for row in right]),
        cross_validated=share(held_out),
        fold_thresholds=tuple(THRESHOLDS[at] for at in chosen),
        n_unreadable=sum(None in s for s in scores),
    )


def _best(right: Sequence[Sequence[bool]]) -> int:
    """Place of the first threshold with the most rows right."""
    counts = [sum(column) for column in zip(*right, strict=True)]
    return counts.index(max(counts))


def _folds(prompts: Sequence[str], n_folds: int, seed: int) -> list[int]:
    """A fold for each row, all rows of a prompt in one; folds hold about the same number of prompts."""
    distinct = list(dict.fromkeys(prompts))
    if len(distinct) < 2:
        raise DataError("all pairs are of one prompt: nothing is left to choose a threshold on")
    random.Random(seed).shuffle(distinct)
    place = {prompt: i % min(n_folds, len(distinct)) for i, prompt in enumerate(distinct)}
    return [place[prompt] for prompt in prompts]
