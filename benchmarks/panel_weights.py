# SPDX-License-Identifier: Apache-2.0
"""Do weights that are fitted on 100 labelled pairs make a panel agree better with people?

The members are the embedded judge as it compares, as it rates, and as it compares with other words. Weights
are fitted on people's pairs of the arena that the embedded judge's recipe kept out of training, and
measured on pairs of Auto-J's test set, to which nothing was fitted: agreement with people (first, second or
tie), Cohen's kappa and calibration before (equal weights) and after, with a paired interval of the
difference. The ceiling is 100%.

Answers are cached, so that a run that was stopped continues:

    python benchmarks/panel_weights.py
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from groups import data_folder
from judge_quality import RECIPE
from report import publish, show

from autoj_reward import Judge, Panel
from autoj_reward.autoj.pairs import LabelledPair, read_pairs
from autoj_reward.judgments import PairJudgment
from autoj_reward.statistics import bootstrap_rows, cohen_kappa, paired_test
from autoj_reward.training.calibration import place
from autoj_reward.training.config import load_config
from autoj_reward.training.data import load_corpus
from autoj_reward.training.panel_weights import agreement_of, fit_panel, mixed

OTHER_WORDS = '''
extends = "mini"
name = "mini in other words"
[comparison]
text = """Query: {prompt}

Response 1: {first}

Response 2: {second}

Which response would the user prefer? Conclude "So, the final decision is Response 1 / Response 2 / Tie"."""
'''
CHUNK = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", type=int, default=100, help="labelled pairs of the fit")
    parser.add_argument("--test", type=int, default=150, help="pairs of the test")
    parser.add_argument("--max-chars", type=int, default=2500, help="leave out longer pairs")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    os.environ.setdefault("AUTOJ_REWARD_DATA", str(data_folder()))
    held_out = load_corpus(load_config(str(RECIPE))).held_out.pairs
    fit_rows = sampled(held_out, given.fit, given)
    tested = read_pairs(data_folder() / "auto-j" / "data" / "test" / "testdata_pairwise.jsonl")
    test_rows = sampled(tested, given.test, given)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "other.toml"
        path.write_text(OTHER_WORDS, encoding="utf-8")
        settings: dict[str, Any] = {"mode": "direct", "overlong": "truncate", "cache": True}
        mini = Judge.load("mini", **settings)
        other = Judge.load(str(path), **settings).with_settings(engine_of=mini)
        names = ["comparison", "ratings", "other words"]
        with Panel([mini, mini, other], names=names, compare_by=[None, "ratings", None]) as panel:
            fit = fit_panel(compared(panel, fit_rows), [p.preference for p in fit_rows], seed=given.seed)
            judged = compared(panel, test_rows)
    known = [(j, p) for j, p in zip(judged, test_rows, strict=True) if not j.by_rule and j.failure is None]
    probs = np.array([[m.distribution.probs for m in j.members if m.distribution] for j, _ in known])
    verdicts = known[0][0].distribution.verdicts if known[0][0].distribution else ()
    labels = np.array([place(p.preference, verdicts) for _, p in known])
    equal, weights = np.full(len(names), 1 / len(names)), np.array(list(fit.weights.values()))
    sides = {"before": mixed(probs, equal), "after": mixed(probs, weights)}
    sides |= {name: probs[:, i] for i, name in enumerate(names)}
    figures = {name: asdict(agreement_of(side, labels, seed=given.seed)) for name, side in sides.items()}
    right = {name: (side.argmax(axis=1) == labels).tolist() for name, side in sides.items()}
    show([row(name, one) for name, one in figures.items()])
    publish(
        "panel_weights",
        "agreement, kappa and calibration of a panel of three before and after its weights are fitted",
        {
            "pairs_of_the_fit": fit.n,
            "pairs_of_the_test": len(known),
            "max_chars": given.max_chars,
            "weights": fit.weights,
            "cross_validated": {"before": asdict(fit.before), "after": asdict(fit.after)},
            "test": figures,
            "after_against_before": paired_test(right["after"], right["before"]).as_dict(),
            "kappa_difference": kappa_difference(sides["after"], sides["before"], labels, given.seed),
        },
    )


def sampled(pairs: Sequence[Any], n: int, given: argparse.Namespace) -> list[Any]:
    """n short pairs, the same for a seed."""
    short = [p for p in pairs if len(p.prompt) + len(p.first) + len(p.second) <= given.max_chars]
    return random.Random(given.seed).sample(short, min(n, len(short)))


def compared(panel: Panel, rows: Sequence[LabelledPair]) -> list[PairJudgment]:
    """The panel's judgments, a few at a time, so that the cache keeps what a stopped run has."""
    judged: list[PairJudgment] = []
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        judged += panel.compare([p.prompt for p in part], [p.first for p in part], [p.second for p in part])
        print(f"{len(judged)} of {len(rows)} pairs", flush=True)
    return judged


def kappa_difference(after: Any, before: Any, labels: Any, seed: int) -> dict[str, float]:
    """Kappa after less before, with its 95% paired bootstrap interval."""

    def kappa(probs: Any, rows: Any) -> float:
        return cohen_kappa(probs[rows].argmax(axis=1).tolist(), labels[rows].tolist())

    whole = np.arange(len(labels))
    drawn = [kappa(after, r) - kappa(before, r) for r in bootstrap_rows(len(labels), seed=seed)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return {"value": kappa(after, whole) - kappa(before, whole), "low": float(low), "high": float(high)}


def row(name: str, one: dict[str, Any]) -> dict[str, Any]:
    share = one["accuracy"]
    return {
        "weights": name,
        "agreement": f"{share['value']:.1%} ({share['low']:.1%} to {share['high']:.1%})",
        "kappa": f"{one['kappa']:.3f}",
        "calibration error": f"{one['error']:.3f}",
        "log loss": f"{one['log_loss']:.3f}",
    }


if __name__ == "__main__":
    main()
