# SPDX-License-Identifier: Apache-2.0
"""`rescore`: recompute judgments from cached or kept outputs, without an engine."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.table import Table

from autoj_reward.cli.cache import CachePath, opened_cache
from autoj_reward.cli.display import note, table_console
from autoj_reward.cli.options import CriteriaOptions, JudgeOptions, key_values, with_options
from autoj_reward.console import escape
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.json_text import json_text

if TYPE_CHECKING:
    from autoj_reward.autoj.scenarios.rubrics import ScenarioRubrics
    from autoj_reward.cache.store import JudgmentStore
    from autoj_reward.judge.judge import Judge
    from autoj_reward.rescore.cache import Aggregation, Report
    from autoj_reward.rows.fields import Kind
    from autoj_reward.rows.records import RowItem

_CHUNK = 512
_PROBED = 64
"""Rows that decide which engine's answers an output came from."""


@with_options(JudgeOptions, CriteriaOptions)
def rescore(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[IN]",
            help="An output of rate, compare or rerank; without one, every judgment in the cache.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT.jsonl", help="Write the new rows.", show_default=False),
    ] = None,
    was: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Whole cache: the judge as it was; by default --judge with its own --min-mass.",
            show_default=False,
        ),
    ] = None,
    min_mass: Annotated[
        float | None,
        typer.Option(help="Least probability, in (0, 1], on the verdicts.", show_default=False),
    ] = None,
    aggregation: Annotated[
        str, typer.Option(metavar="mean|vote", help="How draws become one distribution.")
    ] = "mean",
    critiques: Annotated[
        bool,
        typer.Option("--critiques", help="Read the critiques that the rows keep, and use no cache."),
    ] = False,
    fingerprint: Annotated[
        str | None,
        typer.Option(help="Whose answers; by default those that fit.", show_default=False),
    ] = None,
    format_name: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="As for rate.", show_default=False)
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=THEIRS", help="As for rate.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    cache: CachePath = None,
    *,
    judging: JudgeOptions,
    criteria: CriteriaOptions,
) -> None:
    """Read judgments again with another parser, verdict set, least mass or aggregation; no model is run.

    --judge is the judge as it shall be: a preset or a TOML file. With an output file, give the options of
    the run that wrote it (samples, temperature, seed, parts of its guard), because they say which answers
    were its own. The mode is that in which each row was judged.
    """
    from autoj_reward.rescore.cache import Report
    from autoj_reward.rows.check import refuse_same_file

    if aggregation not in ("mean", "vote"):
        raise ConfigError(f"--aggregation {aggregation!r} is not mean or vote")
    if critiques and judging.force_verdict:
        raise ConfigError(
            "--critiques reads nothing, so that no verdict can be forced",
            hint="leave --critiques out, and name the cache that the run wrote",
        )
    first = None if source is None else _first_row(source)
    judge = _judge(judging, min_mass, first, source)
    how = cast("Aggregation", aggregation)
    report = Report()
    kept = 0
    if source is None:
        rows = _whole_cache(opened_cache(cache), judge, was or judging.judge, how, fingerprint, report)
        _consume(rows, output)
    else:
        if output is not None:
            refuse_same_file(source, output)
        columns = key_values(column, "--column")
        kind, items = _items(source, first, judge, format_name, columns, criteria.rubrics())
        counts: Counter[str] = Counter()
        store = None if critiques else opened_cache(cache)
        rows = _rows(items, kind, judge, how, store, fingerprint or _recorded(source), report, counts)
        _consume(rows, output)
        kept = counts["kept"]
    if as_json:
        typer.echo(json_text({**report.as_record(), "n_kept": kept}, indent=1))
    else:
        _show(report)
    if kept:
        note(f"{kept:,} rows stay as they were: not in the cache (`autoj-reward cache explain` says why)")


def _first_row(source: str) -> dict[str, Any]:
    """The first row of an output, which says what wrote it."""
    from autoj_reward.rows.source import open_source

    first = next((row for _, row in open_source(source).rows()), None)
    if first is None or isinstance(first, DataError):
        raise first or DataError("has no rows", path=source)
    return first


def _judge(
    options: JudgeOptions, min_mass: float | None, first: dict[str, Any] | None, source: str | None
) -> Judge:
    """The judge that the options describe, on an engine that has nothing to say: no package is needed.

    Args:
        options: The judge's.
        min_mass: Least probability, or None.
        first: The first row of the output that is rescored: its mode is the judge's, and its flags say
            whether there was a guard. None for a whole cache.
        source: The output, for messages.

    Raises:
        ConfigError: Another mode was asked for than the rows were judged in.
    """
    from autoj_reward.engines.replay import CritiqueEngine
    from autoj_reward.judge.judge import Judge
    from autoj_reward.rescore.rows import has_flags, mode_of

    mode: str | None = None if first is None else mode_of(first)
    if None not in (mode, options.mode) and mode != options.mode:
        raise ConfigError(
            f"--mode {options.mode}: the rows of {source} were judged in {mode} mode, and stay so",
            hint="leave --mode out; another mode is another judgment, which rate, compare and rerank make",
        )
    return Judge.load(
        options.judge,
        engine=CritiqueEngine(()),
        mode=cast(Any, mode or options.mode),
        n_samples=options.samples,
        temperature=options.temperature,
        max_new_tokens=options.max_new_tokens,
        seed=options.seed,
        overlong=cast(Any, options.overlong),
        force_verdict=options.force_verdict,
        min_mass=min_mass,
        guard=options.for_guard(default=first is not None and has_flags(first)),
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


def _items(
    source: str,
    first: dict[str, Any] | None,
    judge: Judge,
    format_name: str | None,
    columns: dict[str, str],
    rubrics: ScenarioRubrics | None,
) -> tuple[Kind, Iterator[RowItem]]:
    """The rows of an output file, laid out for the judge."""
    from autoj_reward.rescore.rows import kind_of, mode_of
    from autoj_reward.rows.fields import row_format
    from autoj_reward.rows.records import RowItem
    from autoj_reward.rows.source import open_source
    from autoj_reward.rows.tasks import taken_fields

    opened = open_source(source)
    assert first is not None
    kind = kind_of(first, source)
    layout = replace(row_format(kind, format_name, columns), rubric_of=rubrics)
    protocol = judge.spec.comparison if kind == "compare" else judge.spec.rating
    shown = taken_fields(judge.spec, protocol.template if protocol else None)

    def items() -> Iterator[RowItem]:
        for line, row in opened.rows():
            if isinstance(row, DataError):
                raise row
            if mode_of(row) not in (None, judge.settings.mode):
                raise DataError(
                    f"was judged in {mode_of(row)} mode, and the first row in {judge.settings.mode} mode",
                    path=source,
                    line=line,
                    field="mode",
                    hint="rescore the outputs of different runs one by one",
                )
            yield RowItem(line, row, layout.requests(row, optional=shown))

    return kind, items()


def _rows(
    items: Iterator[RowItem],
    kind: Kind,
    judge: Judge,
    how: Aggregation,
    store: JudgmentStore | None,
    fingerprint: str | None,
    report: Report,
    counts: Counter[str],
) -> Iterator[dict[str, Any]]:
    from autoj_reward.engines.replay import ReplayEngine
    from autoj_reward.judge.judge import Judge
    from autoj_reward.rescore.rows import critiques_of, judge_on, rescore_rows

    points = judge.settings.mode == "critique"
    replaying: Judge | None = None
    while chunk := list(itertools.islice(items, _CHUNK)):
        wanted = chunk
        if store is None:
            # What the rows keep is the critique alone, without thinking.
            bare = Judge(
                replace(judge.spec, thinking=None),
                replace(judge.settings, mode="critique"),
                judge.engine,
            )
            wanted, engine = critiques_of(chunk, kind, bare)
            replaying = judge_on(bare, engine, aggregation=how)
        elif replaying is None:
            chosen = _whose(store, chunk[:_PROBED], kind, judge, fingerprint, points=points)
            replaying = judge_on(judge, ReplayEngine(store, chosen, points=points), aggregation=how)
        done = {
            id(item): result
            for item, result in zip(wanted, rescore_rows(wanted, kind, replaying), strict=True)
        }
        for item in chunk:
            row, change = done.get(id(item), (item.row, None))
            if change is None:
                counts["kept"] += 1
            else:
                report.add(change)
            yield row


def _whose(
    store: JudgmentStore, items: list[RowItem], kind: Kind, judge: Judge, begins: str | None, *, points: bool
) -> str:
    """The engine whose stored answers fit most of the rows."""
    from autoj_reward.engines.replay import ReplayEngine
    from autoj_reward.rescore.rows import judge_on, rescore_rows

    known = sorted({s.engine for s in store.setups().values()})
    named = _named(known, items, judge) if begins is None else None
    fitting = named or [name for name in known if name.startswith(begins or "")]
    found: dict[str, int] = {}
    for name in fitting:
        engine = ReplayEngine(store, name, points=points)
        list(rescore_rows(items, kind, judge_on(judge, engine, aggregation="mean")))
        found[name] = engine.n_replayed
    if not any(found.values()):
        raise ConfigError(
            f"the cache {store.path} answers none of the first {len(items)} rows",
            hint="give the options of the run that wrote them, or --critiques; `autoj-reward cache explain` "
            "says what differs",
        )
    best = max(found.values())
    if len(equal := [name for name, n in found.items() if n == best]) > 1:
        raise ConfigError(
            f"the cache {store.path} holds answers of {len(equal)} engines to these rows, which do not "
            "say whose they are",
            hint="--fingerprint with one of " + ", ".join(name[:16] for name in equal),
        )
    return max(found, key=found.__getitem__)


def _recorded(source: str) -> str | None:
    """The fingerprint of the engine that judged an output, as the record beside it has it."""
    from autoj_reward.rows.output import read_record

    path = Path(f"{os.path.realpath(source)}.run.json")
    found = read_record(path).get("who") if path.is_file() else None
    name = found.get("engine fingerprint") if isinstance(found, dict) else None
    return name if isinstance(name, str) else None


def _named(known: list[str], items: list[RowItem], judge: Judge) -> list[str]:
    """The engine that the rows' own judge ids name, where the judge's template and sampling are theirs."""
    from autoj_reward.judge.description import judge_id

    ids = {item.row.get("judge_id") for item in items}
    return [name for name in known if judge_id(judge.spec, judge.settings, name) in ids]


def _consume(rows: Iterable[dict[str, Any]], output: Path | None) -> None:
    from autoj_reward.rows.output import write_rows

    if output is not None:
        # Whole or not at all: an error in the middle leaves what was there.
        write_rows(output, rows)
        return
    for _ in rows:
        pass


def _show(report: Report) -> None:
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
