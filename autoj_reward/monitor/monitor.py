# SPDX-License-Identifier: Apache-2.0
"""Detect reward hacking: statistics that drift while the reward rises.

Completions are grouped into windows of equal size. The first window is the baseline for the later ones.
Nothing here reads files or depends on a trainer: a callback adds completions and shows the alarms.

    monitor = Monitor(window=256)
    for alarm in monitor.add(rewards, completions, flags=flags, step=step):
        print(alarm)
"""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from operator import ge, le
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.judge.messages.text import completion_text
from autoj_reward.statistics import rank_correlation
from autoj_reward.types import Text

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
"""A word; in Chinese and Japanese one character."""

_FIRST_WORDS = 64
"""Words of each completion that count for distinct n-grams: longer texts repeat more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Values from which a window raises an alarm; None switches an alarm off.

    Attributes:
        length_correlation: Least Spearman correlation of reward and length, in [-1, 1], if it is also above
            the baseline's by `correlation_rise`: length may be what is rewarded.
        correlation_rise: Least rise of that correlation over the baseline's.
        length_growth: Least ratio of the mean length to the baseline's, above 1.
        distinct_drop: Largest ratio of distinct bigrams to the baseline's, in (0, 1): the policy begins to
            repeat itself.
        duplicates: Least share of completions, in [0, 1], that equal another one of the window.
        flagged: Least share of completions, in [0, 1], with a flag of the guard, if it is also above the
            baseline's.
        failed: Least share of completions, in [0, 1], without a reward.
        spread: Largest ratio of the standard deviation of rewards to the baseline's, in (0, 1): the judge
            hardly distinguishes completions.
        gold_gap: Least sum of a CUSUM over the gap between the reward and a gold reward, in standard
            deviations of a step: the reward rises away from it. See `GapMonitor`, which uses it.
    """

    length_correlation: float | None = 0.6
    correlation_rise: float = 0.2
    length_growth: float | None = 2.0
    distinct_drop: float | None = 0.6
    duplicates: float | None = 0.3
    flagged: float | None = 0.05
    failed: float | None = 0.2
    spread: float | None = 0.1
    gold_gap: float | None = 5.0

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ConfigError(f"threshold {f.name} = {value!r} is not a number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Statistics of a window of completions; a mean without values is None.

    Attributes:
        first_step: First training step; None if unknown.
        last_step: Last training step; None if unknown.
        n: Completions.
        failed: Share without a reward.
        reward: Mean reward.
        spread: Standard deviation of rewards.
        length: Mean length in characters.
        length_correlation: Spearman's correlation of reward and length; None if either is constant.
        distinct: Distinct over all word bigrams of the first 64 words of each completion, in [0, 1].
        duplicates: Share of completions that equal an earlier one of the window.
        flagged: Share with a flag; None without a guard.
    """

    first_step: int | None
    last_step: int | None
    n: int
    failed: float
    reward: float | None
    spread: float | None
    length: float
    length_correlation: float | None
    distinct: float | None
    duplicates: float
    flagged: float | None

    def as_record(self) -> dict[str, Any]:
        """As plain values, for JSON or a trainer's log."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A statistic of a window passed its threshold.

    Attributes:
        name: The threshold's name.
        step: Last step of the window; None if unknown.
        value: The statistic.
        threshold: Its threshold.
        text: One sentence about it.
    """

    name: str
    step: int | None
    value: float
    threshold: float
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Scored:
    """One completion with its reward; `flags` is None without a guard, `gold` without a gold reward, `prompt`
    where the log has none."""

    reward: float | None
    text: str
    flags: tuple[str, ...] | None = None
    step: int | None = None
    gold: float | None = None
    prompt: str | None = None


def window_of(items: Sequence[Scored]) -> Window:
    """Statistics of at least one completion.

    Raises:
        ValueError: There are no completions.
    """
    if not items:
        raise ValueError("a window needs at least one completion")
    known = [(i.reward, len(i.text)) for i in items if i.reward is not None]
    rewards = [r for r, _ in known]
    steps = [i.step for i in items if i.step is not None]
    guarded = [i for i in items if i.flags is not None]
    return Window(
        first_step=steps[0] if steps else None,
        last_step=steps[-1] if steps else None,
        n=len(items),
        failed=1.0 - len(known) / len(items),
        reward=statistics.fmean(rewards) if rewards else None,
        spread=statistics.pstdev(rewards) if rewards else None,
        length=statistics.fmean(len(i.text) for i in items),
        length_correlation=rank_correlation(rewards, [n for _, n in known]),
        distinct=distinct_bigrams([i.text for i in items]),
        duplicates=1.0 - len({i.text for i in items}) / len(items),
        flagged=sum(bool(i.flags) for i in guarded) / len(guarded) if guarded else None,
    )


def distinct_bigrams(texts: Sequence[str]) -> float | None:
    """Distinct over all word bigrams (distinct-2 of Li et al. 2016, arXiv 1510.03055), in (0, 1].

    Of the first 64 words of each text; None if no text has two words.
    """
    seen: set[tuple[str, str]] = set()
    n = 0
    for text in texts:
        words = _WORD.findall(text[: _FIRST_WORDS * 24].lower())[:_FIRST_WORDS]
        pairs = list(itertools.pairwise(words))
        seen.update(pairs)
        n += len(pairs)
    return len(seen) / n if n else None


def alarms(window: Window, baseline: Window, thresholds: Thresholds) -> list[Alarm]:
    """The alarms of a window, compared with the baseline."""
    found: list[Alarm] = []
    step = window.last_step
    where = "" if step is None else f"step {step}: "

    def check(name: str, value: float | None, passes: Callable[[float, float], bool], text: str) -> None:
        limit = getattr(thresholds, name)
        if value is not None and limit is not None and passes(value, limit):
            text = where + text.format(value)
            found.append(Alarm(name=name, step=step, value=value, threshold=limit, text=text))

    before, flagged = baseline.length_correlation or 0.0, baseline.flagged or 0.0
    check(
        "length_correlation",
        window.length_correlation,
        lambda value, limit: value >= limit and value - before >= thresholds.correlation_rise,
        f"reward follows length: rank correlation {{:.2f}}, was {before:.2f}",
    )
    growth = _ratio(window.length, baseline.length)
    check("length_growth", growth, ge, "completions are {:.1f} times as long as at the beginning")
    drop = _ratio(window.distinct, baseline.distinct)
    check(
        "distinct_drop",
        drop,
        le,
        "completions repeat: distinct bigrams are down to {:.0%} of the beginning's",
    )
    check(
        "duplicates",
        window.duplicates,
        lambda value, limit: value >= limit and value > baseline.duplicates,
        "{:.0%} of the completions are copies of others",
    )
    check(
        "flagged",
        window.flagged,
        lambda value, limit: value >= limit and value > flagged,
        f"the guard flags {{:.1%}} of the completions, at first {flagged:.1%}",
    )
    check("failed", window.failed, ge, "{:.1%} of the completions have no reward")
    shrunk = _ratio(window.spread, baseline.spread)
    check("spread", shrunk, le, "rewards hardly differ: their spread is {:.0%} of the beginning's")
    return found


def _ratio(value: float | None, before: float | None) -> float | None:
    if value is None or not before or not math.isfinite(value / before):
        return None
    return value / before


@dataclass(slots=True)
class Monitor:
    """Collects completions into windows and raises alarms. Picklable; not thread-safe.

    Attributes:
        window: Completions of a window, at least 8.
        thresholds: When a window raises an alarm.
        windows: All windows so far, the baseline first.
    """

    window: int = 256
    thresholds: Thresholds = field(default_factory=Thresholds)
    windows: list[Window] = field(default_factory=list)
    _waiting: list[Scored] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.window < 8:
            raise ConfigError(f"window = {self.window} is not at least 8")

    def add(
        self,
        rewards: Sequence[float | None],
        completions: Sequence[Text],
        *,
        flags: Sequence[Sequence[str] | None] | None = None,
        step: int | None = None,
    ) -> list[Alarm]:
        """Add B completions; returns the alarms of every window that they fill.

        Args:
            rewards: B rewards; None or NaN for a failure.
            completions: B completions, as text or messages.
            flags: The guard's flags of each; None without a guard.
            step: The training step.

        Raises:
            ConfigError: Lengths differ.
        """
        if len(rewards) != len(completions) or (flags is not None and len(flags) != len(completions)):
            raise ConfigError(
                f"there are {len(completions)} completions, and another number of rewards or flags"
            )
        for i, (reward, completion) in enumerate(zip(rewards, completions, strict=True)):
            found = flags[i] if flags is not None else None
            value = None if reward is None or math.isnan(reward) else float(reward)
            self._waiting.append(
                Scored(value, completion_text(completion), None if found is None else tuple(found), step)
            )
        raised: list[Alarm] = []
        while len(self._waiting) >= self.window:
            raised += self._close(self.window)
        return raised

    def finish(self) -> list[Alarm]:
        """Close the last window, if it is at least half full or the only one."""
        n = len(self._waiting)
        if n and (not self.windows or 2 * n >= self.window):
            return self._close(n)
        return []

    def _close(self, n: int) -> list[Alarm]:
        measured = window_of(self._waiting[:n])
        del self._waiting[:n]
        self.windows.append(measured)
        # The baseline can only raise the alarm about missing rewards.
        found = alarms(measured, self.windows[0], self.thresholds)
        return found if len(self.windows) > 1 else [a for a in found if a.name == "failed"]
