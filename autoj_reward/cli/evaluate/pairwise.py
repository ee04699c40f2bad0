# SPDX-License-Identifier: Apache-2.0
"""`evaluate pairwise`: agreement of a judge with people."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoj_reward.cli.display import print_tables
from autoj_reward.cli.options import (
    AllowFailures,
    AsJson,
    CacheOptions,
    Columns,
    DataOption,
    FormatName,
    JudgeOptions,
    Limit,
    LimitOptions,
    Quiet,
    key_values,
    one_input,
    with_options,
)
from autoj_reward.cli.run import load_judge
from autoj_reward.cli.shared.judging import (
    about_finished,
    about_judge,
    check_output,
    exit_if_failed,
    judge_in_chunks,
)
from autoj_reward.errors import ConfigError
from autoj_reward.json_text import json_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from autoj_reward.autoj.pairs import Decision, LabelledPair, Scores
    from autoj_reward.budget import Spending
    from autoj_reward.evaluate.pairwise import PairwiseReport
    from autoj_reward.evaluate.scalar import ThresholdSearch
    from autoj_reward.judge.judge import Judge
    from autoj_reward.statistics import PairedTest

AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown tables.")]


@with_options(JudgeOptions, CacheOptions, LimitOptions)
def pairwise(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="IN",
            help="Pairs that people judged: chosen and rejected, Auto-J's testdata_pairwise.jsonl, rows of "
            "compare with a label, groups with a number for each completion, ... (docs/files.md).",
            show_default=False,
        ),
    ] = None,
    predictions: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help='Decisions: rows {"output": 0|1|2}, or what `autoj-reward compare` wrote; or scalar scores: '
            'rows {"scores": [of the first, of the second]}. Without it the judge decides.',
        ),
    ] = None,
    swapped: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help='For rows {"output": ...}: the decisions on the swapped pairs; 0 is what was first then.',
        ),
    ] = None,
    reward_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Score with this sequence classification model (a folder or hub name) instead of a judge.",
        ),
    ] = None,
    by_rating: Annotated[
        bool,
        typer.Option(help="Let the judge rate each completion by itself, and take its ratings as scores."),
    ] = False,
    one_order: Annotated[bool, typer.Option(help="Let the judge see the given order only.")] = False,
    against: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Another judge's decisions on the same pairs: adds a paired test."),
    ] = None,
    against_swapped: Annotated[
        str | None, typer.Option(metavar="FILE", help="As --swapped, for --against.")
    ] = None,
    folds: Annotated[
        int, typer.Option(min=2, help="For scores: folds on which the tie threshold is cross-validated.")
    ] = 10,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT.jsonl",
            help="Keep the decisions or scores; --predictions reads them again.",
        ),
    ] = None,
    format_name: FormatName = None,
    column: Columns = None,
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
    """Agreement, consistency and accuracy on pairs, overall and by scenario group, in percent."""
    from autoj_reward.autoj.pairs import holds_scores, read_decisions, read_pairs, read_scores
    from autoj_reward.evaluate.pairwise import compare_judges, evaluate_pairs
    from autoj_reward.evaluate.scalar import decisions_at, search_threshold
    from autoj_reward.rows.output import write_rows

    _refuse_without_effect(
        {
            "--reward-model": (reward_model is not None, predictions is None, "with --predictions"),
            "--by-rating": (
                by_rating,
                predictions is None and reward_model is None,
                "with other scores or decisions",
            ),
            "--one-order": (
                one_order,
                predictions is None and reward_model is None and not by_rating,
                "where no judge compares",
            ),
            "--swapped": (swapped is not None, predictions is not None, "without --predictions"),
            "--against-swapped": (against_swapped is not None, against is not None, "without --against"),
            "-o": (output is not None, predictions is None, "with --predictions, which are finished"),
        }
    )
    check_output(output)
    columns = key_values(column, "--column")
    name = one_input(source, data)
    pairs = read_pairs(name, format_name=format_name, columns=columns)[:limit]
    if one_order and all(p.preference == "first" for p in pairs):
        raise ConfigError(
            f"people prefer the first completion in every pair of {name}: with --one-order a judge that "
            "always prefers the first would be right",
            hint="leave out --one-order",
        )
    other = None if against is None else read_decisions(against, against_swapped)[:limit]
    if other is not None and len(other) != len(pairs):
        raise ConfigError(f"{against} holds {len(other):,} decisions on {len(pairs):,} pairs")
    search: ThresholdSearch | None = None
    scores: Sequence[Scores] | None = None
    about = about_finished(f"decisions of {predictions}", predictions)
    failures: Counter[str] = Counter()
    if predictions is not None or reward_model is not None:
        limits.refuse_without_judge()
    if predictions is not None and holds_scores(predictions):
        if swapped is not None:
            raise ConfigError("scores do not depend on the order of a pair", hint="leave out --swapped")
        scores = read_scores(predictions)[:limit]
    elif predictions is not None:
        decisions: Sequence[Decision] = read_decisions(predictions, swapped)[:limit]
    elif reward_model is not None:
        from autoj_reward.evaluate.reward_model import score_pairs

        scores = score_pairs(reward_model, pairs)
        about = about_finished(f"the reward model {reward_model}")
    else:
        with load_judge(judging, caching.for_judge(), both_orders=not one_order) as judge:
            decisions, scores = _judged(
                judge,
                pairs,
                by_rating=by_rating,
                as_json=as_json,
                quiet=quiet,
                output=output,
                failures=failures,
                spent=limits.spending(judge, caching),
            )
            about = about_judge(judge)
    if scores is not None:
        search = search_threshold(pairs, scores, n_folds=folds)
        decisions = decisions_at(scores, search.threshold)
        if output is not None and predictions is None:
            write_rows(output, [{"scores": list(s)} for s in scores])
    report = evaluate_pairs(pairs, decisions)
    tests: Mapping[str, PairedTest] = {}
    if other is not None:
        tests = compare_judges(pairs, decisions, other)
    _show(report, search, tests, about, as_json=as_json, as_markdown=as_markdown)
    exit_if_failed(failures, allowed=allow_failures)


def _refuse_without_effect(options: Mapping[str, tuple[bool, bool, str]]) -> None:
    """Refuse options that are given and do nothing: for each whether it is given, whether it counts, and
    where it would do nothing.
    """
    for name, (given, counts, where) in options.items():
        if given and not counts:
            raise ConfigError(f"{name} has no effect {where}", hint="leave out one of them")


def _show(
    report: PairwiseReport,
    search: ThresholdSearch | None,
    tests: Mapping[str, PairedTest],
    about: Mapping[str, Any],
    *,
    as_json: bool,
    as_markdown: bool,
) -> None:
    from autoj_reward.evaluate.report import ReportTable, interval

    if as_json:
        known: dict[str, Any] = report.as_dict()
        if search is not None:
            known["tie_threshold"] = search.as_dict()
        if tests:
            known["against"] = {name: test.as_dict() for name, test in tests.items()}
        typer.echo(json_text({**known, "about": about}, indent=1))
        return
    table = report.table()
    notes = (_decided_by(about["judge"]), *(() if search is None else search.notes()), *table.notes)
    tables = [replace(table, notes=notes)]
    if tests:
        tables.append(
            ReportTable(
                title="Against the other judge, paired",
                columns=("figure", "this", "other", "difference", "only this", "only other", "p"),
                sections=(
                    tuple(
                        (
                            name.replace("_", " "), f"{100 * t.first:.2f}", f"{100 * t.second:.2f}",
                            interval(t.difference), str(t.only_first), str(t.only_second), f"{t.p_value:.3g}",
                        )
                        for name, t in tests.items()
                    ),
                ),
                notes=("p: exact two-sided sign test on the pairs that one of the two alone has right",),
            )
        )  # fmt: skip
    print_tables(tables, markdown=as_markdown)


def _decided_by(judge: Mapping[str, Any] | str) -> str:
    """Who decided, as a line under the table."""
    if isinstance(judge, str):
        return f"decided by: {judge}"
    named = f"{judge['judge']} in {judge['mode']} mode"
    return f"decided by: {named}, id {judge['judge_id']}" if judge.get("judge_id") else f"decided by: {named}"


def _judged(
    judge: Judge,
    pairs: Sequence[LabelledPair],
    *,
    by_rating: bool,
    as_json: bool,
    quiet: bool,
    output: Path | None,
    failures: Counter[str],
    spent: Spending | None,
) -> tuple[Sequence[Decision], Sequence[Scores] | None]:
    """A judge's decisions, or its scores."""
    from autoj_reward.evaluate.predictions import compare_pairs, decision_of, pair_scores, rate_both
    from autoj_reward.rows.output import write_rows

    ask_in_chunks = functools.partial(
        judge_in_chunks,
        judge,
        "evaluate pairwise",
        pairs,
        quiet=quiet,
        output=output,
        failures=failures,
        spent=spent,
        next_step="autoj-reward report FIGURES.json, a file of what was printed"
        if as_json
        else "the same command with --json > figures.json, then autoj-reward report figures.json",
    )
    if by_rating:
        return [], pair_scores(ask_in_chunks(lambda chunk: rate_both(judge, chunk)))
    judgments = ask_in_chunks(lambda chunk: compare_pairs(judge, chunk))
    if output is not None:
        write_rows(output, [j.to_dict() for j in judgments])
    return [decision_of(j, judge.settings.both_orders) for j in judgments], None
