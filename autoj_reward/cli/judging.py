# SPDX-License-Identifier: Apache-2.0
"""`rate`, `compare` and `rerank`: one file of rows in, the same rows with verdicts out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from autoj_reward.cli import display
from autoj_reward.cli.options import CacheOptions, JudgeOptions, RowOptions, key_values, typed, with_options
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.rows.fields import Kind, row_format

if TYPE_CHECKING:
    from autoj_reward.judge.judge import Judge
    from autoj_reward.rows.fields import RowFormat
    from autoj_reward.rows.run import Checked, Finished, Item, Spending, Work
    from autoj_reward.rows.source import RowSource

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


@with_options(JudgeOptions, CacheOptions, RowOptions)
def rate(
    source: Source, output: Target, *, judging: JudgeOptions, caching: CacheOptions, rows: RowOptions
) -> None:
    """Rate completions: rows with "prompt" and "completion".

    Adds to each row: rating (greedy), expected_rating, reward, critique, mass, mode, cut_chars, failure.
    """
    from autoj_reward.rows.works import rate_work

    judge = load_judge(judging, caching.for_judge(again=rows.retry_failed))
    _run("rate", source, output, judge, judging, caching, rows, lambda fields: rate_work(judge, fields))


@with_options(JudgeOptions, CacheOptions, RowOptions)
def compare(
    source: Source,
    output: Target,
    one_order: Annotated[
        bool, typer.Option(help="Judge the given order only: half the cost, and biased by position.")
    ] = False,
    *,
    judging: JudgeOptions,
    caching: CacheOptions,
    rows: RowOptions,
) -> None:
    """Compare two completions: rows with "prompt", "first" and "second".

    Adds to each row: preference, win_prob, tie_prob, reward, flipped, slot_bias, order_preferences,
    order_win_probs, critique, mass, mode, cut_chars, failure.
    """
    from autoj_reward.rows.works import compare_work

    judge = load_judge(judging, caching.for_judge(again=rows.retry_failed), both_orders=not one_order)
    _run(
        "compare",
        source,
        output,
        judge,
        judging,
        caching,
        rows,
        lambda fields: compare_work(judge, fields),
        one_order=one_order,
    )


@with_options(JudgeOptions, CacheOptions, RowOptions)
def rerank(
    source: Source,
    output: Target,
    critiques: Annotated[
        str,
        typer.Option(
            metavar="none|ends|all",
            help="With a direct judge: who gets a critique. ends: the best and the worst of each group.",
        ),
    ] = "ends",
    show: Annotated[int, typer.Option(min=0, help="How many groups to print as a table.")] = 4,
    *,
    judging: JudgeOptions,
    caching: CacheOptions,
    rows: RowOptions,
) -> None:
    """Order N completions of each prompt: rows with "prompt" and "completions": [...].

    Adds to each row: ranking (best first: index, reward, rating, expected_rating, mass, critique,
    cut_chars, failure), best (the index of the best, null where no completion has a verdict) and mode.
    """
    from autoj_reward.rows.works import Critiques, rerank_work

    if critiques not in ("none", "ends", "all"):
        raise ConfigError(f"--critiques {critiques!r} is not none, ends or all")
    judge = load_judge(judging, caching.for_judge(again=rows.retry_failed))
    left = 0 if rows.quiet else show

    def print_groups(items: Sequence[Item], finished: Sequence[Finished]) -> None:
        nonlocal left
        for item, done in list(zip(items, finished, strict=True))[:left]:
            display.print_group(item, done, to_stderr=output == "-")
            left -= 1

    _run(
        "rerank",
        source,
        output,
        judge,
        judging,
        caching,
        rows,
        lambda fields: rerank_work(judge, fields, critiques=cast(Critiques, critiques)),
        show=print_groups,
        critiques=critiques,
    )


def load_judge(options: JudgeOptions, caching: Mapping[str, Any], **further: Any) -> Judge:
    """The judge that the options describe; no model is loaded yet.

    Args:
        options: The judge's.
        caching: Keyword arguments of `Judge.load` about the cache; none for no cache.
        **further: Further ones.

    Raises:
        ConfigError: A setting is wrong.
        StoreError: The cache cannot be used.
    """
    from autoj_reward.judge.judge import Judge

    return Judge.load(
        options.judge,
        engine=options.engine,
        mode=cast(Any, options.mode),
        n_samples=options.samples,
        temperature=options.temperature,
        max_new_tokens=options.max_new_tokens,
        seed=options.seed,
        overlong=cast(Any, options.overlong),
        **caching,
        **further,
        **typed(key_values(options.engine_option, "--engine-option")),
    )


def _run(
    kind: Kind,
    source_name: str,
    target: str,
    judge: Judge,
    judging: JudgeOptions,
    caching: CacheOptions,
    options: RowOptions,
    make_work: Callable[[RowFormat], Work],
    *,
    show: Callable[[Sequence[Item], Sequence[Finished]], None] | None = None,
    **identity: Any,
) -> None:
    from autoj_reward.engines.factory import default_engine_name
    from autoj_reward.rows.output import Output
    from autoj_reward.rows.retry import retry_failed
    from autoj_reward.rows.run import check_rows, run_rows
    from autoj_reward.rows.source import open_source
    from autoj_reward.rows.works import ADDED_FIELDS

    columns = key_values(options.column, "--column")
    work = make_work(row_format(kind, options.format_name, columns))
    if show is not None:
        work = replace(work, show=show)
    source = open_source(source_name, split=options.split)
    if (
        target != "-"
        and Path(target).exists()
        and Path(source_name).exists()
        and Path(target).samefile(source_name)
    ):
        raise ConfigError(f"{target} is the input as well as the output")
    checked = check_rows(source, work)
    _deal_with_bad(source, work, checked, target, options)
    if lost := sorted(checked.fields & set(ADDED_FIELDS[kind])):
        display.note(f"the rows' own fields {', '.join(lost)} are replaced in the output")
    for name in ({"rubric", "reference"} & checked.fields) - work.optional:
        display.note(
            f"the rows have a field {name!r}, which judge {judge.spec.name} does not take: not shown to it"
        )

    run = {
        "command": kind,
        "input": checked.digest,
        "template": judge.spec.fingerprint,
        **{k: v for k, v in asdict(judging).items() if v is not None},
        "format": options.format_name,
        "columns": columns,
        **identity,
    }
    output = Output(target, run, overwrite=options.overwrite)
    engine = judging.engine or default_engine_name()
    chunk = options.chunk or (64 if engine == "transformers" else 1024)
    with contextlib.closing(output), contextlib.closing(judge):
        if options.retry_failed:
            summary = retry_failed(
                source,
                work,
                output,
                checked,
                fields=ADDED_FIELDS[kind],
                chunk_requests=chunk,
                quiet=options.quiet,
                spending=_spending(judge, caching),
            )
        elif output.complete:
            rows = f"{checked.n_rows:,} rows are in it"
            display.note(f"{target} is finished: all {rows} (--overwrite begins anew)")
            return
        else:
            if output.n_done:
                display.note(f"going on in {target} after {output.n_done:,} of {checked.n_rows:,} rows")
            try:
                summary = run_rows(
                    source,
                    work,
                    output,
                    checked,
                    chunk_requests=chunk,
                    max_failures=options.max_failures,
                    quiet=options.quiet,
                    spending=_spending(judge, caching),
                )
            except KeyboardInterrupt:
                display.note(f"stopped; what is done is in {target}, and the same command goes on from there")
                raise typer.Exit(130) from None
    if not options.quiet:
        display.print_summary(summary, target)


def _spending(judge: Judge, caching: CacheOptions) -> Callable[[], Spending] | None:
    """What the cache answered and what the engine was asked so far; None without a cache."""
    from autoj_reward.rows.run import Spending

    if caching.no_cache:
        return None
    from autoj_reward.engines.cached import CachedEngine

    cached = judge.engine
    assert isinstance(cached, CachedEngine)
    return lambda: Spending(n_cached=cached.n_hits, n_asked=cached.n_asked, usage=cached.spent)


def _deal_with_bad(source: RowSource, work: Work, checked: Checked, target: str, options: RowOptions) -> None:
    from autoj_reward.rows.run import set_bad_aside

    n_bad = len(checked.problems)
    if not n_bad:
        return
    display.print_problems(checked.problems)
    if not options.skip_bad:
        raise DataError(
            f"{n_bad:,} of {n_bad + checked.n_rows:,} rows cannot be read",
            path=source.name,
            hint="mend them, or set them aside with --skip-bad",
        )
    aside = Path("rows.bad.jsonl" if target == "-" else f"{target}.bad.jsonl")
    set_bad_aside(source, work, aside)
    display.note(f"{n_bad:,} rows are set aside in {aside}")
