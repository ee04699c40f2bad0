# SPDX-License-Identifier: Apache-2.0
"""`evaluate benchmark`: a judge's figures in RewardBench 2, JudgeBench, RM-Bench, RMB and PPE."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Literal

import typer

from autoj_reward.cli.display import note, print_tables
from autoj_reward.cli.evaluate.pairwise import AsMarkdown
from autoj_reward.cli.options import AsJson, RunOptions, with_options
from autoj_reward.cli.run import judge_rows, load_judge
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.json_text import json_text


@with_options(RunOptions)
def benchmark(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="rewardbench-2, judgebench, rm-bench, rmb or ppe.", show_default=False
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="The judge's answers go there (.jsonl or .parquet). A finished file is scored again.",
            show_default=False,
        ),
    ],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE...",
            help="The benchmark's files as published (.json, .jsonl, .parquet), folders of them, or the hub "
            "name of its data set.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[list[str] | None, typer.Option("--data", hidden=True)] = None,
    by: Annotated[
        Literal["rating", "comparison"] | None,
        typer.Option(
            help="Rate each completion by itself, or compare pairs. By default rating for rewardbench-2 and "
            "rm-bench, comparison for the others; rewardbench-2's ties are always rated.",
        ),
    ] = None,
    one_order: Annotated[bool, typer.Option(help="Let the judge see one order of each pair only.")] = False,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
    *,
    options: RunOptions,
) -> None:
    """Accuracy by subset and overall as each benchmark defines them, beside agreement and Cohen's kappa."""
    from autoj_reward.evaluate.benchmarks.benchmark import BENCHMARKS, evaluate_benchmark, read_judged
    from autoj_reward.evaluate.benchmarks.source import BenchmarkRows
    from autoj_reward.evaluate.benchmarks.task import ITEM_FORMAT, benchmark_task, inputs_of
    from autoj_reward.rows.output import read_record

    if name not in BENCHMARKS:
        raise ConfigError(f"there is no benchmark {name!r}", hint=f"there are {', '.join(BENCHMARKS)}")
    names = [*(files or ()), *(data or ())]
    if not names:
        raise ConfigError(f"no file of {name} is given", hint="name its files, a folder, or its data set")
    rows = options.rows
    if rows.format_name is not None or rows.column:
        raise ConfigError("a benchmark has fixed fields", hint="leave out --format and --column")
    if options.criteria.criteria is not None:
        raise ConfigError("a benchmark has no criteria", hint="leave out --criteria")
    chosen = BENCHMARKS[name]
    how = by or chosen.by
    source = BenchmarkRows(
        names, chosen.read, split_of=lambda of: chosen.splits.get(of, rows.split), limit=rows.limit
    )
    judge = load_judge(options.judging, options.for_cache(), both_orders=not one_order)
    task = functools.partial(benchmark_task, name=name, by=how)
    if rows.dry_run:
        n = sum(
            inputs_of(row, how, n_samples=judge.settings.n_samples, both_orders=not one_order)
            for _, row in source.rows()
            if not isinstance(row, DataError)
        )
        note(f"by {how}: {n:,} inputs to the model")
    identity = {"benchmark": name, "by": how, "one_order": one_order}
    incomplete: typer.Exit | None = None
    try:
        judge_rows(source, str(output), judge, task, ITEM_FORMAT, options, identity=identity)
    except typer.Exit as stopped:
        if stopped.exit_code != 3:
            raise
        incomplete = stopped  # the figures come first
    if rows.dry_run:
        return
    report = evaluate_benchmark(name, read_judged(str(output)))
    if as_json:
        about = read_record(Path(f"{output}.run.json")).get("about")
        typer.echo(json_text({**report.as_dict(), "about": about}, indent=1))
    else:
        print_tables([report.table()], markdown=as_markdown)
    if incomplete is not None:
        raise incomplete
