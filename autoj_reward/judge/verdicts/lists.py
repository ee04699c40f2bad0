# SPDX-License-Identifier: Apache-2.0
"""How several completions of one prompt are shown to a judge in one call, and scored together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Literal

from autoj_reward.judge.template import Template
from autoj_reward.judge.verdict import VerdictSet
from autoj_reward.types import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class ListLayout:
    """How a list of completions is laid out, and where its verdicts are.

    Attributes:
        size: Most completions in one list, at least 2 and, with letters, at most 26.
        overlap: Completions that a list shares with the one before it, below `size`.
        item: The text of one completion, with `{index}` and `{completion}`; shown at `{completions}`.
        index: How completions are counted: number (1, 2, ...) or letter (A, B, ...).
        between: The words between two scores; `{index}` in it, as in the verdict prefix, is the number or
            letter of the completion whose score follows.
        best: Whether the verdict is not scores, but the number or letter of the best completion.
    """

    size: int
    overlap: int = 0
    item: str
    index: Literal["number", "letter"] = "number"
    between: str = ""
    best: bool = False

    def names(self, n: int) -> list[str]:
        """What n completions are called."""
        return [ascii_uppercase[i] if self.index == "letter" else str(i + 1) for i in range(n)]

    def body(self, completions: Sequence[str]) -> tuple[Segment, ...]:
        """Completions as they are shown, one after the other."""
        return tuple(
            segment
            for name, completion in zip(self.names(len(completions)), completions, strict=True)
            for segment in Template(name="item", text=self.item.replace("{index}", name)).fill(
                {"completion": completion}
            )
        )

    def leads(self, verdicts: VerdictSet, n: int) -> list[str]:
        """The words before each of n scores: the verdict prefix, then what stands between two."""
        words = [verdicts.verdict_prefix, *[self.between] * (n - 1)]
        return [lead.replace("{index}", name) for lead, name in zip(words, self.names(n), strict=True)]

    def choice(self, verdicts: VerdictSet, n: int) -> VerdictSet:
        """The verdicts of a list whose best completion is named: n numbers from 0, written as names."""
        names, places = tuple(self.names(n)), tuple(map(float, range(n)))
        stated = {name.casefold(): place for name, place in zip(names, places, strict=True)}
        return replace(verdicts, verdicts=places, texts=names, further=(), stated=stated)

    def windows(self, n: int) -> list[range]:
        """n completions cut into lists; all of them full if there are enough, every completion in one."""
        size, step = min(self.size, n), self.size - self.overlap
        starts = [*range(0, n - size, step), n - size]
        return [range(start, start + size) for start in starts]


def order_key(prompt: str, completion: str) -> bytes:
    """Where a completion stands in its list: by its text, so that no policy can choose the place."""
    return hashlib.sha256(f"{prompt}\0{completion}".encode("utf-8", "surrogatepass")).digest()
