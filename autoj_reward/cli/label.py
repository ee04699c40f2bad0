# SPDX-License-Identifier: Apache-2.0
"""`label`: build preference data from groups of completions or from pairs."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, cast

import typer

from autoj_reward.cli.options import (
    CacheOptions,
    CriteriaOptions,
    JudgeOptions,
    RowOptions,
    RunOptions,
    in_panel,
    with_options,
)
from autoj_reward.cli.run import Budget, Source, StrategyName, judge_rows, load_judge, open_rows
from autoj_reward.errors import ConfigError, DataError

_pairs_option, _data_option = in_panel("Pairs"), in_panel("Data")

Target = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        metavar="OUT",
        help="A .jsonl or .parquet file, or a name without a suffix: a folder for datasets.load_from_disk.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOptions:
    """Which pairs are made and kept: the fields of `LabelSettings`."""

    pairs: Annotated[
        Literal["best_worst", "best_random", "adjacent", "all"],
        _pairs_option(help="Which pairs of a ranked group."),
    ] = "best_worst"
    min_margin: Annotated[float, _pairs_option(min=0.0, help="Least difference of the rewards.")] = 0.0
    min_win_prob: Annotated[
        float, _pairs_option(min=0.5, max=1.0, help="Least probability that the chosen one wins.")
    ] = 0.5
    confirm: Annotated[
        bool, _pairs_option(help="Compare each pair of a ranked group directly as well, in both orders.")
    ] = False
    orders_agree: Annotated[
        bool, _pairs_option(help="Drop a compared pair whose two orders prefer different completions.")
    ] = True
    ties: Annotated[
        Literal["drop", "keep"],
        _pairs_option(help="keep: a hash picks the chosen one, and win_prob shows the tie."),
    ] = "drop"
    max_length_ratio: Annotated[
        float | None,
        _pairs_option(
            min=1.0, metavar="R", help="Drop a pair if one text is more than R times as long as the other."
        ),
    ] = None
    max_pairs: Annotated[
        int | None,
        _pairs_option(
            min=1, metavar="M", help="At most M pairs of a prompt, those with the largest margins."
        ),
    ] = None


@with_options(PairOptions, JudgeOptions, CacheOptions, RowOptions)
def label(
    source: Source,
    output: Target,
    kind: Annotated[
        Literal["dpo", "kto"],
        _data_option(
            help="dpo: prompt, chosen, rejected, margin (DPOTrainer and RewardTrainer). kto: prompt, "
            "completion, label.",
        ),
    ] = "dpo",
    layout: Annotated[
        Literal["auto", "standard", "conversational"],
        _data_option(
            help="Texts, or lists of messages; auto takes the layout of the first row.",
        ),
    ] = "auto",
    margin_scale: Annotated[float, _data_option(help="Margins are multiplied by it in the data.")] = 1.0,
    strategy: StrategyName = "pointwise",
    budget: Budget = None,
    *,
    pairing: PairOptions,
    judging: JudgeOptions,
    caching: CacheOptions,
    rows: RowOptions,
) -> None:
    """Make preference data: rows with "prompt" and "completions": [...], or "prompt", "first" and "second".

    Groups are ranked first, two completions are compared. The output is ready for TRL's trainers, and also
    has win_prob (a soft label), rewards, critiques, distributions and source.
    """
    from autoj_reward.ranking.pair_rules import LabelSettings
    from autoj_reward.ranking.registry import choose_strategy
    from autoj_reward.rows.preferences import LabelSummary, label_task, layout_of

    if rows.retry_failed:
        raise ConfigError(
            "label does not judge failed rows again",
            hint="rerank or compare --retry-failed does, into the same cache; then label --overwrite",
        )
    settings = LabelSettings(**asdict(pairing))
    chosen = choose_strategy(strategy, budget)
    judge = load_judge(judging, caching.for_judge(), guarded=True)
    read, fields = open_rows(source, output, ("rerank", "compare"), rows)
    first = next((row for _, row in read.rows() if isinstance(row, dict)), None)
    if first is None:
        raise DataError("has no rows", path=source)
    made = layout_of(next(fields.expand(first)), fields) if layout == "auto" else layout
    make_task = functools.partial(
        label_task,
        layout=cast(Any, made),
        kind=kind,
        strategy=chosen,
        settings=settings,
        margin_scale=margin_scale,
    )
    judge_rows(
        read,
        output,
        judge,
        make_task,
        fields,
        RunOptions(judging=judging, criteria=CriteriaOptions(), caching=caching, rows=rows),
        identity={
            "kind": kind,
            "layout": made,
            "margin_scale": margin_scale,
            "settings": str(settings),
            "strategy": str(chosen),
        },
        labels=LabelSummary(),
    )
