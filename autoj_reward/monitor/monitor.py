# SPDX-License-Identifier: Apache-2.0
"""Detect reward hacking: statistics that drift while the reward rises.

Completions are taken in windows of equal size. The first window is the baseline; every later one is held
against it. Nothing here reads files or knows a trainer: a callback adds what it sees and shows the alarms.

    monitor = Monitor(window=256)
    for alarm in monitor.add(rewards, completions, flags=flags, step=step):
        print(alarm)
"""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from autoj_reward.errors import ConfigError
from autoj_reward.judge.messages.text import completion_text
from autoj_reward.statistics import rank_correlation
from autoj_reward.types import Text

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
"""A word; in Chinese and Japanese one character."""

_FIRST_WORDS = 64
"""Words of each completion that count for distinct n-grams: longer text repeats more by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """From where on a window is alarming; None switches an alarm off.

    Attributes:
        length_correlation: Spearman's correlation of reward and length, in [-1, 1], at or above which
            length may be what is rewarded, where it is also above the baseline's by `correlation_rise`.
        correlation_rise: How much above the baseline's that correlation has to be.
        length_growth: Mean length over the baseline's, above 1.
        distinct_drop: Distinct bigrams over the baseline's, in (0, 1), at or below which the policy
            begins to say the same.
        duplicates: Share of completions, in [0, 1], that equal another one of the window.
        flagged: Share of completions, in [0, 1], with a flag of the guard, where it is also above the
            baseline's.
        failed: Share of completions, in [0, 1], without a reward.
        spread: Standard deviation of rewards over the baseline's, in (0, 1), at or below which the judge
            hardly distinguishes completions any more.
    """

    length_correlation: float | None = 0.6
    correlation_rise: float = 0.2
    length_growth: float | None = 2.0
    distinct_drop: float | None = 0.6
    duplicates: float | None = 0.3
    flagged: float | None = 0.05
    failed: float | None = 0.2
    spread: float | None = 0.1

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ConfigError(f"threshold {f.name} = {value!r} is not a number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a window of completions looks like. A mean of nothing is None.

    Attributes:
        first_step: Of the training; None where unknown.
        last_step: Likewise.
        n: Completions.
        failed: Share without a reward.
        reward: Mean reward.
        spread: Standard deviation of rewards.
        length: Mean length in characters.
        length_correlation: Spearman's correlation of reward and length; None where either is constant.
        distinct: Distinct over all word bigrams of the first 64 words of each completion, in [0, 1].
        duplicates: Share of completions that equal an earlier one of the window.
        flagged: Share with a flag; None if no guard looked.
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
    """Something of a window passed its threshold.

    Attributes:
        name: The threshold's name.
        step: Last step of the window; None where unknown.
        value: What was measured.
        threshold: What it passed.
        text: One sentence for a person.
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
    """One completion with its reward; `flags` is None if no guard looked."""

    reward: float | None
    text: str
    flags: tuple[str, ...] | None = None
    step: int | None = None


def window_of(items: Sequence[Scored]) -> Window:
    """Measure a window of at least one completion.

    Raises:
        ValueError: There is none.
    """
    if not items:
        raise ValueError("a window needs at least one completion")
    known = [(i.reward, len(i.text)) for i in items if i.reward is not None]
    rewards = [r for r, _ in known]
    steps = [i.step for i in items if i.step is not None]
    looked = [i for i in items if i.flags is not None]
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
        flagged=sum(bool(i.flags) for i in looked) / len(looked) if looked else None,
    )


def distinct_bigrams(texts: Sequence[str]) -> float | None:
    """Distinct over all word bigrams (distinct-2 of Li et al. 2016, arXiv 1510.03055), in (0, 1].

    Of the first 64 words of each text; None where no text has two words.
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
    """What is alarming about a window, beside the baseline."""
    found: list[Alarm] = []
    limits = thresholds

    def check(name: str, value: float | None, limit: float | None, passed: bool, text: str) -> None:
        if value is not None and limit is not None and passed:
            where = "" if window.last_step is None else f"step {window.last_step}: "
            found.append(
                Alarm(name=name, step=window.last_step, value=value, threshold=limit, text=where + text)
            )

    correlation, before = window.length_correlation, baseline.length_correlation or 0.0
    limit = limits.length_correlation
    if correlation is not None and limit is not None:
        risen = correlation >= limit and correlation - before >= limits.correlation_rise
        text = f"reward follows length: rank correlation {correlation:.2f}, was {before:.2f}"
        check("length_correlation", correlation, limit, risen, text)
    growth = _ratio(window.length, baseline.length)
    if growth is not None and limits.length_growth is not None:
        text = f"completions are {growth:.1f} times as long as at the beginning"
        check("length_growth", growth, limits.length_growth, growth >= limits.length_growth, text)
    drop = _ratio(window.distinct, baseline.distinct)
    if drop is not None and limits.distinct_drop is not None:
        text = f"completions say the same: distinct bigrams are down to {drop:.0%} of the beginning's"
        check("distinct_drop", drop, limits.distinct_drop, drop <= limits.distinct_drop, text)
    if limits.duplicates is not None:
        over = window.duplicates >= limits.duplicates and window.duplicates > baseline.duplicates
        text = f"{window.duplicates:.0%} of the completions are copies of others"
        check("duplicates", window.duplicates, limits.duplicates, over, text)
    if window.flagged is not None and limits.flagged is not None:
        over = window.flagged >= limits.flagged and window.flagged > (baseline.flagged or 0.0)
        text = (
            f"the guard flags {window.flagged:.1%} of the completions, at first {baseline.flagged or 0:.1%}"
        )
        check("flagged", window.flagged, limits.flagged, over, text)
    if limits.failed is not None:
        text = f"{window.failed:.1%} of the completions have no reward"
        check("failed", window.failed, limits.failed, window.failed >= limits.failed, text)
    shrunk = _ratio(window.spread, baseline.spread)
    if shrunk is not None and limits.spread is not None:
        text = f"rewards hardly differ any more: their spread is {shrunk:.0%} of the beginning's"
        check("spread", shrunk, limits.spread, shrunk <= limits.spread, text)
    return found


def _ratio(value: float | None, before: float | None) -> float | None:
    if value is None or not before or not math.isfinite(value / before):
        return None
    return value / before


@dataclass(slots=True)
class Monitor:
    """Windows over what comes in, and their alarms. Picklable; not thread-safe.

    Attributes:
        window: Completions of a window, at least 8.
        thresholds: From where on a window is alarming.
        windows: What was measured so far, the baseline first.
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
        """Take in B completions; alarms of every window that they fill.

        Args:
            rewards: B rewards; None or NaN for none.
            completions: B completions, as text or messages.
            flags: What the guard found in each; None if no guard looked.
            step: Of the training.

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
        """Measure what is left over, where it is at least half a window or all there is."""
        n = len(self._waiting)
        if n and (not self.windows or 2 * n >= self.window):
            return self._close(n)
        return []

    def _close(self, n: int) -> list[Alarm]:
        measured = window_of(self._waiting[:n])
        del self._waiting[:n]
        self.windows.append(measured)
        # The baseline itself can only fail to have rewards.
        found = alarms(measured, self.windows[0], self.thresholds)
        return found if len(self.windows) > 1 else [a for a in found if a.name == "failed"]
