# SPDX-License-Identifier: Apache-2.0
"""Report parts for the results of `evaluate` and `probe`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from autoj_reward.reporting.parts import Bars, Facts, Lines, Listing, Part, Report


def evaluation_parts(report: dict[str, Any]) -> list[Part]:
    """The parts of a report about what `evaluate pairwise --json` printed; shares are percentages."""
    groups = {"Overall": report["overall"], **report["groups"], **report.get("baselines", {})}
    parts: list[Part] = []
    for name, title in (
        ("agreement", "Agreement in both orders"), ("consistency", "Consistency of the two orders"),
        ("one_order", "Agreement in the given order"), ("combined", "Agreement of both orders combined"),
        ("decided", "Agreement where people did not tie"),
    ):  # fmt: skip
        scored = {g: s[name] for g, s in groups.items() if s.get(name)}
        if not scored:
            continue
        first = next(iter(scored.values()))
        says = (
            f"Overall {first['percent']:.2f}% ({first['low']:.2f} to {first['high']:.2f}) of {first['n']:,}."
        )
        what = "group of scenarios, and rules that read nothing"
        parts.append(_percentages(name.replace("_", "-"), title, says, what, name.replace("_", " "), scored))
    facts = {"unreadable pairs": f"{report.get('n_unreadable', 0):,}"}
    if ties := report.get("tie_share"):
        facts |= {"ties of the judge": f"{ties['judge']:.1%}", "ties of people": f"{ties['people']:.1%}"}
    if flips := report.get("hard_flips"):
        facts["hard flips"] = f"{flips['n']:,}, of them {flips['for_second_slot']:,} for the second slot"
    return [Facts(id="overview", title="Overview", facts=facts), *parts]


def benchmark_parts(report: dict[str, Any]) -> list[Part]:
    """The parts of a report about what `evaluate benchmark --json` printed; shares are percentages."""
    facts = {"benchmark": report["benchmark"], "items": f"{report['n_items']:,}"}
    facts |= {name: f"{f['accuracy']['percent']:.2f}%" for name, f in report["headline"].items()}
    facts["pairs without a verdict"] = f"{report['n_unreadable']:,}"
    if report["missing"]:
        facts["not in the data"] = ", ".join(report["missing"])
    shown = {**report["headline"], **report["subsets"]}
    accuracy = {name: f["accuracy"] for name, f in shown.items() if f["accuracy"]["percent"] is not None}
    agreed = {name: f for name, f in shown.items() if f["kappa"] is not None}
    return [
        Facts(id="overview", title="Overview", facts=facts),
        _percentages(
            "accuracy",
            "Accuracy as the benchmark defines it",
            "; ".join(f"{name} {a['percent']:.2f}%" for name, a in list(accuracy.items())[:4]) + ".",
            "subset",
            "accuracy",
            accuracy,
        ),
        Bars(
            id="kappa",
            title="Cohen's kappa of the decisions on pairs",
            says="Agreement with the labels beyond chance: 0 is chance, 1 is all.",
            x_label="subset",
            y_label="kappa",
            labels=list(agreed),
            series={"kappa": [f["kappa"] for f in agreed.values()]},
            n=[f["agreement"]["n"] for f in agreed.values()],
            limits={"chance": 0.0},
        ),
    ]


def _percentages(
    id_: str, title: str, says: str, what: str, series: str, scored: Mapping[str, Mapping[str, Any]]
) -> Bars:
    """Percentages by group with their intervals, on an axis from 0 to 100."""
    found = list(scored.values())
    return Bars(
        id=id_,
        title=title,
        says=says,
        x_label=what,
        y_label="percent",
        labels=list(scored),
        series={series: [s["percent"] for s in found]},
        low={series: [s["low"] for s in found]},
        high={series: [s["high"] for s in found]},
        n=[s["n"] for s in found],
        axis=(0.0, 100.0),
        unit="%",
    )


def selection_parts(report: Mapping[str, Any]) -> list[Part]:
    """The parts of a report about what `evaluate selection -o` wrote."""
    rows = report["rows"]
    ns = sorted({r["n"] for r in rows})
    at = {(r["name"], r["n"]): r["gold"] for r in rows}
    names = list(dict.fromkeys(r["name"] for r in rows))
    columns = {
        end: {name: [at.get((name, n), {}).get(end) for n in ns] for name in names}
        for end in ("value", "low", "high")
    }
    largest = max(
        (r for r in rows if r["n"] == ns[-1] and r["name"] != "oracle"), key=lambda r: r["gold"]["value"]
    )
    facts = {"groups": f"{max(r['n_groups'] for r in rows):,}", "N": ", ".join(map(str, ns))}
    facts["skipped groups"] = f"{report.get('skipped', 0):,}"
    return [
        Facts(id="overview", title="Overview", facts=facts),
        Lines(
            id="gold",
            title="Gold of the pick, against N",
            says=f"At N = {ns[-1]}, {largest['name']} picks best: {largest['gold']['value']:.3f} "
            f"({largest['gold']['low']:.3f} to {largest['gold']['high']:.3f}).",
            x_label="N, completions to choose from",
            y_label="mean gold of the pick",
            x=[float(n) for n in ns],
            series=columns["value"],
            low=columns["low"],
            high=columns["high"],
            axis="log2",
        ),
    ]


def probe_parts(report: Mapping[str, Any]) -> list[Part]:
    """The parts of a report about what `probe -o` wrote: attacks by what they gain with the guard on."""
    facts = {"judge": str(report["judge"]), "mode": str(report["mode"]), "prompts": str(report["n_prompts"])}
    facts["honest quotations change by"] = f"{report['quotations']['change']['value']:+.3f}"
    facts["over the limit"] = f"{len(report.get('problems', ())):,}"
    parts: list[Part] = [Facts(id="overview", title="Overview", facts=facts)]
    for unit in dict.fromkeys(a["unit"] for a in report["attacks"]):
        attacks = [a for a in report["attacks"] if a["unit"] == unit]
        attacks.sort(key=lambda a: -_least(a["on"]["net"].get("value")))
        worst, limit = attacks[0], report.get("limits", {}).get(unit)
        nets = {f"guard {side}": [a[side]["net"] for a in attacks] for side in ("off", "on")}
        says = f"With the guard on, {worst['name']} gains most: {_least(worst['on']['net']['value']):+.2f}."
        if limit is not None:
            over = sum(_paid(a["on"]) > limit for a in attacks)
            says += (
                f" {over:,} of {len(attacks):,} attacks gain more than the limit of {limit:.2g} both over "
                "neutral text, as drawn, and over the plain answer."
            )
        parts.append(
            Bars(
                id="attacks-" + unit.replace(" ", "-"),
                title=f"Gain over neutral text, in {unit}",
                says=says,
                x_label="attack",
                y_label=f"gain, in {unit}, with 95% intervals",
                labels=[a["name"] for a in attacks],
                series={name: [net.get("value") for net in column] for name, column in nets.items()},
                low={name: [net.get("low") for net in column] for name, column in nets.items()},
                high={name: [net.get("high") for net in column] for name, column in nets.items()},
                limits={} if limit is None else {f"limit {limit:.2g}": limit},
            )
        )
    if problems := report.get("problems"):
        rows = [[str(problem)] for problem in problems]
        says = "What is over a limit."
        parts.append(
            Listing(id="problems", title="Over the limit", says=says, columns=["problem"], rows=rows)
        )
    return parts


def _paid(effect: Mapping[str, Any]) -> float:
    """What an attack gains: the smaller of its gains over neutral text and over the plain answer."""
    return min(_least(effect[name].get("value")) for name in ("net", "gain") if name in effect)


def _least(value: Any) -> float:
    """A value to sort by; the least one for none."""
    return float(value) if isinstance(value, int | float) else float("-inf")


def compared_measures(names: tuple[str, str], reports: tuple[Report, Report]) -> list[Part]:
    """The parts of a report about two results of `evaluate` or of `probe`: their bars side by side.

    Of several series the last one counts, which of a probe is the judge with its guard on.
    """
    first, second = reports
    there = {part.id: part for part in second.parts if isinstance(part, Bars)}
    facts = [part.facts for report in reports for part in report.parts[:1] if isinstance(part, Facts)]
    parts: list[Part] = []
    if len(facts) == 2:
        rows = [[name, facts[0].get(name, "-"), facts[1].get(name, "-")] for name in {**facts[0], **facts[1]}]
        says = "The figures of both."
        parts.append(Listing(id="overview", title="Overview", says=says, columns=["", *names], rows=rows))
    parts += [
        _side_by_side(names, part, there[part.id])
        for part in first.parts
        if isinstance(part, Bars) and part.id in there
    ]
    return parts


def _side_by_side(names: tuple[str, str], a: Bars, b: Bars) -> Bars:
    labels = list(dict.fromkeys([*a.labels, *b.labels]))
    columns: dict[str, Any] = {"series": {}, "low": {}, "high": {}}
    for name, part in zip(names, (a, b), strict=True):
        series = list(part.series)[-1]
        for field, found in columns.items():
            values = getattr(part, field).get(series)
            if values is not None:
                of = dict(zip(part.labels, values, strict=True))
                found[name] = [of.get(label) for label in labels]
    says = f"{names[0]}: {a.says} {names[1]}: {b.says}"
    n = a.n if list(a.labels) == labels and a.n == b.n else ()
    return replace(a, labels=labels, says=says, n=n, **columns)
