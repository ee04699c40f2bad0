# SPDX-License-Identifier: Apache-2.0
"""`classify`: find the Auto-J scenario of each prompt."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoj_reward.cli import display
from autoj_reward.cli.options import CacheOptions, RowOptions, key_values, typed, with_options
from autoj_reward.cli.row_check import (
    note_columns,
    put_bad_aside,
    refuse_bad,
    refuse_nothing_left,
    refuse_one_file,
)
from autoj_reward.cli.run import Source, Target
from autoj_reward.errors import ConfigError

if TYPE_CHECKING:
    from autoj_reward.autoj.scenarios.answers import ScenarioClassifier
    from autoj_reward.rows.fields import RowFormat
    from autoj_reward.rows.run import RowItem, RowResult, RowTask
    from autoj_reward.rows.source import Row

_CLASSIFIER = "Classifier"
FORMAT = "autoj-classifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierOptions:
    """Which classifier, and how sure it must be."""

    classifier: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="embedded (comes with the package), a file of its kind (.npz), autoj-scenario-classifier "
            "(the 13B model), or that model's folder.",
            rich_help_panel=_CLASSIFIER,
        ),
    ] = "embedded"
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="For the 13B model: transformers, vllm, vllm-server, server:URL, recorded:FILE.",
            show_default=False,
            rich_help_panel=_CLASSIFIER,
        ),
    ] = None
    engine_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Passed to the engine. Repeatable.",
            show_default=False,
            rich_help_panel=_CLASSIFIER,
        ),
    ] = None
    min_prob: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Below this probability the answer is 'default'; by default what suits the classifier.",
            show_default=False,
            rich_help_panel=_CLASSIFIER,
        ),
    ] = None


@with_options(ClassifierOptions, CacheOptions, RowOptions)
def classify(
    source: Source, output: Target, *, choice: ClassifierOptions, caching: CacheOptions, rows: RowOptions
) -> None:
    """Tell each prompt's scenario: rows with "prompt", or Auto-J's own with --format autoj-classifier.

    Adds to each row: scenario ('default' where the classifier is uncertain), scenario_group,
    scenario_best, scenario_prob, scenario_problem.
    """
    from autoj_reward.rows.output import Output
    from autoj_reward.rows.run import check_rows, run_rows
    from autoj_reward.rows.source import open_source

    if rows.retry_failed:
        raise ConfigError("classify has no failed rows to retry", hint="--overwrite classifies anew")
    columns = key_values(rows.column, "--column")
    with contextlib.closing(load_classifier(choice, caching)) as classifier:
        work = _work(classifier, _row_format(rows.format_name, columns))
        opened = open_source(source, split=rows.split)
        refuse_one_file(source, output)
        checked = check_rows(opened, work, for_parquet=output.endswith(".parquet"))
        refuse_bad(opened, checked, rows)
        note_columns(source, checked, expanded=False)
        if rows.dry_run:
            typer.echo(f"would classify {checked.n_rows:,} prompts by {classifier.name}")
            return
        run = {
            "command": "classify",
            "input": checked.digest,
            "classifier": classifier.name,
            "min_prob": choice.min_prob,
            "format": rows.format_name,
            "columns": columns,
        }
        refuse_nothing_left(source, checked)
        target = Output(output, run, overwrite=rows.overwrite)
        with contextlib.closing(target):
            put_bad_aside(opened, work, checked, output)
            if target.complete:
                display.note(f"{output} is finished: all {checked.n_rows:,} rows (--overwrite begins anew)")
                return
            summary = run_rows(
                opened, work, target, checked, chunk_requests=rows.chunk or 1024, quiet=rows.quiet
            )
    if not rows.quiet:
        rate = f", {60 * checked.n_rows / summary.seconds:,.0f} a minute" if summary.seconds > 0 else ""
        display.note(f"{checked.n_rows:,} prompts by {classifier.name}{rate}")


def load_classifier(choice: ClassifierOptions, caching: CacheOptions) -> ScenarioClassifier:
    """The classifier that the options name.

    Raises:
        ConfigError: There is none of that name, or its package is not installed.
    """
    name = choice.classifier
    if name == "embedded" or name.endswith(".npz"):
        from autoj_reward.autoj.scenarios.embedded import EmbeddedClassifier

        if choice.engine is not None or choice.engine_option:
            raise ConfigError("the embedded classifier runs on no engine", hint="leave out --engine")
        return EmbeddedClassifier(None if name == "embedded" else name, min_prob=choice.min_prob)
    from autoj_reward.autoj.scenarios.generative import AUTOJ_CLASSIFIER, ClassifierSpec, GenerativeClassifier

    if name != AUTOJ_CLASSIFIER and not (Path(name).is_dir() or name.count("/") == 1):
        raise ConfigError(
            f"there is no classifier {name!r}",
            hint=f"embedded, a .npz file, {AUTOJ_CLASSIFIER}, or a checkpoint folder",
        )
    return GenerativeClassifier(
        ClassifierSpec() if name == AUTOJ_CLASSIFIER else ClassifierSpec(model=name, architecture=None),
        engine=choice.engine,
        min_prob=choice.min_prob or 0.0,
        **caching.for_judge(),
        **typed(key_values(choice.engine_option, "--engine-option")),
    )


def _row_format(name: str | None, columns: dict[str, str]) -> RowFormat:
    from autoj_reward.rows.fields import RowFormat, RowProblem

    if unknown := sorted(set(columns) - {"prompt"}):
        raise ConfigError(f"classify has no fields {unknown}", hint="its field is prompt")
    if name is None:
        return RowFormat(prompt=columns.get("prompt", "prompt"), completions=())
    if name != FORMAT or columns:
        raise ConfigError(f"classify reads the format {FORMAT}, or rows with prompt (--column prompt=NAME)")

    def joined(row: Row) -> Any:
        for part in ("instruction", "input"):
            if not isinstance(row.get(part), str):
                raise RowProblem("must be a text", part)
        yield {**row, "prompt": f"{row['instruction']} {row['input']}"}

    return RowFormat(completions=(), expand=joined)


def _work(classifier: ScenarioClassifier, row_format: RowFormat) -> RowTask:
    from autoj_reward.autoj.scenarios.names import group_of
    from autoj_reward.judge.messages.text import prompt_text
    from autoj_reward.rows.run import RowResult, RowTask

    def judged(items: Sequence[RowItem]) -> list[RowResult]:
        answers = classifier.classify([prompt_text(item.requests[0].prompt) for item in items])
        return [
            RowResult(
                {
                    "scenario": a.scenario,
                    "scenario_group": group_of(a.scenario),
                    "scenario_best": a.best,
                    "scenario_prob": a.prob,
                    "scenario_problem": a.problem or None,
                },
                [],
            )
            for a in answers
        ]

    return RowTask(
        label="classify",
        row_format=row_format,
        optional=frozenset(),
        check=lambda requests: None,  # any prompt can be classified
        judge=judged,
    )
