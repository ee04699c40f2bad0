# SPDX-License-Identifier: Apache-2.0
"""Make strategies from names and budget texts, for options and files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.ranking.budgeted import Budgeted
from autoj_reward.ranking.strategies import AllPairs, Knockout, Pointwise, Ring, Strategy, Swiss

_STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "pointwise": Pointwise,
    "greedy": lambda: Pointwise(reading="greedy"),
    "all_pairs": AllPairs,
    "ring": Ring,
    "knockout": Knockout,
    "swiss": Swiss,
    "budgeted": Budgeted,
}
STRATEGY_NAMES = tuple(_STRATEGIES)
"""Names that `choose_strategy` knows."""


def choose_strategy(name: str, budget: str | None = None) -> Strategy:
    """A strategy by its name.

    Args:
        name: One of `STRATEGY_NAMES`; `-` counts as `_`.
        budget: For `budgeted`: judge calls per group (`124`), or any of
            `calls=124,tokens=50000,confidence=0.95`; see `Budgeted`. None is its default.

    Raises:
        ConfigError: The strategy is unknown, or the budget cannot be read.
    """
    key = name.replace("-", "_")
    if key not in _STRATEGIES:
        raise ConfigError(f"there is no strategy {name!r}", hint=f"strategies: {', '.join(STRATEGY_NAMES)}")
    if budget is None:
        return _STRATEGIES[key]()
    if key != "budgeted":
        raise ConfigError(f"a budget is for the strategy budgeted, not for {name}")
    return Budgeted(**_parts(budget))


def _parts(budget: str) -> dict[str, Any]:
    kinds: dict[str, Callable[[str], float]] = {"calls": int, "tokens": int, "confidence": float}
    parts: dict[str, Any] = {}
    for part in budget.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals:
            name, value = "calls", name
        try:
            parts[name] = kinds[name](value)
        except (KeyError, ValueError):
            raise ConfigError(
                f"the budget {budget!r} cannot be read at {part.strip()!r}",
                hint="give calls (124), or calls=124,tokens=50000,confidence=0.95 or some of them",
            ) from None
    return parts
