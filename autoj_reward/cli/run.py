# SPDX-License-Identifier: Apache-2.0
"""Shared by the row commands: load the judge, check the rows, run, and report problems."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoj_reward.cli import display
from autoj_reward.cli.options import (
    CacheOptions,
    CriteriaOptions,
    JudgeOptions,
    RowOptions,
    key_values,
    typed,
)
from autoj_reward.cli.ray import RayJob, RayOptions, parquet_input, run_on_ray
from autoj_reward.cli.row_check import (
    note_columns,
    put_bad_aside,
    refuse_bad,
    refuse_nothing_left,
    refuse_one_file,
)
from autoj_reward.errors import ConfigError
from autoj_reward.redact import redacted
from autoj_reward.rows.fields import Kind, row_format
from autoj_reward.terminal import printable

if TYPE_CHECKING:
    from autoj_reward.judge.judge import Judge
    from autoj_reward.judge.spec import JudgeSpec
    from autoj_reward.rows.fields import RowFormat
    from autoj_reward.rows.output import Output
    from autoj_reward.rows.preferences import LabelSummary
    from autoj_reward.rows.run import CheckedRows, RowItem, RowResult, RowTask
    from autoj_reward.types import EngineStats

Source = Annotated[
    str,
    typer.Argument(
        metavar="IN",
        help="A .jsonl, .jsonl.gz or .parquet file, a data set (hub ORG/NAME or a saved folder), or - for "
        "standard input.",
        show_default=False,
    ),
]
Target = Annotated[
    str,
    typer.Option(
        "-o", "--output", metavar="OUT", help="A .jsonl or .parquet file, or -.", show_default=False
    ),
]
StrategyName = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="How a group is ranked: pointwise or greedy (one rating each), all_pairs, ring, knockout, swiss "
        "(comparisons), budgeted (ratings, then comparisons where the best is uncertain).",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        metavar="CALLS",
        help="With budgeted: judge calls for a group (124), or parts of calls=9,tokens=9000,confidence=0.9. "
        "By default an eighth of what all pairs would take, and a few comparisons at least.",
        show_default=False,
    ),
]


def load_judge(
    options: JudgeOptions,
    caching: Mapping[str, Any],
    *,
    spec: JudgeSpec | None = None,
    guarded: bool = False,
    **further: Any,
) -> Judge:
    """The judge that the options describe; no model is loaded yet.

    Args:
        options: The judge's.
        caching: Keyword arguments of `Judge.load` about the cache; none for no cache.
        spec: Instead of the judge that the options name.
        guarded: Whether the command has a guard where the options say nothing about it.
        **further: Further ones.

    Raises:
        ConfigError: A setting is wrong.
        StoreError: The cache cannot be used.
    """
    from autoj_reward.judge.judge import Judge

    return Judge.load(**judge_arguments(options, caching, spec=spec, guarded=guarded, **further))


def judge_arguments(
    options: JudgeOptions,
    caching: Mapping[str, Any],
    *,
    spec: JudgeSpec | None = None,
    guarded: bool = False,
    **further: Any,
) -> dict[str, Any]:
    """Keyword arguments of `Judge.load`; as for `load_judge`."""
    return {
        "name_or_path": spec or options.judge,
        "engine": options.engine,
        "mode": options.mode,
        "n_samples": options.samples,
        "temperature": options.temperature,
        "max_new_tokens": options.max_new_tokens,
        "seed": options.seed,
        "overlong": options.overlong,
        "force_verdict": options.force_verdict,
        "guard": options.for_guard(default=guarded),
        "reasoning": options.reasoning,
        **caching,
        **further,
        **({} if options.api_key_env is None else {"api_key_env": options.api_key_env}),
        **typed(key_values(options.engine_option, "--engine-option")),
    }


def _run(
    kind: Kind,
    source_name: str,
    target: str,
    judge: Judge,
    judging: JudgeOptions,
    criteria: CriteriaOptions,
    caching: CacheOptions,
    options: RowOptions,
    make_work: Callable[[Judge, RowFormat], RowTask],
    *,
    raying: RayOptions | None = None,
    show: Callable[[Sequence[RowItem], Sequence[RowResult]], None] | None = None,
    **identity: Any,
) -> None:
    from autoj_reward.rows.tasks import ADDED_FIELDS

    columns = key_values(options.column, "--column")
    rubrics = criteria.rubrics()
    fields = replace(row_format(kind, options.format_name, columns), rubric_of=rubrics)
    work = make_work(judge, fields)
    if rubrics is not None:
        if "rubric" not in work.optional:
            raise ConfigError(
                f"the template of judge {judge.spec.name!r} takes no rubric: --criteria would not show",
                hint="use a judge with the general template: --judge FOLDER or ORG/MODEL",
            )
        identity["criteria"] = rubrics.fingerprint
    if show is not None:
        work = replace(work, show=show)
    on_ray = None
    if raying is not None and raying.ray:
        from autoj_reward.rows.blocks import added_schema

        further: dict[str, Any] = {"both_orders": False} if identity.get("one_order") else {}
        job = RayJob(
            judge=judge_arguments(judging, caching.for_judge(), **further),
            make_work=functools.partial(_work_of, make_work, fields),
            schema=added_schema(kind),
        )
        on_ray = functools.partial(
            run_on_ray, parquet_input(source_name, target, options), target, job, rows=options, raying=raying
        )
    run_work(
        kind,
        source_name,
        target,
        judge,
        judging,
        caching,
        options,
        work,
        added_fields=ADDED_FIELDS[kind],
        on_ray=on_ray,
        **identity,
    )


def _work_of(make_work: Callable[[Judge, RowFormat], RowTask], fields: RowFormat, judge: Judge) -> RowTask:
    """A worker's work, from its own judge; a function of the module, so that it can be pickled."""
    return make_work(judge, fields)


def run_work(
    command: str,
    source_name: str,
    target: str,
    judge: Judge,
    judging: JudgeOptions,
    caching: CacheOptions,
    options: RowOptions,
    work: RowTask,
    *,
    added_fields: Sequence[str],
    expanded: LabelSummary | None = None,
    on_ray: Callable[[dict[str, Any], CheckedRows, Callable[[], None], dict[str, Any]], None] | None = None,
    **identity: Any,
) -> None:
    """Check, judge and write a file's rows, or go on where that stopped.

    Args:
        command: What identifies the run, beside its options.
        source_name: The input.
        target: The output.
        judge: Who judges; it is closed in the end.
        judging: How it was made.
        caching: Where its answers are kept.
        options: How rows are read and written.
        work: What is done with them.
        added_fields: What it adds to a row.
        expanded: Takes what is added to a row apart into the rows of the output, and counts them.
        on_ray: Runs it on a cluster instead of here, given what identifies the run, what was checked, what
            writes the bad rows aside, and information for the record.
        **identity: Further options that make it another run.

    Raises:
        ConfigError: The output belongs to another run, or is the input.
        DataError: Rows cannot be read, and are not to be set aside.
        EngineError: The engine failed; what is done is kept.
    """
    from autoj_reward.engines.factory import default_engine_name
    from autoj_reward.judge.description import who
    from autoj_reward.rows.identity import about_run
    from autoj_reward.rows.output import Output
    from autoj_reward.rows.retry import retry_failed
    from autoj_reward.rows.run import Summary, check_rows, refuse_no_verdict, run_rows
    from autoj_reward.rows.source import open_source

    source = open_source(source_name, split=options.split)
    refuse_one_file(source_name, target)
    checked = check_rows(source, work, for_parquet=expanded is None and target.endswith(".parquet"))
    refuse_bad(source, checked, options)
    note_columns(source_name, checked, expanded=expanded is not None)
    for option in _without_effect(judge, judging, identity):
        display.note(f"{option} has no effect in direct mode, which writes no critique")
    if lost := sorted(checked.fields & set(added_fields)):
        display.note(f"the rows' own fields {', '.join(lost)} are replaced in the output")
    for name in sorted(({"rubric", "reference", "language"} & checked.fields) - work.optional):
        display.note(
            f"the rows have a field {name!r}, which judge {judge.spec.name} does not take: not shown to it"
        )

    if options.dry_run:
        from autoj_reward.cli.dry_run import plan_lines

        for line in plan_lines(command, judge, judging, checked, work.strategy):
            typer.echo(printable(line))
        return
    run = redacted(
        {
            "command": command,
            "input": checked.digest,
            "template": judge.spec.fingerprint,
            **{k: v for k, v in asdict(judging).items() if v is not None and not k.startswith("guard")},
            "guard": judge.settings.guard.fingerprint if judge.settings.guard is not None else None,
            "format": options.format_name,
            "columns": key_values(options.column, "--column"),
            **identity,
        }
    )
    refuse_nothing_left(source_name, checked)
    engine = judging.engine or default_engine_name()
    if on_ray is not None:
        with contextlib.closing(judge):
            # The cluster's machines load the judge; this one says who it has to be, as far as it can tell.
            known = judge.describe("plan" if engine.startswith("server") else "files")
            run["who"] = redacted(who(known))
            aside = functools.partial(put_bad_aside, source, work, checked, target)
            on_ray(run, checked, aside, redacted(about_run(known)))
        return
    apart: dict[str, Any] = {} if expanded is None else {"expand": expanded.add, "notes": expanded.as_record}
    output = Output(target, run, overwrite=options.overwrite, **apart)
    chunk = options.chunk or (64 if engine == "transformers" else 1024)
    with contextlib.closing(output), contextlib.closing(judge):
        put_bad_aside(source, work, checked, target)
        _identify(judge, output, quiet=options.quiet, goes_on=not output.complete or options.retry_failed)
        if output.complete and not options.retry_failed:
            rows = f"{checked.n_rows:,} rows are in it"
            display.note(f"{target} is finished: all {rows} (--overwrite begins anew)")
            refuse_no_verdict(Summary(checked.n_rows, n_failed_rows=output.record.get("failed_rows", 0)))
            return
        if output.n_done:
            display.note(f"going on in {target} after {output.n_done:,} of {checked.n_rows:,} rows")
        how: dict[str, Any] = {
            "chunk_requests": chunk,
            "quiet": options.quiet,
            "spending": _spending(judge, caching),
        }
        try:
            if options.retry_failed:
                summary = retry_failed(source, work, output, checked, fields=added_fields, **how)
            else:
                summary = run_rows(
                    source,
                    work,
                    output,
                    checked,
                    max_failures=options.max_failures,
                    replaced=added_fields,
                    **how,
                )
        except KeyboardInterrupt:
            done = "is as it was" if options.retry_failed else "holds what is done"
            display.note(f"stopped; {target} {done}, and the same command goes on from there")
            raise typer.Exit(130) from None
    if not options.quiet:
        display.print_summary(summary, target, overlong=judge.settings.overlong)
        if expanded is not None:
            display.print_labels(expanded)
    if not checked.n_rows:
        display.note(f"{source_name} holds no rows: nothing was judged, and {target} is empty")
    refuse_no_verdict(summary)


def _identify(judge: Judge, output: Output, *, quiet: bool, goes_on: bool) -> None:
    """Say who judges, keep it in the output's record, and refuse rows of another judge.

    Raises:
        ConfigError: The output's rows are another judge's.
    """
    from autoj_reward.judge.description import shown, who
    from autoj_reward.rows.identity import about_run, check_same_judge

    early = judge.describe("files")
    if not goes_on:
        kept = output.record.get("who")
        if kept is not None and early["judge_id"] is not None:
            check_same_judge(output.name, kept, redacted(who(early)))
        return
    if not quiet:
        for name, text in shown(early, judge.settings.sampling.max_new_tokens).items():
            display.note(f"{name}: {text}")
    description = judge.describe()
    output.identify(redacted(who(description)), redacted(about_run(description)))


def _without_effect(judge: Judge, judging: JudgeOptions, identity: Mapping[str, Any]) -> list[str]:
    """Options about writing that were given where nothing is written."""
    if judge.settings.mode != "direct" or identity.get("critiques", "none") != "none":
        return []
    given = {
        "--temperature": judging.temperature,
        "--max-new-tokens": judging.max_new_tokens,
        "--seed": judging.seed,
    }
    return [name for name, value in given.items() if value is not None]


def _spending(judge: Judge, caching: CacheOptions) -> Callable[[], EngineStats] | None:
    """What the cache answered and what the engine was asked so far; None without a cache."""
    from autoj_reward.engines import engine_stats
    from autoj_reward.types import EngineStats

    if caching.no_cache:
        return None
    return lambda: engine_stats(judge.engine) or EngineStats()
