# SPDX-License-Identifier: Apache-2.0
"""A budget in tokens, seconds or money, and what of it is spent."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from autoj_reward.engines import engine_stats
from autoj_reward.errors import BudgetSpent, ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.panels.panel import Panel
from autoj_reward.judgments import Judgment
from autoj_reward.types import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most that judging may cost; None is no limit. Each is above 0.

    Attributes:
        tokens: Tokens in prompts and written, shared prefixes included. Answers from the cache cost none.
        seconds: Seconds since the start, loading included.
        cost: Money, by the prices in the judge's file (`[price]`).
    """

    tokens: int | None = None
    seconds: float | None = None
    cost: float | None = None

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"a budget of {value:g} {f.name} is not above 0")

    @property
    def is_given(self) -> bool:
        """Whether anything is limited."""
        return any(getattr(self, f.name) is not None for f in fields(self))


class Spending:
    """What a judge has spent since this was made.

    With an engine that counts (one with a cache) its counts are taken, else those of the judgments that are
    added. Picklable; not thread-safe.

    Args:
        judge: Who judges.
        budget: The most that may be spent.

    Raises:
        ConfigError: The budget is in money, and the judge, or a member of the panel, has no prices.
    """

    def __init__(self, judge: Judge, budget: Budget) -> None:
        self.budget = budget
        members = judge.members if isinstance(judge, Panel) else ()
        self._judges = {m.spec.name: m.judge for m in members} or {"": judge}
        self._added: defaultdict[str, Usage] = defaultdict(Usage)
        self._kept: dict[str, Usage] = {}
        """What was spent before this object was pickled."""
        self._before = {name: self._counted(one) or Usage() for name, one in self._judges.items()}
        self._began = time.monotonic()
        unpriced = [one.spec.name for one in self._judges.values() if one.spec.price is None]
        if budget.cost is not None and unpriced:
            raise ConfigError(
                f"the budget is in money, and judge {unpriced[0]!r} has no prices",
                hint="state them in the judge's file: [price] input = ..., output = ... (per million tokens)",
            )

    def __getstate__(self) -> dict[str, Any]:
        """What is spent so far: another process has engines that count from 0, and a clock of its own."""
        state = self.__dict__ | {"_kept": self._usages(), "_added": defaultdict(Usage)}
        return state | {"_before": {}, "_began": self.seconds}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._before = {name: self._counted(one) or Usage() for name, one in self._judges.items()}
        self._began = time.monotonic() - state["_began"]

    def add(self, judgments: Iterable[Judgment]) -> None:
        """Count judgments."""
        for judgment in judgments:
            if not judgment.members:
                self._added[next(iter(self._judges))] += judgment.usage
            for member in judgment.members:
                self._added[member.name] += member.judgment.usage

    @property
    def usage(self) -> Usage:
        """Tokens and requests so far."""
        return sum(self._usages().values(), start=Usage())

    @property
    def tokens(self) -> int:
        """Tokens so far."""
        used = self.usage
        return used.prompt_tokens + used.completion_tokens

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._began

    @property
    def cost(self) -> float | None:
        """Money so far; None if a judge has no prices."""
        costs = []
        for name, usage in self._usages().items():
            price = self._judges[name].spec.price
            if price is None:
                return None
            costs.append(price.of(usage))
        return math.fsum(costs)

    @property
    def used_share(self) -> float:
        """The largest share of a limit that is spent, at least 0; 1 and above is all of it."""
        return max((spent / limit for _, spent, limit in self._limits()), default=0.0)

    def left(self) -> str:
        """What is left, for a line of progress: `1,200 of 2,000 tokens left`; empty without a limit."""
        parts = [
            f"{_amount(max(limit - spent, 0.0), name)} of {_amount(limit, name)} {name} left"
            for name, spent, limit in self._limits()
        ]
        return ", ".join(parts)

    def check(self, done: str = "") -> None:
        """Go on only while something is left.

        Args:
            done: What is done so far, for the message.

        Raises:
            BudgetSpent: A limit is reached.
        """
        for name, spent, limit in self._limits():
            if spent >= limit:
                raise BudgetSpent(
                    f"the budget is spent: {_amount(spent, name)} of {_amount(limit, name)} {name}"
                    + (f"; {done}" if done else ""),
                    hint="what is done is kept; the same call with a new budget continues",
                )

    def _limits(self) -> list[tuple[str, float, float]]:
        """Name, spent and limit of everything that is limited."""
        limits = {f.name: getattr(self.budget, f.name) for f in fields(self.budget)}
        return [
            (name, getattr(self, name) or 0.0, limit) for name, limit in limits.items() if limit is not None
        ]

    def _usages(self) -> dict[str, Usage]:
        """The usage of each judge; of several on one engine that counts, the first has it all."""
        found: dict[str, Usage] = {}
        seen: set[int] = set()
        for name, judge in self._judges.items():
            counted, engine = self._counted(judge), id(judge.built_engine)
            if counted is None:
                found[name] = self._added[name]
            elif engine not in seen:
                seen.add(engine)
                found[name] = _less(counted, self._before[name])
        known = {**self._kept, **found}
        return {name: found.get(name, Usage()) + self._kept.get(name, Usage()) for name in known}

    @staticmethod
    def _counted(judge: Judge) -> Usage | None:
        stats = engine_stats(judge.built_engine)
        return None if stats is None else stats.usage


def _less(usage: Usage, before: Usage) -> Usage:
    return Usage(**{f.name: getattr(usage, f.name) - getattr(before, f.name) for f in fields(Usage)})


def _amount(value: float, name: str) -> str:
    return f"{value:,.0f}" if name != "cost" and value >= 10 else f"{value:,.4g}"
