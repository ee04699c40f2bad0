# SPDX-License-Identifier: Apache-2.0
"""Which estimate of win shares from a ring is closer to comparing all pairs: mean wins, or fitted strengths?

A simulated judge compares completions of known quality, with an error for each pair. Each group is compared
in a ring, and completely. Two estimates are made from the ring: each completion's mean chance against its
two neighbours, and its chance against the whole group by fitted strengths. Both are compared with the mean
of all pairs without the judge's error.

    python benchmarks/win_shares.py
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np

from autoj_reward.ranking.evidence import Answers, Compared, Evidence
from autoj_reward.ranking.strategies import AllPairs, Ring, Strategy
from autoj_reward.statistics import correlation

N_GROUPS = 400
SPREAD, ERROR = 1.5, 1.0
"""Standard deviations, in log-odds, of qualities and of the judge's error on a pair."""


def shares(n: int, strategy: Strategy, wins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) mean wins over what was compared, and (n,) fitted shares."""
    evidence = Evidence(n=n, seed=0)
    asked = evidence.new(next(strategy.rounds(evidence)))
    evidence.add(asked, Answers(comparisons=tuple(Compared(wins[p], 0.0) for p in asked.compare)))
    met = [[wins[p] if p[0] == i else 1 - wins[p] for p in asked.compare if i in p] for i in range(n)]
    return np.array([np.mean(m) for m in met]), strategy.standing(evidence).rewards


def main() -> None:
    """Simulate, print and keep the figures."""
    rng = np.random.default_rng(0)
    rows = []
    for n in (4, 8, 16):
        found: dict[str, list[tuple[float, bool]]] = {}
        for _ in range(N_GROUPS):
            quality = rng.normal(0.0, SPREAD, n)
            odds = quality[:, None] - quality[None, :]
            true = (1 / (1 + np.exp(-odds)) - np.eye(n) / 2).sum(axis=1) / (n - 1)
            wins = np.full((n, n), 0.5)
            for i, j in combinations(range(n), 2):
                wins[i, j] = 1 / (1 + np.exp(-odds[i, j] - rng.normal(0.0, ERROR)))
                wins[j, i] = 1 - wins[i, j]
            for name, strategy in (("ring", Ring()), ("all", AllPairs())):
                for estimate, values in zip(("mean", "fitted"), shares(n, strategy, wins), strict=True):
                    agrees = correlation(true.tolist(), values.tolist()) or 0.0
                    best = bool(values.argmax() == true.argmax())
                    found.setdefault(f"{name}, {estimate}", []).append((agrees, best))
        for name, seen in found.items():
            row = {
                "n": n,
                "estimate": name,
                "correlation": round(float(np.mean([a for a, _ in seen])), 3),
                "best_found": round(float(np.mean([b for _, b in seen])), 3),
            }
            rows.append(row)
            print(row)
    record = {
        "command": "python benchmarks/win_shares.py",
        "date": datetime.now(UTC).date().isoformat(),
        "groups": N_GROUPS,
        "rows": rows,
    }
    path = Path(__file__).parent / "results" / "win_shares.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
