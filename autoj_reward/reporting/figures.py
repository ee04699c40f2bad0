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
    counts = Counter(e.verdict for e in entries if e.verdict is not None)
    total = counts.total()
    names = ["first", "second", "tie"]
    parts: list[Part] = [
        Bars(
            id="preferences",
            title="Decisions",
            says=f"Of {total:,} decisions {', '.join(f'{counts[n]:,} are {n}' for n in names)}.",
            x_label="preference",
            y_label="pairs",
            labels=names,
            series={"pairs": [counts[n] for n in names]},
        ),
        _histogram(
            [e.number for e in entries], "win-probs", "Win probability of the first", "win probability", 0, 1
        ),
    ]
    if biases := [e.slot_bias for e in entries if e.slot_bias is not None]:
        flips = share([bool(e.flipped) for e in entries if e.flipped is not None])
        mean = share(biases)
        histogram = _histogram(biases, "position", "Position bias", "gain of standing first", -0.5, 0.5)
        says = (
            f"Standing first gains {mean.value:+.3f} of win probability on average "
            f"({mean.low:+.3f} to {mean.high:+.3f}); the order changes {flips.value:.1%} of the decisions."
        )
        parts.append(_with(histogram, says))
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
        parts.append(
            _with(_histogram(lengths, "lengths", "Length of chosen over rejected", what, -edge, edge), says)
        )
    if labels:
        names = ["desirable", "undesirable"]
        parts.append(
            Bars(
                id="labels", title="Labels", says=", ".join(f"{labels[n]:,} {n}" for n in names) + ".",
                x_label="label", y_label="rows", labels=names, series={"rows": [labels[n] for n in names]},
            )
        )  # fmt: skip
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
        labels = sorted(counts, key=float)
        top, n_top = counts.most_common(1)[0]
        parts.append(
            Bars(
                id="ratings",
                title="Most probable or stated ratings",
                says=f"The most frequent rating is {top}, {n_top:,} of {len(stated):,} times. "
                f"Two ratings drawn at random are equal with probability {_collision(counts):.2f}.",
                x_label="rating",
                y_label="judgments",
                labels=labels,
                series={"judgments": [counts[label] for label in labels]},
            )
        )
    return parts


def _collision(counts: Counter[str]) -> float:
    """P(two different draws are equal)."""
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
    return Bars(
        id=id_,
        title=title,
        says=says + ".",
        x_label=what,
        y_label="judgments",
        labels=[f"{a:.3g} to {b:.3g}" for a, b in pairwise(edges)],
        series={"judgments": [int(c) for c in counts]},
    )


def _with(bars: Bars, says: str) -> Bars:
    return replace(bars, says=says)


def _by_group(run: Run, what: str) -> list[Part]:
    groups: dict[str, list[float]] = defaultdict(list)
    for e in run.entries:
        if e.group is not None and e.number is not None:
            groups[e.group].append(e.number)
    if not groups:
        return []
    shares = {name: share(values) for name, values in sorted(groups.items())}
    top = max(shares, key=lambda name: shares[name].value)
    return [
        Bars(
            id="groups",
            title=f"Mean {what} by group",
            says=f"Highest in {top}: {shares[top].value:.3f}.",
            x_label="group",
            y_label=what,
            labels=list(shares),
            series={what: [s.value for s in shares.values()]},
            low=[s.low for s in shares.values()],
            high=[s.high for s in shares.values()],
            n=[s.n for s in shares.values()],
        )
    ]


def _counted(id_: str, title: str, says: str, x_label: str, counts: Counter[str]) -> Bars:
    names = [name for name, _ in counts.most_common()]
    return Bars(
        id=id_, title=title, says=says, x_label=x_label, y_label="judgments",
        labels=names, series={"judgments": [counts[name] for name in names]},
    )  # fmt: skip


def _flags(run: Run) -> list[Part]:
    looked = [e for e in run.entries if e.flags is not None]
    counts = Counter(f for e in looked for f in e.flags or ())
    if not looked:
        return []
    n = sum(bool(e.flags) for e in looked)
    says = f"The guard flagged {n:,} of {len(looked):,} judgments ({n / len(looked):.1%})."
    if not counts:
        return [Facts(id="flags", title="What the guard found", facts={"flagged": says})]
    return [_counted("flags", "What the guard found", says, "flag", counts)]


def _failures(run: Run) -> list[Part]:
    counts = Counter(e.failure for e in run.entries if e.failure is not None)
    if not counts:
        return []
    says = f"{counts.total():,} of {len(run.entries):,} judgments have no verdict; none counts as a number."
    return [_counted("failures", "Judgments without a verdict, by reason", says, "reason", counts)]


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
