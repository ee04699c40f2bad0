# SPDX-License-Identifier: Apache-2.0
"""`evaluate critique`: win rate of critiques against reference critiques."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoj_reward.cli.display import note, print_tables
from autoj_reward.cli.evaluate.pairwise import AsMarkdown
from autoj_reward.cli.options import (
    AllowFailures,
    AsJson,
    CacheOptions,
    DataOption,
    JudgeOptions,
    Limit,
    LimitOptions,
    Quiet,
    one_input,
    with_options,
)
from autoj_reward.cli.shared.judging import check_output, exit_if_failed, judge_in_chunks
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.json_text import json_text
from autoj_reward.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autoj_reward.autoj.critiques import CritiqueCase
    from autoj_reward.evaluate.critique import Comparison, CritiqueReport, CritiqueStatistics


@with_options(JudgeOptions, CacheOptions, LimitOptions)
def critique(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="IN",
            help="Prompts and responses, as in Auto-J's testdata_critique.jsonl.",
            show_default=False,
        ),
    ] = None,
    comparisons: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Finished comparisons: rows with output (A..., B..., C...) and meta.exchange, or outcome.",
        ),
    ] = None,
    critiques: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The critiques to evaluate: rows with output or critique. By default those in the data.",
        ),
    ] = None,
    critic: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Let this judge write the critiques to evaluate (on --critic-engine)."
        ),
    ] = None,
    critic_engine: Annotated[
        str | None, typer.Option(metavar="NAME", help="The critic's engine; as --engine.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Reference critiques: rows with output. --judge, on --engine, says which is better.",
        ),
    ] = None,
    both_orders: Annotated[
        bool,
        typer.Option(
            help="Show each pair of critiques in both orders; else in one, drawn by texts and seed."
        ),
    ] = False,
    order_seed: Annotated[int, typer.Option(help="Seed of the order.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT.jsonl",
            help="Write critiques and comparisons; --comparisons and --critiques read this file.",
        ),
    ] = None,
    limit: Limit = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
    quiet: Quiet = False,
    allow_failures: AllowFailures = False,
    data: DataOption = None,
    *,
    judging: JudgeOptions,
    caching: CacheOptions,
    limits: LimitOptions,
) -> None:
    """How often critiques beat reference critiques (win, tie, lose), with statistics of the critiques.

    Without comparisons and references: ratings and lengths of the critiques only.
    """
    from autoj_reward.autoj.critiques import read_cases, read_critiques, read_outcomes
    from autoj_reward.evaluate.critique import critique_statistics, evaluate_critiques
    from autoj_reward.judge.presets import load_spec
    from autoj_reward.rows.output import write_rows

    if critiques is not None and critic is not None:
        raise ConfigError("--critiques is given together with --critic")
    if comparisons is not None and (reference is not None or output is not None):
        raise ConfigError("--comparisons excludes --reference and --output", hint="leave out one")
    if critic is not None and reference is not None and limits.budget() is not None:
        raise ConfigError(
            "a budget is for one judge: --critic writes the critiques, and --judge compares them",
            hint="let the critic write them first (-o OUT.jsonl, without --reference), then give --critiques "
            "OUT.jsonl",
        )
    if critic is None and (comparisons is not None or reference is None):
        limits.refuse_without_judge()
    check_output(output)
    failures: Counter[str] = Counter()
    name = one_input(source, data)
    cases = read_cases(name)[:limit]
    references = None if reference is None else read_critiques(reference)[:limit]
    if references is not None and len(references) != len(cases):
        raise DataError(f"there are {len(cases)} cases and {len(references)} references")
    if critiques is not None:
        texts: Sequence[str] | None = read_critiques(critiques)[:limit]
    elif critic is not None:
        texts = _written(cases, critic, critic_engine, caching, limits, quiet=quiet, failures=failures)
    else:
        texts = _in_data(cases)
    report: CritiqueReport | None = None
    compared: Sequence[Comparison] = ()
    if comparisons is not None:
        report = evaluate_critiques(cases, read_outcomes(comparisons)[:limit])
    elif references is not None:
        if texts is None:
            raise ConfigError(f"{name} holds no critiques", hint="give --critiques FILE or --critic NAME")
        if len(texts) != len(cases):
            raise DataError(f"there are {len(cases)} cases and {len(texts)} critiques")
        compared = _compared(
            list(zip(cases, texts, references, strict=True)),
            judging,
            caching,
            limits,
            both_orders=both_orders,
            seed=order_seed,
            quiet=quiet,
            failures=failures,
        )
        report = evaluate_critiques(
            cases,
            [c.outcome for c in compared],
            critiques=texts,
            references=references,
            flips=[c.flipped for c in compared],
        )
    statistics: CritiqueStatistics | None = None
    if texts:
        rating = load_spec(critic or "autoj-13b").rating
        if rating is None:
            raise ConfigError(f"the critic {critic!r} does not rate")
        statistics = critique_statistics(texts, rating.verdicts)
    if output is not None:
        write_rows(output, _rows(cases, texts, compared))
    if report is None and statistics is None:
        raise ConfigError(
            "there is nothing to evaluate",
            hint="give --comparisons FILE, or critiques (--critiques, --critic) and --reference",
        )
    _show(report, statistics, as_json=as_json, as_markdown=as_markdown)
    exit_if_failed(failures, allowed=allow_failures)


def _show(
    report: CritiqueReport | None,
    statistics: CritiqueStatistics | None,
    *,
    as_json: bool,
    as_markdown: bool,
) -> None:
    if as_json:
        known: dict[str, Any] = {} if report is None else report.as_dict()
        if statistics is not None:
            known["critiques"] = statistics.as_dict()
        typer.echo(json_text(known, indent=1))
        return
    if report is not None:
        print_tables([report.table()], markdown=as_markdown)
    for line in statistics.notes() if statistics is not None else ():
        typer.echo(printable(line))


def _in_data(cases: Sequence[CritiqueCase]) -> list[str] | None:
    """The critiques in the data, which has to be by one writer; None if it has none."""
    writers = sorted({name for case in cases for name in case.critiques})
    if not writers:
        return None
    if len(writers) > 1:
        raise ConfigError(
            f"the data holds critiques by {', '.join(writers)}", hint="give one of them as --critiques FILE"
        )
    if missing := sum(writers[0] not in case.critiques for case in cases):
        raise DataError(f"{missing} rows have no critique by {writers[0]}")
    return [case.critiques[writers[0]] for case in cases]


def _written(
    cases: Sequence[CritiqueCase],
    critic: str,
    engine: str | None,
    caching: CacheOptions,
    limits: LimitOptions,
    *,
    quiet: bool,
    failures: Counter[str],
) -> list[str]:
    from autoj_reward.judge.judge import Judge

    with Judge.load(
        critic, engine=engine, mode="critique", overlong="truncate", **caching.for_judge()
    ) as judge:
        judgments = judge_in_chunks(
            judge,
            "critiques",
            cases,
            lambda chunk: judge.rate([c.prompt for c in chunk], [c.completion for c in chunk]),
            quiet=quiet,
            failures=failures,
            spent=limits.spending(judge, caching),
        )
    if empty := sum(not j.critique for j in judgments):
        note(f"{empty} critiques are empty; they are compared as such")
    return [j.critique or "" for j in judgments]


def _compared(
    triples: Sequence[tuple[CritiqueCase, str, str]],
    judging: JudgeOptions,
    caching: CacheOptions,
    limits: LimitOptions,
    *,
    both_orders: bool,
    seed: int,
    quiet: bool,
    failures: Counter[str],
) -> list[Comparison]:
    """Comparisons of critiques with references, given as (case, critique, reference)."""
    from autoj_reward.cli.run import load_judge
    from autoj_reward.evaluate.critique import compare_critiques, comparing_spec
    from autoj_reward.judge.presets import load_spec

    spec = comparing_spec(load_spec(judging.judge))
    with load_judge(judging, caching.for_judge(), spec=spec, both_orders=both_orders) as judge:
        return judge_in_chunks(
            judge,
            "evaluate critique",
            triples,
            lambda chunk: compare_critiques(judge, *zip(*chunk, strict=True), seed=seed),
            quiet=quiet,
            failures=failures,
            judgment_of=lambda made: made.judgment,
            spent=limits.spending(judge, caching),
        )


def _rows(
    cases: Sequence[CritiqueCase], texts: Sequence[str] | None, compared: Sequence[Comparison]
) -> list[dict[str, Any]]:
    rows = []
    for i, case in enumerate(cases):
        row: dict[str, Any] = {"scenario": case.scenario}
        if texts is not None:
            row["critique"] = texts[i]
        if compared:
            one = compared[i]
            row["outcome"] = one.outcome
            row["reference_first"] = one.reference_first
            row["flipped"] = one.flipped
            row["win_prob"] = one.judgment.win_prob
            row["why"] = one.judgment.critique
            row["failure"] = one.judgment.to_dict()["failure"]
        rows.append(row)
    return rows
