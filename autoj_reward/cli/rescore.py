# SPDX-License-Identifier: Apache-2.0
"""`rescore`: recompute judgments from cached or kept outputs, without an engine."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from autoj_reward.cli.cache import CachePath, opened_cache
from autoj_reward.cli.display import print_facts, table_console
from autoj_reward.cli.options import (
    AsJson,
    Columns,
    CriteriaOptions,
    FormatName,
    JudgeOptions,
    Limit,
    Quiet,
    key_values,
    with_options,
)
from autoj_reward.errors import ConfigError
from autoj_reward.json_text import json_text

if TYPE_CHECKING:
    from autoj_reward.cache.store import JudgmentStore
    from autoj_reward.judge.judge import Judge
    from autoj_reward.rescore.cache import Aggregation, Report


@with_options(JudgeOptions, CriteriaOptions)
def rescore(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[IN]",
            help="An output of rate, compare or rerank; without one, every judgment in the cache.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT.jsonl", help="Write the new rows.")
    ] = None,
    was: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Without IN: the judge of the stored judgments; by default --judge with its own --min-mass.",
        ),
    ] = None,
    min_mass: Annotated[
        float | None, typer.Option(help="Least probability, in (0, 1], on the verdicts.")
    ] = None,
    aggregation: Annotated[
        Literal["mean", "vote"], typer.Option(help="How draws become one distribution.")
    ] = "mean",
    critiques: Annotated[
        bool, typer.Option("--critiques", help="Read the critiques in the rows, and use no cache.")
    ] = False,
    fingerprint: Annotated[
        str | None, typer.Option(help="Engine whose answers are read; by default the one that fits the rows.")
    ] = None,
    format_name: FormatName = None,
    column: Columns = None,
    limit: Limit = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    cache: CachePath = None,
    *,
    judging: JudgeOptions,
    criteria: CriteriaOptions,
) -> None:
    """Read judgments again with another parser, verdict set, least mass or aggregation; no model is run.

    --judge is the new judge: a preset or a TOML file. With an output file, give the options of the run that
    wrote it (samples, temperature, seed, parts of its guard): they select its answers in the cache. Each row
    keeps its mode.
    """
    from autoj_reward.rescore.cache import Report
    from autoj_reward.rescore.output import OutputRescore, first_row, mode_to_read
    from autoj_reward.rescore.rows import has_flags
    from autoj_reward.rows.check import refuse_same_file

    if critiques and judging.force_verdict:
        raise ConfigError(
            "--critiques uses no cache, so that no verdict can be forced",
            hint="leave out --critiques, and name the cache that the run wrote",
        )
    n_kept = 0
    if source is None:
        report = Report()
        judge = _judge(judging, judging.mode, min_mass, guarded=False)
        rows = _whole_cache(
            opened_cache(cache), judge, was or judging.judge, aggregation, fingerprint, report
        )
        _write(itertools.islice(rows, limit), output)
    else:
        if output is not None:
            refuse_same_file(source, output)
        first = first_row(source)
        run = OutputRescore(
            source,
            _judge(judging, mode_to_read(first, judging.mode, source), min_mass, guarded=has_flags(first)),
            store=None if critiques else opened_cache(cache),
            aggregation=aggregation,
            fingerprint=fingerprint,
            format_name=format_name,
            columns=key_values(column, "--column"),
            rubric_of=criteria.rubrics(),
            limit=limit,
        )
        _write(run.rows(), output)
        report, n_kept = run.report, run.n_kept
    if as_json:
        typer.echo(json_text({**report.as_record(), "n_kept": n_kept}, indent=1))
    elif not quiet:
        _show(report)
    if not quiet:
        _summarise(report, n_kept, output)


def _judge(options: JudgeOptions, mode: str | None, min_mass: float | None, *, guarded: bool) -> Judge:
    """The judge that the options describe, on an engine without answers, so that no package is needed."""
    from autoj_reward.cli.run import load_judge
    from autoj_reward.engines.replay import CritiqueEngine

    return load_judge(
        replace(options, engine_option=None, api_key_env=None),
        {},
        guarded=guarded,
        engine=CritiqueEngine(()),
        mode=mode,
        min_mass=min_mass,
    )


def _whole_cache(
    store: JudgmentStore, judge: Judge, was: str, how: Aggregation, engine: str | None, report: Report
) -> Iterator[dict[str, Any]]:
    from autoj_reward.judge.presets import load_spec
    from autoj_reward.rescore.cache import Scoring, rescore_cache

    old = load_spec(was)
    rules = judge.settings.rules
    before = Scoring(spec=old, min_mass=old.min_mass, force_verdict=rules.force_verdict)
    now = replace(before, spec=judge.spec, min_mass=rules.min_mass, aggregation=how)
    for one in rescore_cache(store, before, now, engine=engine):
        report.add(one)
        yield asdict(one)


def _write(rows: Iterable[dict[str, Any]], output: Path | None) -> None:
    from autoj_reward.rows.output import write_rows

    if output is not None:
        write_rows(output, rows)
    else:
        collections.deque(rows, maxlen=0)  # counts them


def _summarise(report: Report, n_kept: int, output: Path | None) -> None:
    failed = report.failures_after.total()
    unchanged = f"{n_kept:,} rows are unchanged: not in the cache (`autoj-reward cache explain` says why)"
    print_facts(
        f"rescore: {report.n:,} judgments",
        {
            "failed": f"{failed:,} without a verdict" if failed else "",
            "also": unchanged if n_kept else "",
            "output": str(output or ""),
            "next": "" if output is None else f"autoj-reward report {output}",
        },
    )


def _show(report: Report) -> None:
    from rich.table import Table

    from autoj_reward.console import escape

    console = table_console()
    table = Table(title="rescored", title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    for name, value in (
        ("judgments", f"{report.n:,}"),
        ("verdict changed", f"{report.n_verdicts_changed:,}"),
        ("number changed", f"{report.n_numbers_changed:,}"),
        ("mean change of the number", f"{report.mean_shift:.4g}"),
        ("largest change", f"{report.largest_shift:.4g}"),
        ("failure before, verdict now", f"{report.n_gained:,}"),
        ("verdict before, failure now", f"{report.n_lost:,}"),
        ("from the text alone, without a reading", f"{report.n_points:,}"),
    ):
        table.add_row(name, value)
    console.print(table)
    for title, counted in (
        ("failures before", report.failures_before),
        ("failures now", report.failures_after),
        ("verdicts", report.verdict_changes),
    ):
        for name, n in counted.most_common(10):
            console.print(f"{title}: {escape(name)}: {n:,}", soft_wrap=True)
