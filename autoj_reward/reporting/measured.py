# SPDX-License-Identifier: Apache-2.0
"""Report parts for the results of `evaluate` and `probe`."""

from __future__ import annotations

from typing import Any

from autoj_reward.reporting.parts import Bars, Facts, Part


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
        parts.append(
            Bars(
                id=name.replace("_", "-"),
                title=title,
                says=f"Overall {first['percent']:.2f}% ({first['low']:.2f} to {first['high']:.2f}) of "
                f"{first['n']:,}.",
                x_label="group of scenarios, and rules that read nothing",
                y_label="percent",
                labels=list(scored),
                series={name.replace("_", " "): [s["percent"] for s in scored.values()]},
                low=[s["low"] for s in scored.values()],
                high=[s["high"] for s in scored.values()],
                n=[s["n"] for s in scored.values()],
            )
        )
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
        Bars(
            id="accuracy",
            title="Accuracy as the benchmark defines it",
            says="; ".join(f"{name} {a['percent']:.2f}%" for name, a in list(accuracy.items())[:4]) + ".",
            x_label="subset",
            y_label="percent",
            labels=list(accuracy),
            series={"accuracy": [a["percent"] for a in accuracy.values()]},
            low=[a["low"] for a in accuracy.values()],
            high=[a["high"] for a in accuracy.values()],
            n=[a["n"] for a in accuracy.values()],
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
        ),
    ]


def probe_parts(report: dict[str, Any]) -> list[Part]:
    """The parts of a report about what `probe -o` wrote."""
    facts = {name: str(report[name]) for name in ("judge", "mode", "n_prompts")}
    facts["honest quotations change by"] = f"{report['quotations']['change']['value']:+.3f}"
    parts: list[Part] = [Facts(id="overview", title="Overview", facts=facts)]
    for unit in dict.fromkeys(a["unit"] for a in report["attacks"]):
        attacks = [a for a in report["attacks"] if a["unit"] == unit]
        worst = max(attacks, key=lambda a: a["on"]["net"]["value"])
        parts.append(
            Bars(
                id="attacks-" + unit.replace(" ", "-"),
                title=f"Gain over neutral text, in {unit}",
                says=f"With the guard on, {worst['name']} gains most: {worst['on']['net']['value']:+.2f}.",
                x_label="attack",
                y_label=f"gain, in {unit}",
                labels=[a["name"] for a in attacks],
                series={
                    f"guard {side}": [a[side]["net"]["value"] for a in attacks] for side in ("off", "on")
                },
            )
        )
    return parts
