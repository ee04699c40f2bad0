# SPDX-License-Identifier: Apache-2.0
"""TRL's former judge interface, for code written for `trl.experimental.judges`.

TRL dropped its judges in 1.1.0. These have the same call and the same meaning of what comes back, on a judge
of this package. New code is better off with `Judge.compare`, whose failures are not numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.columns import as_column
from autoj_reward.ranking.rank import rank_requests
from autoj_reward.ranking.strategies import AllPairs
from autoj_reward.ranking.tiebreak import first_by_hash
from autoj_reward.types import Request, Text


class PairwiseJudge:
    """Two completions of each prompt: which is better?

    Args:
        judge: Compares. It shows each pair in both orders and averages, unless it was loaded otherwise.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    @overload
    def judge(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Sequence[Text]],
        shuffle_order: bool = True,
        return_scores: Literal[False] = False,
    ) -> list[int]: ...
    @overload
    def judge(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Sequence[Text]],
        shuffle_order: bool = True,
        *,
        return_scores: Literal[True],
    ) -> list[float]: ...
    def judge(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Sequence[Text]],
        shuffle_order: bool = True,
        return_scores: bool = False,
    ) -> list[int] | list[float]:
        """Judge pairs.

        The one place in this package where an argument decides what comes back, because it did there.

        Args:
            prompts: B prompts.
            completions: B pairs.
            shuffle_order: With a judge of one order only: show half of the pairs the other way round, chosen
                by a hash of their texts. A judge of both orders has no need of it.
            return_scores: Win probabilities of the first instead of the better one's index.

        Returns:
            B indices: 0 or 1, and -1 where the judge failed. A tie is 0 or 1 by a hash of the texts. With
            scores: B probabilities in [0, 1], and NaN where it failed.

        Raises:
            ConfigError: A prompt has not two completions, or lengths differ.
            EngineError: The engine failed as a whole.
        """
        _check(prompts, completions, pairs=True)
        swap_some = shuffle_order and not self._judge.settings.both_orders
        swapped = [
            swap_some and _swaps(self._judge, p, pair) for p, pair in zip(prompts, completions, strict=True)
        ]
        judgments = self._judge.compare(
            prompts,
            [pair[int(s)] for pair, s in zip(completions, swapped, strict=True)],
            [pair[int(not s)] for pair, s in zip(completions, swapped, strict=True)],
        )
        wins = [
            None if j.win_prob is None else (1.0 - j.win_prob if s else j.win_prob)
            for j, s in zip(judgments, swapped, strict=True)
        ]
        if return_scores:
            return [float("nan") if win is None else win for win in wins]
        return [
            -1 if win is None else int(win < 0.5 or (win == 0.5 and _swaps(self._judge, prompt, pair)))
            for win, prompt, pair in zip(wins, prompts, completions, strict=True)
        ]


class RankJudge:
    """Any number of completions of each prompt: in which order of quality?

    Args:
        judge: Compares each completion with each other one of its prompt.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def judge(
        self, prompts: Sequence[Text], completions: Sequence[Sequence[Text]], shuffle_order: bool = True
    ) -> list[list[int]]:
        """Rank completions by their strengths, all pairs compared; see `rank`.

        Args:
            prompts: B prompts.
            completions: B lists of completions; their lengths may differ.
            shuffle_order: Taken for the sake of old code; the order of showing follows from the texts.

        Returns:
            B lists of indices into the completions, best first. Those without a judgment come last, and
            equal ones are in the order of a hash of their texts.

        Raises:
            ConfigError: A prompt has no completion, or lengths differ.
            EngineError: The engine failed as a whole.
        """
        _check(prompts, completions, pairs=False)
        groups = [
            [Request(prompt=prompt, completions=(completion,)) for completion in group]
            for prompt, group in zip(prompts, completions, strict=True)
        ]
        rankings = rank_requests(self._judge, groups, strategy=AllPairs())
        return [[candidate.index for candidate in ranking.candidates] for ranking in rankings]


def _swaps(judge: Judge, prompt: Text, pair: Sequence[Text]) -> bool:
    """Whether the second comes first in the order of a hash of the texts."""
    return first_by_hash(judge.shown_prompt(prompt), [judge.shown_completion(c) for c in pair]) == 1


def _check(prompts: Sequence[Text], completions: Sequence[Sequence[Text]], *, pairs: bool) -> None:
    if len(as_column("prompts", prompts)) != len(as_column("completions", completions)):
        raise ConfigError(f"there are {len(prompts)} prompts and {len(completions)} lists of completions")
    for i, group in enumerate(completions):
        listed = isinstance(group, Sequence) and not isinstance(group, str | bytes)
        if not listed or len(group) < 1 or (pairs and len(group) != 2):
            raise ConfigError(f"prompt {i} has not {'two completions' if pairs else 'a list of completions'}")
