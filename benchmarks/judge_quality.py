# SPDX-License-Identifier: Apache-2.0
"""How good is a judge, compared with rules that read nothing and with itself before training?

sanity     fresh pairs with a known better side, made from test prompts: the right completion against one
           to another prompt, a whole one against a cut-off one that is as long or longer, a clean one
           against a repeating one; by rating and by comparison. Goal: 95%, 80%, 95%.
pairs      Auto-J's pairwise test, against people: agreement and consistency of both orders, accuracy on
           decided pairs, by rating and by comparison; on pairs within 10% of equal length, where the
           length rule is blind; where the longer and where the shorter completion won; without the
           prompts that Auto-J's training data shares. Goal: above the longer completion's 71.8% of
           decided pairs.
held-out   people's pairs of the arena that the embedded judge's recipe kept out of training, by rating and by
           comparison, and the longer completion beside them: what a recipe may be chosen by.
position   mean |P(first slot) - 0.5| of single orders, which a sure judge raises too; and what standing
           first gains: on average, and of either sign.
critiques  how many written critiques end in a verdict, nothing forced, and how many have one where it is
           forced after those that do not; against direct readings of the same rows: agreement, correlation,
           tokens.

A tie of the judge counts one half, except in agreement. Intervals are 95% bootstrap. A finished part is kept
in the result file, and a second run goes on with the parts that are missing; answers are cached as well.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from groups import data_folder
from report import RESULTS, publish, show

from autoj_reward.autoj.pairs import Decision, LabelledPair, read_decisions, read_pairs
from autoj_reward.evaluate.pairwise import evaluate_pairs
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.presets import load_spec
from autoj_reward.judgments import Judgment, PairJudgment
from autoj_reward.rows.source import read_rows
from autoj_reward.statistics import Share, share
from autoj_reward.training.config import load_config
from autoj_reward.training.contrast import Contrast, make_contrast
from autoj_reward.training.data import PairRow, Part, load_corpus, prompt_key, unfill
from autoj_reward.training.in_training_eval import won

RECIPE = Path(__file__).resolve().parent.parent / "examples" / "train_mini.toml"
FLAWS: tuple[Literal["other_prompt", "cut_off", "repeated"], ...] = ("other_prompt", "cut_off", "repeated")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--judges", nargs="+", default=["mini", "examples/untrained_mini.toml"])
    arguments.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    arguments.add_argument("--limit", type=int, help="pairs or rows of each part; all of them without")
    arguments.add_argument("--sanity", type=int, default=500, help="pairs of each flaw, before --limit")
    arguments.add_argument("--max-chars", type=int, help="leave out longer pairs (said in the results)")
    arguments.add_argument("--engine", help="as in Judge.load; its default without")
    arguments.add_argument("--seed", type=int, default=0, help="which pairs --limit takes")
    arguments.add_argument("--name", default="judge_quality", help="of the result file")
    given = arguments.parse_args()

    data = data_folder() / "auto-j" / "data"
    pairs = read_pairs(data / "test" / "testdata_pairwise.jsonl")
    settings = {k: getattr(given, k) for k in ("limit", "sanity", "max_chars", "seed", "engine")}
    results = earlier(given.name, settings)
    for judge_name in given.judges:
        found = results["judges"].setdefault(judge_name, {})
        for part in given.parts:
            if part in found:
                continue
            mode: Literal["direct", "critique"] = "critique" if part == "critiques" else "direct"
            with Judge.load(
                judge_name, engine=given.engine, mode=mode, overlong="truncate", cache=True
            ) as judge:
                found[part] = PARTS[part](judge, pairs, given)
            save(given.name, results)
            print(f"{judge_name}: {part}", flush=True)
    results["baselines"] = baselines(taken(pairs, given), data) if "pairs" in given.parts else {}
    rows = [row for name, parts in results["judges"].items() for row in table(name, parts)]
    show(rows + [row for name, parts in results["baselines"].items() for row in table(name, parts)])
    publish(given.name, "How good is the judge on sanity pairs and against people?", results)
    partial(given.name).unlink(missing_ok=True)


# Parts ------------------------------------------------------------------------------------------


def sanity(judge: Judge, pairs: Sequence[LabelledPair], given: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    unread = 0
    for flaw in FLAWS:
        cases = sanity_cases(pairs, flaw, given)
        prompts = [c.prompt for c in cases]
        better = judge.rate(prompts, [c.better for c in cases])
        worse = judge.rate(prompts, [c.worse for c in cases])
        wins = [won(a.expected_rating, b.expected_rating) for a, b in zip(better, worse, strict=True)]
        found[f"rating {flaw}"] = asdict(share(wins))
        # Every other case the other way round, so that the first place is not the answer.
        turned = [n % 2 == 1 for n in range(len(cases))]
        firsts = [c.worse if t else c.better for c, t in zip(cases, turned, strict=True)]
        seconds = [c.better if t else c.worse for c, t in zip(cases, turned, strict=True)]
        judged = judge.compare(prompts, firsts, seconds)
        wins = [won(1 - w if t else w, 0.5) for w, t in zip(win_probs(judged), turned, strict=True)]
        found[f"comparison {flaw}"] = asdict(share(wins))
        unread += sum(j.failure is not None for j in (*better, *worse, *judged))
    return {**found, "without a verdict": unread}


def against_people(judge: Judge, pairs: Sequence[LabelledPair], given: argparse.Namespace) -> dict[str, Any]:
    chosen = taken(pairs, given)
    prompts = [p.prompt for p in chosen]
    judged = judge.compare(prompts, [p.first for p in chosen], [p.second for p in chosen])
    decisions = []
    for j in judged:
        orders = j.order_preferences or (None, None)
        decisions.append(Decision(given=orders[0], swapped=orders[1], averaged=j.preference))
    report = evaluate_pairs(chosen, decisions).overall
    by_rating = rating_wins(judge, chosen)
    by_comparison = [won(w, 0.5) for w in win_probs(judged)]
    groups = subsets(chosen)
    return {
        "agreement": plain(report.agreement),
        "consistency": plain(report.consistency),
        "without a verdict": sum(j.failure is not None for j in judged),
        **{f"comparison {name}": decided(chosen, by_comparison, keep) for name, keep in groups.items()},
        **{f"rating {name}": decided(chosen, by_rating, keep) for name, keep in groups.items()},
    }


def position(judge: Judge, pairs: Sequence[LabelledPair], given: argparse.Namespace) -> dict[str, Any]:
    chosen = taken(pairs, given)
    judged = judge.compare([p.prompt for p in chosen], [p.first for p in chosen], [p.second for p in chosen])
    orders = [j.order_win_probs for j in judged if j.order_win_probs is not None]
    # What the first slot gets: the given order's win probability, and what is left of the swapped one's.
    single = [(abs(a - 0.5) + abs(0.5 - b)) / 2 for a, b in orders]
    gains = [(a - b) / 2 for a, b in orders]
    return {
        "single order": asdict(share(single)),
        "gain of the first slot": asdict(share(gains)),
        "gain of either slot": asdict(share([abs(gain) for gain in gains])),
    }


def held_out(judge: Judge, pairs: Sequence[LabelledPair], given: argparse.Namespace) -> dict[str, Any]:
    os.environ.setdefault("AUTOJ_REWARD_DATA", str(data_folder()))
    corpus = load_corpus(load_config(str(RECIPE)))
    rows = [
        LabelledPair(
            prompt=p.prompt, first=p.first, second=p.second, preference=p.preference, scenario="", group=""
        )
        for p in corpus.held_out.pairs
        if p.preference != "tie"
    ]
    chosen = taken(rows, given)
    judged = judge.compare([p.prompt for p in chosen], [p.first for p in chosen], [p.second for p in chosen])
    sides = {
        "rating": rating_wins(judge, chosen),
        "comparison": [won(w, 0.5) for w in win_probs(judged)],
        "longer completion": [won(len(p.first), len(p.second)) for p in chosen],
    }
    return {
        f"{side} {name}": decided(chosen, wins, keep)
        for name, keep in subsets(chosen).items()
        for side, wins in sides.items()
    }


def critiques(judge: Judge, pairs: Sequence[LabelledPair], given: argparse.Namespace) -> dict[str, Any]:
    data = data_folder() / "auto-j" / "data" / "test" / "testdata_critique.jsonl"
    rows = sampled([row for _, row in read_rows(str(data))], given)
    prompts, completions = [r["prompt"] for r in rows], [r["response"] for r in rows]
    rated = judge.rate(prompts, completions)
    # The file is in the order of scenarios: its first 200 pairs would be of a few of them.
    fitting = taken(pairs, given)
    chosen = random.Random(given.seed).sample(fitting, min(200, len(fitting)))
    columns = [p.prompt for p in chosen], [p.first for p in chosen], [p.second for p in chosen]
    compared = judge.compare(*columns)
    # The texts are in the cache: only what failed is asked for more.
    forcing = replace(judge.settings, rules=replace(judge.settings.rules, force_verdict=True))
    forced = Judge(judge.spec, forcing, judge.engine)
    forced_ratings, forced_pairs = forced.rate(prompts, completions), forced.compare(*columns)
    direct = Judge(judge.spec, replace(judge.settings, mode="direct"), judge.engine)
    direct_ratings = direct.rate(prompts, completions)
    direct_pairs = direct.compare(*columns)
    both = [
        (a.expected_rating, b.expected_rating)
        for a, b in zip(rated, direct_ratings, strict=True)
        if a.expected_rating is not None and b.expected_rating is not None
    ]
    same = [
        a.preference == b.preference
        for a, b in zip(compared, direct_pairs, strict=True)
        if a.preference is not None and b.preference is not None
    ]
    samples = [s for j in compared for s in j.samples]
    return {
        "ratings that end in a verdict": asdict(share([stating(j) for j in rated])),
        "comparisons that end in a verdict": asdict(share([stating(j) for j in compared])),
        "ratings with a verdict, forced too": asdict(share([readable(j) for j in forced_ratings])),
        "comparisons with a verdict, forced too": asdict(share([readable(j) for j in forced_pairs])),
        "failures": reasons([j.failure for j in rated] + [s.failure for s in samples]),
        "same preference as direct": asdict(share(same)),
        "correlation with direct ratings": correlation(both),
        "tokens per rating": {
            name: {
                "read": float(np.mean([j.usage.prompt_tokens for j in judged])),
                "written": float(np.mean([j.usage.completion_tokens for j in judged])),
            }
            for name, judged in (("critique", rated), ("direct", direct_ratings))
        },
    }


PARTS: dict[str, Callable[[Judge, Sequence[LabelledPair], argparse.Namespace], dict[str, Any]]] = {
    "sanity": sanity,
    "pairs": against_people,
    "held-out": held_out,
    "position": position,
    "critiques": critiques,
}


# Data -------------------------------------------------------------------------------------------


def sanity_cases(pairs: Sequence[LabelledPair], flaw: Any, given: argparse.Namespace) -> list[Contrast]:
    rows = tuple(
        PairRow(prompt=p.prompt, first=p.first, second=p.second, preference=p.preference, origin=str(n))
        for n, p in enumerate(pairs)
    )
    n = given.sanity if given.limit is None else min(given.limit, given.sanity)
    most = given.max_chars or 10**9
    part = Part(rated=(), pairs=rows)
    drawn = make_contrast(part, 4 * n, seed=given.seed, max_chars=most, flaws={flaw: 1.0})
    if flaw == "cut_off":
        drawn = [c for c in drawn if len(c.worse) >= len(c.better)]
    return drawn[:n]


def taken(pairs: Sequence[LabelledPair], given: argparse.Namespace) -> list[LabelledPair]:
    most = given.max_chars or 10**9
    fitting = [p for p in pairs if len(p.prompt) + len(p.first) + len(p.second) <= most]
    return sampled(fitting, given)


def sampled(rows: list[Any], given: argparse.Namespace) -> list[Any]:
    if given.limit is None or given.limit >= len(rows):
        return rows
    return random.Random(given.seed).sample(rows, given.limit)


def subsets(pairs: Sequence[LabelledPair]) -> dict[str, Callable[[LabelledPair], bool]]:
    known = trained_prompts()
    return {
        "decided": lambda _: True,
        "decided, like lengths": lambda p: (
            abs(len(p.first) - len(p.second)) <= 0.1 * max(len(p.first), len(p.second))
        ),
        "decided, new prompts": lambda p: prompt_key(p.prompt) not in known,
        "decided, the longer won": lambda p: longer(p) == p.preference,
        "decided, the shorter won": lambda p: longer(p) not in (p.preference, "tie"),
    }


def trained_prompts() -> frozenset[str]:
    """Prompts of Auto-J's rating examples, of which 97 test rows repeat one."""
    rating = load_spec("autoj-13b").rating
    assert rating is not None
    path = data_folder() / "auto-j" / "data" / "training" / "single_traindata.jsonl"
    filled = (
        unfill(rating.template, str(row.get("usrmsg", row.get("usermsg")))) for _, row in read_rows(str(path))
    )
    return frozenset(prompt_key(values["prompt"]) for values in filled if values is not None)


def baselines(pairs: Sequence[LabelledPair], data: Path) -> dict[str, Any]:
    """Rules that read nothing, and Auto-J's published decisions, on the same pairs."""
    place = {
        (p.prompt, p.first, p.second): n
        for n, p in enumerate(read_pairs(data / "test" / "testdata_pairwise.jsonl"))
    }
    published = read_decisions(
        data / "outputs" / "pairwise_example_output.jsonl",
        data / "outputs" / "pairwise_exchange_example_output.jsonl",
    )
    auto_j = [published[place[p.prompt, p.first, p.second]] for p in pairs]
    rules: dict[str, list[Decision]] = {
        "longer completion": [Decision(given=longer(p), swapped=longer(p)) for p in pairs],
        "always first": [Decision(given="first", swapped="second") for _ in pairs],
        "always tie": [Decision(given="tie", swapped="tie") for _ in pairs],
        "Auto-J 13B, published": auto_j,
    }
    found = {}
    for name, decisions in rules.items():
        report = evaluate_pairs(pairs, decisions).overall
        wins = [
            np.mean([{"first": 1.0, "tie": 0.5, "second": 0.0}[str(o)] for o in (d.given, d.swapped)])
            for d in decisions
        ]
        values = [1.0 if w > 0.5 else 0.0 if w < 0.5 else 0.5 for w in wins]
        found[name] = {
            "pairs": {
                "agreement": plain(report.agreement),
                "consistency": plain(report.consistency),
                **{f"comparison {k}": decided(pairs, values, keep) for k, keep in subsets(pairs).items()},
            }
        }
    return found


def longer(pair: LabelledPair) -> Literal["first", "second", "tie"]:
    if len(pair.first) == len(pair.second):
        return "tie"
    return "first" if len(pair.first) > len(pair.second) else "second"


# Figures ----------------------------------------------------------------------------------------


def rating_wins(judge: Judge, pairs: Sequence[LabelledPair]) -> list[float]:
    prompts = [p.prompt for p in pairs]
    first = [j.expected_rating for j in judge.rate(prompts, [p.first for p in pairs])]
    second = [j.expected_rating for j in judge.rate(prompts, [p.second for p in pairs])]
    return [won(a, b) for a, b in zip(first, second, strict=True)]


def win_probs(judged: Sequence[PairJudgment]) -> list[float]:
    return [0.5 if j.win_prob is None else j.win_prob for j in judged]


def decided(
    pairs: Sequence[LabelledPair], wins: Sequence[float], keep: Callable[[LabelledPair], bool]
) -> dict[str, Any]:
    """Accuracy on pairs that people decided; the judge's ties count one half."""
    values = [
        w if p.preference == "first" else 1 - w
        for p, w in zip(pairs, wins, strict=True)
        if p.preference != "tie" and keep(p)
    ]
    return asdict(share(values))


def stating(judgment: Judgment) -> float:
    """The share of a judgment's texts, in both orders for a pair, that end in a verdict."""
    return float(np.mean([s.stated is not None for s in judgment.samples]))


def readable(judgment: Judgment) -> float:
    """The share of a judgment's texts with a verdict that could be read, stated or forced."""
    return float(np.mean([s.failure is None for s in judgment.samples]))


def plain(value: Share | None) -> dict[str, Any]:
    assert value is not None  # both orders were judged
    return asdict(value)


def correlation(both: Sequence[tuple[float, float]]) -> float | None:
    values = np.array(both)
    if len(values) < 3 or values.std(axis=0).min() == 0:
        return None
    return float(np.corrcoef(values.T)[0, 1])


def reasons(failures: Sequence[Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for failure in failures:
        if failure is not None:
            counts[str(failure.reason)] = counts.get(str(failure.reason), 0) + 1
    return counts


def table(name: str, parts: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {"judge": name, "part": part, "measure": measure, "value": cell(value)}
        for part, measures in parts.items()
        for measure, value in measures.items()
    ]


def cell(value: Any) -> str:
    if isinstance(value, dict) and "low" in value:
        if value["n"] == 0:
            return "none"
        return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f}), n = {value['n']}"
    return str(value) if not isinstance(value, float) else f"{value:.3f}"


# The result file --------------------------------------------------------------------------------


def partial(name: str) -> Path:
    return RESULTS / f"{name}.partial.json"


def earlier(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Results of an interrupted run with the same settings."""
    if partial(name).exists():
        before: dict[str, Any] = json.loads(partial(name).read_text(encoding="utf-8"))
        if before["settings"] == settings:
            return before
    return {"settings": settings, "judges": {}}


def save(name: str, results: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    scratch = partial(name).with_suffix(".new")
    scratch.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    os.replace(scratch, partial(name))


if __name__ == "__main__":
    main()
