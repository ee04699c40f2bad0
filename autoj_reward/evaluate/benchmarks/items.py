# SPDX-License-Identifier: Apache-2.0
"""The row that every benchmark item becomes, and the item with the judge's answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from autoj_reward.judgments import Preference
from autoj_reward.rows.fields import RowProblem
from autoj_reward.rows.source import Row
from autoj_reward.types import Text

By = Literal["rating", "comparison"]
"""How an item is judged: each completion rated by itself, or its pairs compared."""

ADDED_FIELDS = ("scores", "win_probs", "decisions", "mode", "judge_id", "failure")
"""The fields that judging adds to an item's row."""


def item_row(
    *,
    id: str,
    subsets: Sequence[str],
    prompt: Text,
    completions: Sequence[str],
    gold: Sequence[float],
    pairs: Sequence[tuple[int, int]],
    as_published: bool = False,
) -> Row:
    """An item as a row.

    Args:
        id: The benchmark's own id.
        subsets: The subsets that the item counts in.
        prompt: What the completions answer.
        completions: G texts.
        gold: G values, more is better; only their order counts.
        pairs: Indices of the completions that are compared.
        as_published: Show pairs in the given order. Otherwise a hash of the texts decides which is first, so
            that a judge with a favourite position gains nothing where files name the better one first.
    """

    def place(index: int) -> str:
        return hashlib.sha256(f"{id}\n{completions[index]}".encode("utf-8", "surrogatepass")).hexdigest()

    shown = [pair if as_published else sorted(pair, key=place) for pair in pairs]
    return {
        "id": id,
        "subsets": list(subsets),
        "prompt": prompt,
        "completions": list(completions),
        "gold": list(gold),
        "pairs": [list(pair) for pair in shown],
    }


@dataclass(frozen=True, slots=True)
class JudgedItem:
    """An item's row with the fields that judging added."""

    row: Row

    @property
    def id(self) -> str:
        """The benchmark's own id."""
        return str(self.row["id"])

    @property
    def subsets(self) -> Sequence[str]:
        """The subsets that it counts in."""
        return list(self.row["subsets"])

    @property
    def gold(self) -> Sequence[float]:
        """What each completion is worth."""
        return list(self.row["gold"])

    @property
    def scores(self) -> Sequence[float | None]:
        """The judge's score of each completion, None where it has none; empty for a compared item."""
        return self.row["scores"] or []

    @property
    def better_and_worse(self) -> list[tuple[int, int]]:
        """The item's pairs, the one with more gold first."""
        return [(i, j) if self.gold[i] > self.gold[j] else (j, i) for i, j in self.row["pairs"]]

    def margin(self, first: int, second: int) -> float | None:
        """How far the judge puts one completion above another: a difference of scores, or the win
        probability less one half; None if it has no verdict on the pair."""
        if self.scores:
            above, below = self.scores[first], self.scores[second]
            return None if above is None or below is None else above - below
        swapped = [second, first] in self.row["pairs"]
        place = self.row["pairs"].index([second, first] if swapped else [first, second])
        prob = self.row["win_probs"][place]
        return None if prob is None else (0.5 - prob if swapped else prob - 0.5)

    def decisions(self, *, by_games: bool = False) -> list[Preference | None]:
        """The judge's decision on each pair, in the order of `pairs`.

        Args:
            by_games: Of a compared pair, count the two orders as two games, as JudgeBench does; otherwise the
                averaged win probability decides.
        """
        if by_games and self.row["decisions"]:
            return [_of_games(games) for games in self.row["decisions"]]
        return [_of_margin(self.margin(i, j)) for i, j in self.row["pairs"]]

    def labels(self) -> list[Preference | None]:
        """What the benchmark says of each pair, in the order of `pairs`."""
        return [_of_margin(self.gold[i] - self.gold[j]) for i, j in self.row["pairs"]]


def _of_margin(margin: float | None) -> Preference | None:
    if margin is None:
        return None
    return "tie" if margin == 0 else "first" if margin > 0 else "second"


def _of_games(games: Sequence[Preference | None]) -> Preference | None:
    if all(game is None for game in games):
        return None
    return _of_margin(games.count("first") - games.count("second"))


def text(row: Mapping[str, Any], name: str) -> str:
    """A field that holds a text.

    Raises:
        RowProblem: It is missing, or something else.
    """
    value = row.get(name)
    if not isinstance(value, str):
        raise RowProblem(f"must be a text, is {_what(value)}", name)
    return value


def texts(row: Mapping[str, Any], name: str, n: int | None = None) -> list[str]:
    """A field that holds a list of at least one text, or of exactly n.

    Raises:
        RowProblem: It is missing, or something else.
    """
    value = row.get(name)
    is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
    if not is_list or not value or (n is not None and len(value) != n):
        raise RowProblem(f"must be a list of {n or 'at least one'} texts, is {_what(value)}", name)
    return list(value)


def _what(value: Any) -> str:
    if value is None:
        return "missing or null"
    size = f" of {len(value)}" if isinstance(value, list | dict) else ""
    return f"a {type(value).__name__}{size}"
