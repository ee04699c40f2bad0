# SPDX-License-Identifier: Apache-2.0
"""`label`: build preference data from groups of completions or from pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from autoj_reward.cli.options import CacheOptions, JudgeOptions, RowOptions, key_values, with_options
from autoj_reward.cli.run import Budget, Source, StrategyName, load_judge, run_work
from autoj_reward.errors import ConfigError, DataError

if TYPE_CHECKING:
    from autoj_reward.rows.fields import Kind
    from autoj_reward.rows.source import RowSource

_PAIRS, _DATA = "Pairs", "Data"

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


@with_options(JudgeOptions, CacheOptions, RowOptions)
def label(
    source: Source,
    output: Target,
    kind: Annotated[
        str,
        typer.Option(
            metavar="dpo|kto",
            help="dpo: prompt, chosen, rejected, margin (DPOTrainer and RewardTrainer). kto: prompt, "
            "completion, label.",
            rich_help_panel=_DATA,
        ),
    ] = "dpo",
    layout: Annotated[
        str,
        typer.Option(
            metavar="auto|standard|conversational",
            help="Texts, or lists of messages; auto does as the first row does.",
            rich_help_panel=_DATA,
        ),
    ] = "auto",
    margin_scale: Annotated[
        float, typer.Option(help="Margins are multiplied by it in the data.", rich_help_panel=_DATA)
    ] = 1.0,
    pairs: Annotated[
        str,
        typer.Option(
            metavar="best_worst|best_random|adjacent|all",
            help="Which pairs of a ranked group.",
            rich_help_panel=_PAIRS,
        ),
    ] = "best_worst",
    min_margin: Annotated[
        float, typer.Option(min=0.0, help="Least difference of the rewards.", rich_help_panel=_PAIRS)
    ] = 0.0,
    min_win_prob: Annotated[
        float,
        typer.Option(
            min=0.5, max=1.0, help="Least probability that the chosen one wins.", rich_help_panel=_PAIRS
        ),
    ] = 0.5,
    confirm: Annotated[
        bool,
        typer.Option(
            help="Compare each pair of a ranked group directly as well, in both orders.",
            rich_help_panel=_PAIRS,
        ),
    ] = False,
    orders_agree: Annotated[
        bool,
        typer.Option(
            help="Drop a compared pair whose two orders prefer different completions.",
            rich_help_panel=_PAIRS,
        ),
    ] = True,
    ties: Annotated[
        str,
        typer.Option(
            metavar="drop|keep",
            help="keep: the chosen one is drawn by lot, and win_prob says so.",
            rich_help_panel=_PAIRS,
        ),
    ] = "drop",
    max_length_ratio: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            metavar="R",
            help="Drop a pair where one text is more than R times as long as the other.",
            show_default=False,
            rich_help_panel=_PAIRS,
        ),
    ] = None,
    max_pairs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="M",
            help="At most M pairs of a prompt, those with the largest margins.",
            show_default=False,
            rich_help_panel=_PAIRS,
        ),
    ] = None,
    strategy: StrategyName = "pointwise",
    budget: Budget = None,
    *,
    judging: JudgeOptions,
    caching: CacheOptions,
    rows: RowOptions,
) -> None:
    """Make preference data: rows with "prompt" and "completions": [...], or "prompt", "first" and "second".

    Groups are ranked first, two completions are compared. The output is ready for TRL: it holds what its
    trainers read, and beside that win_prob (a soft label), rewards, critiques, distributions and source.
    """
    from autoj_reward.ranking.pair_rules import LabelSettings
    from autoj_reward.ranking.registry import choose_strategy
    from autoj_reward.rows.fields import row_format
    from autoj_reward.rows.preferences import LabelSummary, label_work, layout_of
    from autoj_reward.rows.source import open_source

    if kind not in ("dpo", "kto") or layout not in ("auto", "standard", "conversational"):
        raise ConfigError(
            f"--kind {kind!r} is not dpo or kto, or --layout {layout!r} not auto, standard or conversational"
        )
    if rows.retry_failed:
        raise ConfigError(
            "label does not judge failed rows again",
            hint="rerank or compare --retry-failed does, into the same cache; then label --overwrite",
        )
    if source == "-":
        raise ConfigError("label reads its input several times: give a file")
    settings = LabelSettings(
        pairs=cast(Any, pairs),
        min_margin=min_margin,
        min_win_prob=min_win_prob,
        confirm=confirm,
        orders_agree=orders_agree,
        ties=cast(Any, ties),
        max_length_ratio=max_length_ratio,
        max_pairs=max_pairs,
    )
    chosen = choose_strategy(strategy, budget)
    judge = load_judge(judging, caching.for_judge(), guarded=True)
    columns = key_values(rows.column, "--column")
    first = _first_row(open_source(source, split=rows.split))
    fields = row_format(_kind_of(first, rows.format_name, columns), rows.format_name, columns)
    made = layout_of(next(fields.expand(first)), fields) if layout == "auto" else layout
    work = label_work(
        judge,
        fields,
        layout=cast(Any, made),
        kind=cast(Any, kind),
        strategy=chosen,
        settings=settings,
        margin_scale=margin_scale,
    )
    run_work(
        "label",
        source,
        output,
        judge,
        judging,
        caching,
        rows,
        work,
        added_fields=(),
        expanded=LabelSummary(),
        kind=kind,
        layout=made,
        margin_scale=margin_scale,
        settings=str(settings),
        strategy=str(chosen),
    )


def _first_row(source: RowSource) -> dict[str, Any]:
    for _, row in source.rows():
        if not isinstance(row, DataError):
            return row
    raise DataError("has no rows", path=source.name)


def _kind_of(row: dict[str, Any], format_name: str | None, columns: dict[str, str]) -> Kind:
    """Whether rows hold groups or two completions."""
    if format_name is not None:
        return "compare" if format_name == "autoj-pairwise" else "rerank"
    grouped = columns.get("completions", "completions") in row or "completions" in columns
    return "rerank" if grouped else "compare"
