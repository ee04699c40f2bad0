# SPDX-License-Identifier: Apache-2.0
"""What do criteria with a verdict of their own add to a judge's ratings?

Both completions of Auto-J's pairwise test pairs are rated four ways, and the higher rating is the pick:

own        the judge's own rating template, without a rubric
plain      the general template, without a rubric
text       the general template, with the criteria of the pair's scenario as one text
criteria   one verdict for each of those criteria, weighted

Pairs are stratified by scenario (`--per-scenario` of each of the 58), chosen by a hash. Agreement is the
share of people's decided pairs whose preferred completion is picked; equal ratings, and pairs with a failure,
count one half. Intervals are 95% paired bootstrap over prompts. Answers are cached, so a run that was stopped
continues.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from groups import data_folder
from report import publish, show

from autoj_reward import Judge, Rubric
from autoj_reward.autoj.pairs import LabelledPair, read_pairs
from autoj_reward.autoj.scenarios.criteria import CriteriaSet, load_criteria
from autoj_reward.engines import engine_stats
from autoj_reward.judge.presets import load_spec
from autoj_reward.judgments import RatingJudgment, RubricJudgment
from autoj_reward.statistics import bootstrap_rows, resampled

WAYS = ("own", "plain", "text", "criteria")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--judge", default="mini")
    arguments.add_argument("--engine")
    arguments.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    arguments.add_argument("--per-scenario", type=int, default=6)
    arguments.add_argument("--scenarios", type=int, help="the first N scenarios only")
    arguments.add_argument("--per-call", type=int, default=1, help="criteria in a call; 0 is all")
    arguments.add_argument("--choices", nargs="+", help="verdicts from the worst to the best; No Yes without")
    arguments.add_argument("--chunk", type=int, default=8, help="pairs judged, and cached, at a time")
    arguments.add_argument("--name", help="of the result file; criteria_JUDGE without")
    given = arguments.parse_args()

    sets = load_criteria(data_folder() / "auto-j")
    pairs = chosen(sets, given.per_scenario, given.scenarios)
    right = {way: picks(way, pairs, sets, given) for way in given.ways}
    rows = bootstrap_rows(len(pairs))
    base = given.ways[-1]
    table = []
    for way, (values, facts) in right.items():
        agreement = resampled(values, rows)
        against = resampled(right[base][0] - values, rows)
        table.append(
            {
                "way": way,
                "agreement": agreement.value,
                "low": agreement.low,
                "high": agreement.high,
                f"{base} less this": against.value,
                "from": against.low,
                "to": against.high,
                **facts,
            }
        )
    show(table)
    results = {
        "judge": given.judge,
        "pairs": len(pairs),
        "scenarios": len({pair.scenario for pair in pairs}),
        "ways": table,
    }
    question = "agreement with people on Auto-J's pairs: weighted criteria, one text, no rubric"
    publish(given.name or f"criteria_{given.judge.replace('/', '-')}", question, results)


def chosen(sets: dict[str, CriteriaSet], per_scenario: int, n_scenarios: int | None) -> list[LabelledPair]:
    """Decided pairs, as many of each scenario."""
    by_scenario: dict[str, list[LabelledPair]] = {}
    for pair in read_pairs(data_folder() / "auto-j" / "data" / "test" / "testdata_pairwise.jsonl"):
        if pair.preference != "tie" and pair.scenario in sets:
            by_scenario.setdefault(pair.scenario, []).append(pair)
    kept: list[LabelledPair] = []
    for scenario in sorted(by_scenario)[:n_scenarios]:
        kept += sorted(by_scenario[scenario], key=_hash)[:per_scenario]
    return kept


def _hash(pair: LabelledPair) -> str:
    return hashlib.sha256(f"{pair.prompt}\n{pair.first}\n{pair.second}".encode()).hexdigest()


def picks(
    way: str, pairs: Sequence[LabelledPair], sets: dict[str, CriteriaSet], given: argparse.Namespace
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], dict[str, Any]]:
    """For each pair whether the preferred completion was picked, 0.5 for neither; and what it cost."""
    spec = load_spec(given.judge)
    if way in ("plain", "text"):
        spec = replace(spec, rating=load_spec("general").rating)
    with Judge.load(
        spec, engine=given.engine, mode="direct", cache=True, overlong="truncate", min_mass=1e-3
    ) as judge:
        judgments: list[RatingJudgment] = []
        for start in range(0, len(pairs), given.chunk):
            part = pairs[start : start + given.chunk]
            rubrics = [rubric(way, sets[pair.scenario], given) for pair in part for _ in range(2)]
            judgments += judge.rate(
                [pair.prompt for pair in part for _ in range(2)],
                [text for pair in part for text in (pair.first, pair.second)],
                rubrics=rubrics,
            )
            print(f"{way}: {start + len(part)} of {len(pairs)} pairs", flush=True)
        stats = engine_stats(judge.engine)
    values = []
    for pair, first, second in zip(pairs, judgments[::2], judgments[1::2], strict=True):
        if first.reward is None or second.reward is None or first.reward == second.reward:
            values.append(0.5)
        else:
            values.append(float((first.reward > second.reward) == (pair.preference == "first")))
    usage = [j.usage for j in judgments]
    criteria = [j.n_failed for j in judgments if isinstance(j, RubricJudgment)]
    return np.array(values), {
        "failed": sum(j.failure is not None for j in judgments),
        "failed criteria": sum(criteria),
        "calls": sum(j.n_calls for j in judgments),
        "tokens": sum(u.prompt_tokens - u.cached_tokens for u in usage),
        "from cache": None if stats is None else stats.cached_share,
    }


def rubric(way: str, criteria: CriteriaSet, given: argparse.Namespace) -> str | Rubric | None:
    if way == "text":
        return criteria.rubric()
    if way != "criteria":
        return None
    made = criteria.as_rubric(given.per_call or None)
    if given.choices is None:
        return made
    own = tuple(replace(criterion, choices=tuple(given.choices)) for criterion in made.criteria)
    return replace(made, criteria=own)


if __name__ == "__main__":
    main()
