# SPDX-License-Identifier: Apache-2.0
"""Report parts from entries: histograms, tables, costs. Missing numbers are left out, never 0."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from autoj_reward.judge.messages.text import completion_text
from autoj_reward.reporting.against_gold import agreement, calibration_of_ratings, gold_against_n
from autoj_reward.reporting.breakdown.criteria import criteria_parts
from autoj_reward.reporting.breakdown.members import members_parts
from autoj_reward.reporting.breakdown.sample import sampled, sampled_lines
from autoj_reward.reporting.entries import Run, scale_of
from autoj_reward.reporting.listings import listings
from autoj_reward.reporting.parts import Bars, Facts, Histogram, Part
from autoj_reward.rows.source import read_rows
from autoj_reward.statistics import share

RATING = "expected rating"


def run_parts(run: Run, most_rows: int) -> list[Part]:
    """The parts of a report about an output of rate, compare, rerank or label, with rows to browse."""
    made: dict[str, Callable[[Run], list[Part]]] = {
        "rate": _rate, "compare": _compare, "rerank": _rerank, "label": _label,
    }  # fmt: skip
    parts: list[Part] = [_overview(run), *made[run.kind](run), *_breakdown(run)]
    return [*parts, *_flags(run), *_failures(run), *_cost(run), *listings(run, most_rows, sampled_lines(run))]


def _breakdown(run: Run) -> list[Part]:
    """Criteria and members, of runs that have some."""
    if not any(e.criteria or e.members or e.sides for e in run.entries):
        return []
    examples = sampled(run)
    return [*criteria_parts(run.entries, examples), *members_parts(run, examples)]


def _overview(run: Run) -> Facts:
    n = len(run.entries)
    failed = sum(e.failure is not None for e in run.entries)
    facts = {"rows": f"{run.n_rows:,}", "judgments": f"{n:,}"}
    if run.kind != "label":
        facts["without a verdict"] = f"{failed:,} ({failed / n:.1%})" if n else "0"
    settings = run.record.get("run", {})
    for name in ("strategy", "samples", "kind", "settings", "overlong"):
        if settings.get(name):
            facts[name] = str(settings[name])
    if settings:
        facts["guard"] = "on" if settings.get("guard") else "off"
    return Facts(id="overview", title="Overview", facts=facts)


def _rate(run: Run) -> list[Part]:
    parts = _distribution(run)
    known = [(e.number, e.gold) for e in run.entries if e.number is not None and e.gold is not None]
    if known:
        parts.append(calibration_of_ratings(known, scale_of(run)))
    return [*parts, *_by_group(run, RATING, scale_of(run))]


def _rerank(run: Run) -> list[Part]:
    parts = _distribution(run)
    if any(e.gold is not None for e in run.entries):
        parts.append(gold_against_n(run))
    return [*parts, *_by_group(run, *measured(run))]


def measured(run: Run) -> tuple[str, tuple[float, float]]:
    """The name and the ends of what a run measures; a ranking by comparisons has win probabilities alone."""
    if run.kind == "rerank" and all(e.number is None for e in run.entries):
        return "win probability against the group", (0.0, 1.0)
    return RATING, scale_of(run)


def _compare(run: Run) -> list[Part]:
    entries = run.entries
    decided = Counter(e.verdict for e in entries if e.verdict is not None)
    counts = {name: decided[name] for name in ("first", "second", "tie")}
    says = f"Of {decided.total():,} decisions {', '.join(f'{n:,} are {name}' for name, n in counts.items())}."
    parts: list[Part] = [
        Bars.of_counts("preferences", "Decisions", says, x_label="preference", counts=counts, unit="pairs"),
        Histogram.of_values(
            "win-probs",
            "Win probability of the first",
            {"judgments": [e.number for e in entries]},
            what="win probability of the first",
            ends=(0, 1),
            marks={"even": 0.5},
        ),
    ]
    if biases := [e.slot_bias for e in entries if e.slot_bias is not None]:
        flips = share([bool(e.flipped) for e in entries if e.flipped is not None])
        mean = share(biases)
        says = (
            f"Being first gains {mean.value:+.3f} of win probability on average "
            f"({mean.low:+.3f} to {mean.high:+.3f}); the order changes {flips.value:.1%} of the decisions."
        )
        parts.append(
            Histogram.of_values(
                "position",
                "Position bias",
                {"judgments": biases},
                what="win probability gained by being first",
                ends=(-0.5, 0.5),
                says=says,
                marks={"no bias": 0.0},
            )
        )
    judged = [e for e in entries if e.gold is not None]
    if judged:
        parts += agreement(judged)
    return [*parts, *_by_group(run, "win probability", (0.0, 1.0))]


def _label(run: Run) -> list[Part]:
    margins = [e.number for e in run.entries if e.number is not None]
    parts: list[Part] = [*_dropped(run)]
    if margins:
        ends = min(0.0, *margins), max(margins)
        parts.append(
            Histogram.of_values("margins", "Margins", {"judgments": margins}, what="margin", ends=ends)
        )
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
        parts.append(
            Histogram.of_values(
                "lengths",
                "Length of chosen over rejected",
                {"pairs": lengths},
                what="characters of the chosen less those of the rejected",
                ends=(-edge, edge),
                says=says,
                marks={"equal": 0.0},
            )
        )
    if labels:
        counts = {name: labels[name] for name in ("desirable", "undesirable")}
        says = ", ".join(f"{n:,} {name}" for name, n in counts.items()) + "."
        parts.append(Bars.of_counts("labels", "Labels", says, x_label="label", counts=counts, unit="rows"))
    return parts


def _dropped(run: Run) -> list[Part]:
    """Why pairs were dropped, as the run's record counts them."""
    record = run.record
    if "dropped" not in record:
        return []
    counts = {str(k).replace("_", " "): int(n) for k, n in record["dropped"].items()}
    total = sum(counts.values())
    says = (
        f"{record.get('groups', 0):,} groups gave {record.get('data_rows', 0):,} rows of data; "
        f"{total:,} pairs were dropped."
    )
    if not counts:
        return [Facts(id="dropped", title="Dropped pairs", facts={"dropped": says})]
    ordered = dict(sorted(counts.items(), key=lambda item: -item[1]))
    return [
        Bars.of_counts(
            "dropped", "Dropped pairs, by reason", says, x_label="reason", counts=ordered, unit="pairs"
        )
    ]


def _n_chars(value: Any) -> int:
    return len(completion_text(value)) if value else 0


def _distribution(run: Run) -> list[Part]:
    what, ends = measured(run)
    values = [e.number if what == RATING else e.reward for e in run.entries]
    if all(v is None for v in values):
        return []
    title = f"Distribution of the {what}"
    parts: list[Part] = [Histogram.of_values("rewards", title, {"judgments": values}, what=what, ends=ends)]
    stated = [float(e.verdict) for e in run.entries if isinstance(e.verdict, int | float)]
    if stated:
        counts = Counter(stated)
        top, n_top = counts.most_common(1)[0]
        says = (
            f"The most frequent rating is {top:g}, {n_top:,} of {len(stated):,} times. "
            f"Two ratings drawn at random are equal with probability {_collision(counts):.2f}."
        )
        parts.append(_by_rating(counts, run, says))
    return parts


def _by_rating(counts: Counter[float], run: Run, says: str) -> Histogram:
    """A bar for every rating of the scale, also those that no judgment has."""
    low, high = scale_of(run)
    whole = all(v == int(v) for v in counts)
    scale = {v for v in run.scale if v == int(v) or not whole} or {
        float(v) for v in range(int(low), int(high) + 1)
    }
    values = sorted(scale | set(counts))
    gaps = [b - a for a, b in pairwise(values)] or [1.0]
    middles = [(a + b) / 2 for a, b in pairwise(values)]
    return Histogram(
        id="ratings",
        title="Most probable or stated ratings",
        says=says,
        x_label="rating",
        y_label="judgments",
        edges=[values[0] - gaps[0] / 2, *middles, values[-1] + gaps[-1] / 2],
        series={"judgments": [counts[v] for v in values]},
        names=[f"{v:g}" for v in values],
    )


def _collision(counts: Counter[float]) -> float:
    """Probability that two values drawn without replacement are equal."""
    n = counts.total()
    return sum(c * (c - 1) for c in counts.values()) / (n * (n - 1)) if n > 1 else float("nan")


def _by_group(run: Run, what: str, axis: tuple[float, float]) -> list[Part]:
    groups: dict[str, list[float]] = defaultdict(list)
    for e in run.entries:
        value = e.number if e.number is not None or what in (RATING, "win probability") else e.reward
        if e.group is not None and value is not None:
            groups[e.group].append(value)
    if not groups:
        return []
    shares = {name: share(values) for name, values in groups.items()}
    shares = dict(sorted(shares.items(), key=lambda item: -item[1].value))
    top = next(iter(shares))
    says = f"Highest in {top}: {shares[top].value:.3f}. Lines are 95% intervals of the mean."
    title = f"Mean {what} by group"
    return [Bars.of_shares("groups", title, says, y_label=what, shares={what: shares}, axis=axis)]


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
    loading = float(record.get("loading_seconds", 0.0))
    facts = {"wall time": f"{seconds:,.1f} s" + (f", {loading:,.1f} s of it loading" if loading else "")}
    if seconds > loading and n:
        facts["judgments a second"] = f"{n / (seconds - loading):,.2f}"
    for name, key in (
        ("prompt tokens", "prompt_tokens"), ("of them shared", "cached_tokens"),
        ("tokens written", "completion_tokens"), ("answers from the cache", "from_cache"),
        ("answers of the engine", "asked"),
    ):  # fmt: skip
        if key in record:
            facts[name] = f"{int(record[key]):,}"
    return [Facts(id="cost", title="Cost of the last run", facts=facts)]
