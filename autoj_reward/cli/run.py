# SPDX-License-Identifier: Apache-2.0
"""Load the judge, build the row run and start it, for every command that judges rows."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoj_reward.cli import display
from autoj_reward.cli.options import (
    CacheOptions,
    JudgeOptions,
    RowOptions,
    RunOptions,
    key_values,
    typed,
)
from autoj_reward.cli.ray import RayOptions, parquet_input, run_on_ray
from autoj_reward.cli.shared.interrupt import stop_is_explained
from autoj_reward.errors import ConfigError
from autoj_reward.terminal import printable

if TYPE_CHECKING:
    from autoj_reward.judge.judge import Judge
    from autoj_reward.judge.spec import JudgeSpec
    from autoj_reward.rows.fields import Kind, RowFormat
    from autoj_reward.rows.preferences import LabelSummary
    from autoj_reward.rows.records import RowItem, RowResult, RowTask, Summary
    from autoj_reward.rows.run import RowRun
    from autoj_reward.rows.source import RowSource
    from autoj_reward.types import EngineStats


_OPTION_OF = {
    "n_samples": "--samples",
    "mode='critique'": "--mode critique",
    "max_new_tokens": "--max-new-tokens",
    "min_mass": "--min-mass",
    "force_verdict": "--force-verdict",
    "check_critiques": "--check-critiques",
}
"""Arguments of `Judge.load` and the options that set them."""


def _existing(name: str) -> str:
    """Refuse a file that does not exist, before anything else is imported; the hub is not asked yet."""
    if name != "-" and not Path(name).exists():
        from autoj_reward.rows.source import is_hub_name, no_such_file

        if not is_hub_name(name):
            raise no_such_file(name)
    return name


Source = Annotated[
    str,
    typer.Argument(
        callback=_existing,
        metavar="IN",
        help="A .jsonl, .json, .csv, .tsv (also .gz) or .parquet file, a data set (hub ORG/NAME or a saved "
        "folder), or - for standard input.",
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
        "(comparisons), budgeted (ratings, then comparisons if the best one is uncertain).",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        metavar="CALLS",
        help="With budgeted: judge calls for a group (124), or parts of calls=9,tokens=9000,confidence=0.9. "
        "By default an eighth of the calls of all_pairs, with at least a few comparisons.",
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
    """The judge that the options describe, from `judge_arguments`; no model is loaded yet.

    Raises:
        ConfigError: A setting is wrong.
        StoreError: The cache cannot be used.
    """
    from autoj_reward.judge.judge import Judge

    try:
        return Judge.load(**judge_arguments(options, caching, spec=spec, guarded=guarded, **further))
    except ConfigError as error:
        raise ConfigError(_as_options(error.args[0]), hint=_as_options(error.hint)) from error


def _as_options(message: str) -> str:
    """A message about arguments of `Judge.load`, in the words of the command line."""
    for name, option in _OPTION_OF.items():
        message = message.replace(name, option)
    return message


def judge_arguments(
    options: JudgeOptions,
    caching: Mapping[str, Any],
    *,
    spec: JudgeSpec | None = None,
    guarded: bool = False,
    **further: Any,
) -> dict[str, Any]:
    """Keyword arguments of `Judge.load`; `spec` replaces the judge that the options name."""
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
        "check_critiques": bool(options.check_critiques),
        "guard": options.for_guard(default=guarded),
        "reasoning": options.reasoning,
        **caching,
        **further,
        **({} if options.api_key_env is None else {"api_key_env": options.api_key_env}),
        **typed(key_values(options.engine_option, "--engine-option")),
    }


def open_rows(name: str, target: str, kinds: Sequence[Kind], rows: RowOptions) -> tuple[RowSource, RowFormat]:
    """A command's input and the format of its rows, from `--format`, `--column` or the first rows.

    Says which published format was recognised.

    Raises:
        ConfigError: The input does not exist, or the format or field is unknown.
    """
    from autoj_reward.rows.check import refuse_same_file
    from autoj_reward.rows.fields import find_format
    from autoj_reward.rows.source import open_source

    refuse_same_file(name, target)
    _check_push(rows, target)
    source = open_source(name, split=rows.split, limit=rows.limit)
    _, fields = find_format(source, kinds, rows.format_name, key_values(rows.column, "--column"))
    if rows.format_name is None:
        display.note_format(source.name, fields)
    return source, fields


def _check_push(rows: RowOptions, target: str) -> None:
    """Refuse to push an output that is no file."""
    if rows.push_to_hub is not None and Path(target).suffix not in (".jsonl", ".parquet"):
        what = "standard output" if target == "-" else "a folder"
        raise ConfigError(
            f"--push-to-hub puts one file on the hub, and the output {target!r} is {what}",
            hint="write OUT.jsonl or OUT.parquet, or push the finished folder from Python with "
            "datasets' push_to_hub",
        )


def judge_rows(
    source: RowSource,
    target: str,
    judge: Judge,
    make_task: Callable[[Judge, RowFormat], RowTask],
    fields: RowFormat,
    options: RunOptions,
    *,
    identity: Mapping[str, Any] | None = None,
    show: Callable[[Sequence[RowItem], Sequence[RowResult]], None] | None = None,
    labels: LabelSummary | None = None,
    raying: RayOptions | None = None,
) -> None:
    """Check, judge and write a file's rows, or continue an interrupted output; then close the judge.

    Args:
        source: The input's rows.
        target: The output.
        judge: The judge.
        make_task: Makes the task; picklable if it may run on a Ray cluster.
        fields: Where rows keep their prompt and completions.
        options: The options that these commands share.
        identity: Options of the command that make it another run.
        show: Shows a chunk's results.
        labels: Expands the results of labelling and counts them.
        raying: The options of the Ray cluster.
    """
    from autoj_reward.cli.run_display import RunDisplay
    from autoj_reward.engines.factory import default_engine_name
    from autoj_reward.rows.run import RowRun

    judging, rows = options.judging, options.rows
    on_cluster = raying is not None and raying.ray is not None
    rows.spending.check(dry_run=rows.dry_run, on_cluster=on_cluster)
    blocks_of = parquet_input(source.name, target, rows) if on_cluster else None
    own = dict(identity or {})
    rubrics = options.criteria.rubrics()
    make = functools.partial(_task_of, make_task, replace(fields, rubric_of=rubrics))
    task = replace(make(judge), expansion=labels)
    if rubrics is not None:
        if "rubric" not in task.optional and not rubrics.each:
            raise ConfigError(
                f"the template of judge {judge.spec.name!r} takes no rubric: --criteria has no effect",
                hint="judge each criterion by itself: --criteria-per-call 1; or use a judge with the general "
                "template: --judge FOLDER or ORG/MODEL",
            )
        own["criteria"] = rubrics.fingerprint
    engine = judging.engine or default_engine_name()
    run = RowRun(
        source,
        task,
        target,
        judge,
        identity={
            **{k: v for k, v in asdict(judging).items() if v is not None and not k.startswith("guard")},
            "format": rows.format_name or fields.name,
            "columns": key_values(rows.column, "--column"),
            **own,
        },
        settings=rows.for_run(default_chunk=64 if engine == "transformers" else 1024),
        listener=RunDisplay(
            task.label, target, quiet=rows.quiet, overlong=judge.settings.overlong, show=show, labels=labels
        ),
        spending=_spending(judge, options.caching),
        budget=rows.spending.budget(),
    )
    with contextlib.closing(judge):
        run.check()
        for option in _without_effect(judge, judging, own):
            display.note(f"{option} has no effect in direct mode, which writes no critique")
        if rows.dry_run:
            from autoj_reward.cli.dry_run import plan_lines

            for line in plan_lines(run, judge, judging, measure=rows.spending.measure, quiet=rows.quiet):
                typer.echo(printable(line))
        elif raying is not None and blocks_of is not None:
            arguments = judge_arguments(
                judging, options.caching.for_judge(), both_orders=judge.settings.both_orders
            )
            summary = run_on_ray(run, judge, arguments, make, blocks_of, rows, raying)
            exit_if_incomplete(run, summary, rows)
        else:
            finish(run, rows)


def _task_of(make_task: Callable[[Judge, RowFormat], RowTask], fields: RowFormat, judge: Judge) -> RowTask:
    """The task of a Ray worker, from its own judge; a module-level function, so that it can be pickled."""
    return make_task(judge, fields)


def finish(run: RowRun, rows: RowOptions) -> None:
    """Start a run that was checked, and push what it wrote; Ctrl-C keeps the finished rows.

    Raises:
        typer.Exit: With status 130 after Ctrl-C, or with status 3 if rows failed or were left out.
    """
    if rows.push_to_hub is not None:
        from autoj_reward.rows.containers.hub import create_dataset, push_file

        _check_push(rows, run.target)
        # Before the judge is loaded: a missing key or network is found now.
        create_dataset(rows.push_to_hub)
    try:
        summary = (run.retry if rows.retry_failed else run.run)()
    except KeyboardInterrupt:
        done = "is unchanged" if rows.retry_failed else "holds the finished rows"
        display.note(f"stopped; {run.target} {done}, and the same command continues from there")
        stop_is_explained()
        raise typer.Exit(130) from None
    if rows.push_to_hub is not None:
        display.note(f"pushed {run.target}: {push_file(Path(run.target), rows.push_to_hub)}")
    exit_if_incomplete(run, summary, rows)


def exit_if_incomplete(run: RowRun, summary: Summary, rows: RowOptions) -> None:
    """Exit with status 3 if rows have no verdict or were left out, unless --allow-failures is given."""
    n_left_out = len(run.checked.problems)
    if rows.allow_failures or not (summary.n_failed_rows or n_left_out):
        return
    display.note(
        f"{summary.n_failed_rows:,} rows failed and {n_left_out:,} were left out, so the exit status is 3 "
        "(0 with --allow-failures)"
    )
    raise typer.Exit(3)


def _without_effect(judge: Judge, judging: JudgeOptions, identity: Mapping[str, Any]) -> list[str]:
    """Options about critiques that were given although no critique is written."""
    if judge.settings.mode != "direct" or identity.get("critiques", "none") != "none":
        return []
    given = {
        "--temperature": judging.temperature,
        "--max-new-tokens": judging.max_new_tokens,
        "--seed": judging.seed,
    }
    return [name for name, value in given.items() if value is not None]


def _spending(judge: Judge, caching: CacheOptions) -> Callable[[], EngineStats] | None:
    """Answers from the cache and from the engine so far; None without a cache."""
    from autoj_reward.engines import engine_stats
    from autoj_reward.types import EngineStats

    if caching.no_cache:
        return None
    return lambda: engine_stats(judge.engine) or EngineStats()
