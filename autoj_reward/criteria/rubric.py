# SPDX-License-Identifier: Apache-2.0
"""`Criterion` and `Rubric`: a standard of quality as a list of weighted criteria."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from autoj_reward.errors import ConfigError

YES_NO = ("No", "Yes")
_MOST_CHOICES = 101
_LONGEST_CHOICE = 60
_LONGEST_NAME = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One criterion of a good answer, with a verdict of its own.

    Attributes:
        name: A few words; empty takes the beginning of the text.
        text: What is asked of the answer, as the judge is shown it.
        weight: How much it counts, a finite number. Below 0 for a pitfall, which counts against the answer
            that meets it; 0 for one that is judged and does not count.
        choices: The verdicts, 2 to 101, from the worst to the best: yes or no, the numbers of a scale, or
            words of your own. Their scores are evenly spaced from 0 to 1.
        essential: Whether an answer that fails it gets the lowest score, whatever the others say.

    Raises:
        ConfigError: A value is wrong.
    """

    name: str = ""
    text: str
    weight: float = 1.0
    choices: tuple[str, ...] = YES_NO
    essential: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise ConfigError(f"a criterion's text must be words, is {self.text!r:.40}")
        if not self.name:
            object.__setattr__(self, "name", _beginning(self.text))
        if isinstance(self.weight, bool) or not isinstance(self.weight, int | float):
            raise ConfigError(f"the weight of {self.name!r} must be a number, is {self.weight!r:.40}")
        if not math.isfinite(self.weight):
            raise ConfigError(f"the weight of {self.name!r} is not finite: {self.weight}")
        object.__setattr__(self, "weight", float(self.weight))
        object.__setattr__(self, "choices", tuple(self.choices))
        if problem := _wrong_choices(self.choices):
            raise ConfigError(
                f"the choices of {self.name!r} {problem}", hint="such as [No, Yes] or [1, 2, 3]"
            )

    @property
    def scores(self) -> dict[str, float]:
        """The score in [0, 1] of each choice, rising."""
        last = len(self.choices) - 1
        return {choice: place / last for place, choice in enumerate(self.choices)}

    @property
    def headed_text(self) -> str:
        """The text, after the name if that says more than its beginning."""
        known = self.text.startswith(self.name.removesuffix("..."))
        return self.text if known else f"{self.name}: {self.text}"

    def to_dict(self) -> dict[str, Any]:
        """As plain values, which `read_rubric` reads; what is as by default is left out."""
        own: dict[str, Any] = {"name": self.name, "text": self.text, "weight": self.weight}
        own |= {} if self.choices == YES_NO else {"choices": list(self.choices)}
        return own | ({"essential": True} if self.essential else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rubric:
    """A standard of quality as criteria, for the `rubrics` of `Judge.rate` and a data set's rubric column.

    Attributes:
        criteria: At least one, of which one has a weight or is essential.
        criteria_per_call: How many criteria the judge is shown at once. 1 asks about each by itself; None
            asks about all in one call. Several are shown in an order that does not depend on the list's.

    Raises:
        ConfigError: There are no criteria that count, or `criteria_per_call` is below 1.
    """

    criteria: tuple[Criterion, ...]
    criteria_per_call: int | None = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "criteria", tuple(self.criteria))
        if not any(c.weight or c.essential for c in self.criteria):
            raise ConfigError("a rubric needs a criterion with a weight, or an essential one")
        if self.criteria_per_call is not None and self.criteria_per_call < 1:
            raise ConfigError(f"criteria_per_call = {self.criteria_per_call} is not at least 1")

    @property
    def text(self) -> str:
        """The rubric in words, for judges that are shown a rubric as one text."""
        marks = {True: ", essential", False: ""}
        return "\n".join(
            f"- {c.headed_text} [weight {c.weight:g}{marks[c.essential]}]" for c in self.criteria
        )

    def calls(self) -> Iterator[tuple[int, ...]]:
        """The places of the criteria that are shown together in each call."""
        size = self.criteria_per_call or len(self.criteria)
        order = (
            sorted(range(len(self.criteria)), key=lambda n: _order(self.criteria[n])) if size > 1 else None
        )
        places = range(len(self.criteria)) if order is None else order
        for start in range(0, len(places), size):
            yield tuple(places[start : start + size])

    def to_dict(self) -> dict[str, Any]:
        """As plain values that JSON holds, which `read_rubric` reads."""
        return {
            "criteria": [criterion.to_dict() for criterion in self.criteria],
            "criteria_per_call": self.criteria_per_call,
        }


def _beginning(text: str) -> str:
    """The first words of a text, as a name."""
    words = " ".join(text.split())
    return words if len(words) <= _LONGEST_NAME else words[: _LONGEST_NAME - 3].rstrip() + "..."


def _wrong_choices(choices: tuple[str, ...]) -> str:
    """What is wrong with choices, or an empty text."""
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        return "must be texts"
    if not 2 <= len(choices) <= _MOST_CHOICES:
        return f"must be 2 to {_MOST_CHOICES}, are {len(choices)}"
    if any(set(choice) & set("[]\r\n") or len(choice) > _LONGEST_CHOICE for choice in choices):
        return f"must be at most {_LONGEST_CHOICE} characters without brackets or line feeds"
    same = [choice for choice, n in Counter(" ".join(c.casefold().split()) for c in choices).items() if n > 1]
    return f"hold {same[0]!r} twice" if same else ""


def _order(criterion: Criterion) -> tuple[str, str, tuple[str, ...]]:
    """What decides the place of a criterion among those of a call: what the judge is shown of it."""
    return criterion.text, criterion.name, criterion.choices
