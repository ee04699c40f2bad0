# SPDX-License-Identifier: Apache-2.0
"""Best of N on sets with gold labels: what is each strategy's pick worth, and what does it cost?

The same code as `autoj-reward evaluate selection`, over several sets, with the check of batch orders: every
completion is rated twice, in order and backwards in other batches, and the rankings compared (goal: Kendall
at least 0.95). What is shown is picks against gold whatever comes out, less a random pick with its 95%
interval, beside the longest completion and the best fixed system. `alpacaeval` has an AI's labels; the
others' are of people, experts or tests.

The run in the results says how many groups it used; all of them, for a judge on a GPU:

    python benchmarks/selection.py --judge autoj-13b --sets truthfulqa summeval humaneval gsm8k alpacaeval \
        --n 2 4 8 16 32 --strategies greedy pointwise ring knockout swiss budgeted all_pairs --samples 4
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import asdict
from pathlib import Path
from typing import Any

from groups import data_folder
from report import publish, show

from autoj_reward.evaluate.batch_orders import check_batch_orders
from autoj_reward.evaluate.gold import READERS, GoldGroup
from autoj_reward.evaluate.plots import plot_selection
from autoj_reward.evaluate.selection import (
    SelectionReport,
    contenders_of,
    evaluate_selection,
)
from autoj_reward.judge.judge import Judge


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--judge", default="mini")
    arguments.add_argument("--engine", help="as in Judge.load")
    arguments.add_argument("--mode", default="direct", choices=["direct", "critique"])
    arguments.add_argument("--sets", nargs="+", choices=list(READERS), default=["truthfulqa"])
    arguments.add_argument("--n", nargs="+", type=int, default=[2, 4, 8, 16, 32])
    arguments.add_argument("--strategies", nargs="+", default=["greedy", "pointwise", "knockout", "budgeted"])
    arguments.add_argument("--samples", type=int, help="also K sampled critiques")
    arguments.add_argument("--max-new-tokens", type=int, help="of critiques")
    arguments.add_argument("--limit", type=int, help="groups of each set")
    arguments.add_argument(
        "--max-chars", type=int, help="leave out groups with longer prompts (said in the results)"
    )
    arguments.add_argument(
        "--order-groups", type=int, default=8, help="groups of the check of batch orders; 0 for none"
    )
    arguments.add_argument("--plots", type=Path, help="folder for plots")
    arguments.add_argument("--no-cache", action="store_true")
    arguments.add_argument("--name", default="selection", help="of the result file")
    given = arguments.parse_args()

    loading: dict[str, Any] = {
        "engine": given.engine,
        "mode": given.mode,
        "overlong": "truncate",
        "max_new_tokens": given.max_new_tokens,
        "seed": 0,
    }
    sets: dict[str, Any] = {}
    with Judge.load(given.judge, cache=not given.no_cache, **loading) as judge:
        contenders = contenders_of(judge, given.strategies, samples=given.samples)
        others = [n for n in contenders if n != "pointwise"] if "pointwise" in contenders else []
        for name in given.sets:
            groups = taken(name, given)
            report = evaluate_selection(
                groups,
                contenders,
                sizes=given.n,
                pairs=[("pointwise", n) for n in others],
                progress=lambda text: print(text, flush=True),
            )
            print(f"\n{name}: {len(groups)} groups")
            show(table(report))
            for pair in report.paired:
                print(pair)
            sets[name] = {"groups": len(groups), **report.as_dict()}
            if given.plots is not None:
                plot_selection(report, given.plots, title=name)
    with Judge.load(given.judge, cache=False, **loading) as fresh:
        for name in given.sets if given.order_groups else ():
            orders = check_batch_orders(fresh, taken(name, given)[: given.order_groups])
            sets[name]["batch_orders"] = asdict(orders)
            print(f"{name}: {orders}")
    publish(
        given.name,
        "gold of best-of-N picks by strategy, and what they cost",
        {
            "judge": given.judge,
            "mode": given.mode,
            "max_chars": given.max_chars,
            "resolution": "the judge's own",
            "sets": sets,
        },
    )


def taken(name: str, given: argparse.Namespace) -> list[GoldGroup]:
    short = (
        g
        for g in READERS[name](data_folder())
        if given.max_chars is None or len(g.prompt) + max(map(len, g.completions)) <= given.max_chars
    )
    return list(itertools.islice(short, given.limit))


def table(report: SelectionReport) -> list[dict[str, Any]]:
    return [
        {
            "N": row.n,
            "pick": row.name,
            "groups": row.n_groups,
            "gold": row.gold.value,
            "less random": row.over_random.value,
            "low": row.over_random.low,
            "high": row.over_random.high,
            "gain": row.gain.value,
            "kendall": "-" if row.kendall is None else row.kendall.value,
            "spearman": "-" if row.spearman is None else row.spearman.value,
            "calls": row.calls,
            "tokens": row.tokens,
            "seconds": row.seconds,
            "ties": row.ties,
        }
        for row in report.rows
    ]


if __name__ == "__main__":
    main()
