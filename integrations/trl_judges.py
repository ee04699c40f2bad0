# SPDX-License-Identifier: Apache-2.0
"""TRL's former judge interface (`trl.experimental.judges`, removed in TRL 1.1.0).

New code should use `Judge.compare`, which reports failures as failures instead of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.messages.columns import as_column
from autoj_reward.judgments import is_even
from autoj_reward.ranking.rank import rank_requests
from autoj_reward.ranking.strategies import AllPairs
from autoj_reward.ranking.tiebreak import first_by_hash
from autoj_reward.types import Request, Text


class PairwiseJudge:
    """Compares two completions of each prompt.

    Args:
        judge: The judge. It averages both orders of a pair, unless it was loaded otherwise.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def judge(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Sequence[Text]],
        shuffle_order: bool = True,
        return_scores: bool = False,
    ) -> list[int] | list[float]:
        """Judge pairs.

        Args:
            prompts: B prompts.
            completions: B pairs.
            shuffle_order: For a judge of one order only: swap about half of the pairs, chosen by a hash of
                their texts.
            return_scores: Return win probabilities instead of indices.

        Returns:
            B indices of the better completion: 0 or 1, or -1 if the judge failed. A hash of the texts decides
            ties. With `return_scores`: B probabilities in [0, 1] that the first wins, NaN if the judge
            failed.

        Raises:
            ConfigError: A prompt does not have two completions, or lengths differ.
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
            -1 if win is None else int(_swaps(self._judge, prompt, pair) if is_even(win) else win < 0.5)
            for win, prompt, pair in zip(wins, prompts, completions, strict=True)
        ]


class RankJudge:
    """Orders any number of completions of each prompt.

    Args:
        judge: The judge, which compares all pairs of a prompt's completions.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def judge(
        self, prompts: Sequence[Text], completions: Sequence[Sequence[Text]], shuffle_order: bool = True
    ) -> list[list[int]]:
        """Rank completions by their strengths from all pairs; see `rank`.

        Args:
            prompts: B prompts.
            completions: B lists of completions; their lengths may differ.
            shuffle_order: Ignored; the order in which pairs are shown follows from the texts.

        Returns:
            B lists of indices into the completions, best first. Those without a verdict come last; a hash of
            the texts orders ties.

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
    return first_by_hash(judge.shown_prompt(prompt), [judge.shown_completion(c) for c in pair]) == 1


def _check(prompts: Sequence[Text], completions: Sequence[Sequence[Text]], *, pairs: bool) -> None:
    if len(as_column("prompts", prompts)) != len(as_column("completions", completions)):
        raise ConfigError(f"there are {len(prompts)} prompts and {len(completions)} lists of completions")
    for i, group in enumerate(completions):
        listed = isinstance(group, Sequence) and not isinstance(group, str | bytes)
        if not listed or len(group) < 1 or (pairs and len(group) != 2):
            raise ConfigError(
                f"completions of prompt {i} must be a list of {'two' if pairs else 'one or more'}"
            )
