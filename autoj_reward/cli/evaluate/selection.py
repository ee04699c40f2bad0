# SPDX-License-Identifier: Apache-2.0
"""`evaluate selection`: best-of-N picks against gold labels."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from autoj_reward.cli.display import note, print_facts, table_console
from autoj_reward.cli.options import (
    AllowFailures,
    CacheOptions,
    Columns,
    DataOption,
    FormatName,
    JudgeOptions,
    LimitOptions,
    Quiet,
    key_values,
    with_options,
)
from autoj_reward.cli.run import load_judge
from autoj_reward.cli.shared.judging import about_judge, check_output, exit_if_failed
from autoj_reward.errors import ConfigError
from autoj_reward.json_text import json_text

if TYPE_CHECKING:
    from autoj_reward.evaluate.selection import SelectionReport


@with_options(JudgeOptions, CacheOptions, LimitOptions)
def selection(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="IN",
            help="Groups with a number for each completion (gold, ratings, scores), Auto-J's "
            "testdata_selection.jsonl, RewardBench 2, chosen and rejected, ... (docs/files.md).",
            show_default=False,
        ),
    ] = None,
    gold_set: Annotated[
        str | None,
        typer.Option(
            "--set",
            metavar="NAME",
            help="A set of the data folder: truthfulqa, summeval, humaneval, gsm8k, alpacaeval.",
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(envvar="AUTOJ_REWARD_DATA", metavar="DIR", help="The data folder, for --set."),
    ] = None,
    sizes: Annotated[str, typer.Option("--n", help="Completions of a group, one or more.")] = "2,4,8,16,32",
    strategies: Annotated[
        str, typer.Option(metavar="NAMES", help="Strategies, as of rerank.")
    ] = "greedy,pointwise,knockout,budgeted",
    samples_too: Annotated[
        int | None, typer.Option(min=2, metavar="K", help="Also K sampled critiques, averaged.")
    ] = None,
    format_name: FormatName = None,
    column: Columns = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="The first N groups only.")] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write plots there; needs matplotlib.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT.json", help="Keep all figures.")
    ] = None,
    quiet: Quiet = False,
    allow_failures: AllowFailures = False,
    data: DataOption = None,
    *,
    judging: JudgeOptions,
    caching: CacheOptions,
    limits: LimitOptions,
) -> None:
    """Gold value and cost of best-of-N picks by strategy, with rules that need no judge as baselines."""
    from autoj_reward.evaluate.gold import READERS, read_selection
    from autoj_reward.evaluate.selection import contenders_of, evaluate_selection
    from autoj_reward.progress import span

    check_output(output)
    name = source or data
    if (name is None) == (gold_set is None):
        raise ConfigError("give IN, or --set NAME of the data folder")
    if gold_set is not None and (gold_set not in READERS or folder is None):
        raise ConfigError(
            f"the set {gold_set!r} is unknown, or no data folder is given",
            hint=f"sets: {', '.join(READERS)}; --folder or $AUTOJ_REWARD_DATA names the folder",
        )
    try:
        wanted = [int(n) for n in sizes.split(",")]
    except ValueError as error:
        raise ConfigError(f"--n {sizes!r} is not numbers with commas between them") from error
    if name is not None:
        read = read_selection(name, format_name=format_name, columns=key_values(column, "--column"))
    else:
        read = READERS[str(gold_set)](cast(Path, folder))
    groups = list(itertools.islice(read, limit))
    began = time.monotonic()
    with load_judge(judging, caching.for_judge()) as judge:
        spent = limits.spending(judge, caching)

        step = ""

        def progress(text: str) -> None:
            nonlocal step
            step = text
            if not quiet:
                note(text)

        def check() -> None:
            if spent is not None:
                spent.check(f"stopped in step {step}; the cache keeps the answers")

        contenders = contenders_of(judge, strategies.split(","), samples=samples_too)
        others = [n for n in contenders if n != "pointwise"] if "pointwise" in contenders else []
        report = evaluate_selection(
            groups,
            contenders,
            sizes=wanted,
            pairs=[("pointwise", n) for n in others],
            progress=progress,
            check=None if spent is None else check,
        )
        about = about_judge(judge)
    _print_selection(report)
    if output is not None:
        output.write_text(json_text({**report.as_dict(), "about": about}, indent=1) + "\n", encoding="utf-8")
    if plots is not None:
        from autoj_reward.evaluate.plots import plot_selection

        for path in plot_selection(report, plots, title=gold_set or Path(str(name)).stem):
            note(f"plotted {path}")
    if not quiet:
        print_facts(
            f"evaluate selection: {len(groups):,} groups in {span(time.monotonic() - began)}",
            {
                "failed": ", ".join(f"{n:,} {reason}" for reason, n in report.failures.most_common()),
                "also": f"{report.skipped:,} groups are too small or have no gold" if report.skipped else "",
                "output": str(output or ""),
                "next": "" if output is None else f"autoj-reward report {output}",
            },
        )
    exit_if_failed(report.failures, allowed=allow_failures)


def _print_selection(report: SelectionReport) -> None:
    from rich.table import Table

    console = table_console()
    caption = "gain: (pick - random) / (oracle - random); 95%: paired bootstrap over prompts of pick - random"
    table = Table(caption=caption, caption_justify="left")
    table.add_column("N", justify="right")
    table.add_column("pick", no_wrap=True)
    for name in ("groups", "gold", "- random", "95%", "gain", "tau", "rho", "calls", "tokens", "s", "ties"):
        table.add_column(name, justify="right", no_wrap=True)
    n = report.rows[0].n if report.rows else 0
    for row in report.rows:
        if row.n != n:
            table.add_section()
            n = row.n
        table.add_row(
            str(row.n),
            row.name,
            str(row.n_groups),
            f"{row.gold.value:.3f}",
            f"{row.over_random.value:+.3f}",
            f"{row.over_random.low:+.3f} to {row.over_random.high:+.3f}",
            f"{row.gain.value:.2f}",
            *("-" if c is None else f"{c.value:.2f}" for c in (row.kendall, row.spearman)),
            *(
                (f"{row.calls:.1f}", f"{row.tokens:,.0f}", f"{row.seconds:.2f}", f"{row.ties:.0%}")
                if row.calls
                else ("-",) * 4
            ),
        )
    console.print(table)
    for pair in report.paired:
        d = pair["difference"]
        console.print(
            f"N = {pair['n']}: {pair['above']} - {pair['below']}: {d['value']:+.4f} "
            f"({d['low']:+.4f} to {d['high']:+.4f})",
            soft_wrap=True,
        )
    if report.skipped:
        console.print(f"{report.skipped} groups are too small or have no gold", soft_wrap=True)
