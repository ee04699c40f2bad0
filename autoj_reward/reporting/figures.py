# SPDX-License-Identifier: Apache-2.0
"""Report parts from entries: histograms, tables, costs. Missing numbers are left out, never 0."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from autoj_reward.judge.messages.text import completion_text
from autoj_reward.reporting.against_gold import agreement, calibration_of_ratings, gold_against_n
from autoj_reward.reporting.entries import Run
from autoj_reward.reporting.listings import listings
from autoj_reward.reporting.parts import Bars, Facts, Part
from autoj_reward.rows.source import read_rows
from autoj_reward.statistics import share

_BINS = 10


def run_parts(run: Run) -> list[Part]:
    """The parts of a report about an output of rate, compare, rerank or label."""
    made: dict[str, Callable[[Run], list[Part]]] = {
        "rate": _rate, "compare": _compare, "rerank": _rerank, "label": _label,
    }  # fmt: skip
    parts: list[Part] = [_overview(run), *made[run.kind](run)]
    return [*parts, *_flags(run), *_failures(run), *_cost(run), *listings(run)]


def _overview(run: Run) -> Facts:
    n = len(run.entries)
    failed = sum(e.failure is not None for e in run.entries)
    facts = {"rows": f"{run.n_rows:,}", "judgments": f"{n:,}"}
    if run.kind != "label":
        facts["without a verdict"] = f"{failed:,} ({failed / n:.1%})" if n else "0"
    settings = run.record.get("run", {})
    for name in ("command", "judge", "mode", "engine", "strategy", "samples", "kind", "settings", "overlong"):
        if settings.get(name):
            facts[name] = str(settings[name])
    if settings:
        facts["guard"] = "on" if settings.get("guard") else "off"
    return Facts(id="overview", title="Overview", facts=facts)


def _rate(run: Run) -> list[Part]:
    parts: list[Part] = _distribution(run, "expected rating")
    known = [(e.number, e.gold) for e in run.entries if e.number is not None and e.gold is not None]
    if known:
        parts.append(calibration_of_ratings(known))
    return [*parts, *_by_group(run, "expected rating")]


def _rerank(run: Run) -> list[Part]:
    parts: list[Part] = _distribution(run, "expected rating")
    if any(e.gold is not None for e in run.entries):
        parts.append(gold_against_n(run))
    return [*parts, *_by_group(run, "expected rating")]


def _compare(run: Run) -> list[Part]:
    entries = run.entries
    decided = Counter(e.verdict for e in entries if e.verdict is not None)
    counts = {name: decided[name] for name in ("first", "second", "tie")}
    says = f"Of {decided.total():,} decisions {', '.join(f'{n:,} are {name}' for name, n in counts.items())}."
    parts: list[Part] = [
        Bars.of_counts("preferences", "Decisions", says, x_label="preference", counts=counts, unit="pairs"),
        _histogram(
            [e.number for e in entries], "win-probs", "Win probability of the first", "win probability", 0, 1
        ),
    ]
    if biases := [e.slot_bias for e in entries if e.slot_bias is not None]:
        flips = share([bool(e.flipped) for e in entries if e.flipped is not None])
        mean = share(biases)
        histogram = _histogram(biases, "position", "Position bias", "gain of being first", -0.5, 0.5)
        says = (
            f"Being first gains {mean.value:+.3f} of win probability on average "
            f"({mean.low:+.3f} to {mean.high:+.3f}); the order changes {flips.value:.1%} of the decisions."
        )
        parts.append(replace(histogram, says=says))
    judged = [e for e in entries if e.gold is not None]
    if judged:
        parts += agreement(judged)
    return [*parts, *_by_group(run, "win probability")]


def _label(run: Run) -> list[Part]:
    margins = [e.number for e in run.entries if e.number is not None]
    parts: list[Part] = []
    if margins:
        parts.append(_histogram(margins, "margins", "Margins", "margin", min(margins), max(margins)))
    lengths: list[float] = []
    labels: Counter[str] = Counter()
    for _, row in read_rows(run.path):
        if "chosen" in row and "rejected" in row:
            lengths.append(float(_n_chars(row["chosen"]) - _n_chars(row["rejected"])))
        elif isinstance(row.get("label"), bool):
            labels["desirable" if row["label"] else "undesirable"] += 1
    if lengths:
        longer = share([n > 0 for n in lengths])
        edge = max(max(abs(n) for n in lengths), 1.0)
        says = (
            f"The chosen completion is the longer one in {longer.value:.1%} of the pairs "
            f"({longer.low:.1%} to {longer.high:.1%}); far from one half is a preference for length."
        )
        what = "characters of the chosen less those of the rejected"
        histogram = _histogram(lengths, "lengths", "Length of chosen over rejected", what, -edge, edge)
        parts.append(replace(histogram, says=says))
    if labels:
        counts = {name: labels[name] for name in ("desirable", "undesirable")}
        says = ", ".join(f"{n:,} {name}" for name, n in counts.items()) + "."
        parts.append(Bars.of_counts("labels", "Labels", says, x_label="label", counts=counts, unit="rows"))
    return parts


def _n_chars(value: Any) -> int:
    return len(completion_text(value)) if value else 0


def _distribution(run: Run, what: str) -> list[Part]:
    values = [e.number for e in run.entries if e.number is not None]
    if not values:
        return []
    stated = [e.verdict for e in run.entries if isinstance(e.verdict, int | float)]
    low, high = min([*values, *stated]), max([*values, *stated])
    low, high = math.floor(low), max(math.ceil(high), math.floor(low) + 1)
    parts: list[Part] = [_histogram(values, "rewards", f"Distribution of the {what}", what, low, high)]
    if stated:
        counts = Counter(f"{v:g}" for v in stated)
        top, n_top = counts.most_common(1)[0]
        says = (
            f"The most frequent rating is {top}, {n_top:,} of {len(stated):,} times. "
            f"Two ratings drawn at random are equal with probability {_collision(counts):.2f}."
        )
        ordered = dict(sorted(counts.items(), key=lambda item: float(item[0])))
        parts.append(
            Bars.of_counts(
                "ratings", "Most probable or stated ratings", says, x_label="rating", counts=ordered
            )
        )
    return parts


def _collision(counts: Counter[str]) -> float:
    """Probability that two values drawn without replacement are equal."""
    n = counts.total()
    return sum(c * (c - 1) for c in counts.values()) / (n * (n - 1)) if n > 1 else float("nan")


def _histogram(
    values: Sequence[float | None], id_: str, title: str, what: str, low: float, high: float
) -> Bars:
    known = [v for v in values if v is not None]
    if high <= low:
        high = low + 1.0
    counts, edges = np.histogram(known, bins=_BINS, range=(low, high))
    mean = share(known)
    says = f"{len(known):,} values"
    if known:
        says += f", mean {mean.value:.3f} ({mean.low:.3f} to {mean.high:.3f}), sd {float(np.std(known)):.3f}"
    labels = [f"{a:.3g} to {b:.3g}" for a, b in pairwise(edges)]
    # Not from a dictionary: bins so narrow that their labels are equal are still bars of their own.
    return Bars(
        id=id_,
        title=title,
        says=says + ".",
        x_label=what,
        y_label="judgments",
        labels=labels,
        series={"judgments": [int(c) for c in counts]},
    )


def _by_group(run: Run, what: str) -> list[Part]:
    groups: dict[str, list[float]] = defaultdict(list)
    for e in run.entries:
        if e.group is not None and e.number is not None:
            groups[e.group].append(e.number)
    if not groups:
        return []
    shares = {name: share(values) for name, values in sorted(groups.items())}
    top = max(shares, key=lambda name: shares[name].value)
    says = f"Highest in {top}: {shares[top].value:.3f}."
    title = f"Mean {what} by group"
    return [Bars.of_shares("groups", title, says, y_label=what, series=what, shares=shares)]


def _flags(run: Run) -> list[Part]:
    guarded = [e for e in run.entries if e.flags is not None]
    if not guarded:
        return []
    counts = Counter(f for e in guarded for f in e.flags or ())
    n = sum(bool(e.flags) for e in guarded)
    says = f"The guard flagged {n:,} of {len(guarded):,} judgments ({n / len(guarded):.1%})."
    if not counts:
        return [Facts(id="flags", title="Flags of the guard", facts={"flagged": says})]
    ordered = dict(counts.most_common())
    return [Bars.of_counts("flags", "Flags of the guard", says, x_label="flag", counts=ordered)]


def _failures(run: Run) -> list[Part]:
    counts = Counter(e.failure for e in run.entries if e.failure is not None)
    if not counts:
        return []
    says = f"{counts.total():,} of {len(run.entries):,} judgments have no verdict; none counts as a number."
    title, ordered = "Judgments without a verdict, by reason", dict(counts.most_common())
    return [Bars.of_counts("failures", title, says, x_label="reason", counts=ordered)]


def _cost(run: Run) -> list[Part]:
    record = run.record
    if not record.get("complete") or "seconds" not in record:
        return []
    seconds, n = float(record["seconds"]), int(record.get("judgments", 0))
    facts = {"wall time": f"{seconds:,.1f} s"}
    if seconds > 0 and n:
        facts["judgments a second"] = f"{n / seconds:,.2f}"
    for name, key in (
        ("prompt tokens", "prompt_tokens"), ("of them shared", "cached_tokens"),
        ("tokens written", "completion_tokens"), ("answers from the cache", "from_cache"),
        ("answers of the engine", "asked"),
    ):  # fmt: skip
        if key in record:
            facts[name] = f"{int(record[key]):,}"
    return [Facts(id="cost", title="Cost of the last run", facts=facts)]
