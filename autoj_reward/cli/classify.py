# SPDX-License-Identifier: Apache-2.0
"""`classify`: find the Auto-J scenario of each prompt."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoj_reward.cli.options import CacheOptions, RowOptions, in_panel, key_values, typed, with_options
from autoj_reward.cli.run import Source, Target, finish
from autoj_reward.errors import ConfigError

if TYPE_CHECKING:
    from autoj_reward.autoj.scenarios.answers import ScenarioClassifier
    from autoj_reward.rows.fields import RowFormat
    from autoj_reward.rows.records import RowItem, RowResult, RowTask, Summary
    from autoj_reward.rows.source import Row

_classifier_option = in_panel("Classifier")
FORMAT = "autoj-classifier"
ADDED_FIELDS = ("scenario", "scenario_group", "scenario_best", "scenario_prob", "scenario_problem")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierOptions:
    """The classifier and its threshold."""

    classifier: Annotated[
        str,
        _classifier_option(
            metavar="NAME",
            help="embedded (comes with the package), a file of its kind (.npz), autoj-scenario-classifier "
            "(the 13B model), or that model's folder.",
        ),
    ] = "embedded"
    engine: Annotated[
        str | None,
        _classifier_option(
            metavar="NAME",
            help="For the 13B model: transformers, vllm, vllm-server, server:URL, recorded:FILE.",
        ),
    ] = None
    engine_option: Annotated[
        list[str] | None, _classifier_option(metavar="KEY=VALUE", help="Passed to the engine. Repeatable.")
    ] = None
    min_prob: Annotated[
        float | None,
        _classifier_option(
            min=0.0,
            max=1.0,
            help="Below this probability the answer is 'default'; by default the classifier's own threshold.",
        ),
    ] = None


@with_options(ClassifierOptions, CacheOptions, RowOptions)
def classify(
    source: Source, output: Target, *, choice: ClassifierOptions, caching: CacheOptions, rows: RowOptions
) -> None:
    """Find each prompt's scenario: rows with "prompt", or Auto-J's own with --format autoj-classifier.

    Adds to each row: scenario ('default' if the classifier is uncertain), scenario_group, scenario_best,
    scenario_prob, scenario_problem.
    """
    from autoj_reward.cli.run_display import RunDisplay
    from autoj_reward.rows.check import refuse_same_file
    from autoj_reward.rows.run import RowRun
    from autoj_reward.rows.source import open_source

    refuse_same_file(source, output)
    if rows.retry_failed:
        raise ConfigError("classify has no failed rows to retry", hint="--overwrite classifies again")
    if rows.spending.budget() is not None or rows.spending.measure is not None:
        raise ConfigError("classify has no budget: leave out --most-... and --measure")
    columns = key_values(rows.column, "--column")
    with contextlib.closing(load_classifier(choice, caching)) as classifier:

        class Display(RunDisplay):
            def finished(self, summary: Summary) -> None:
                if not rows.quiet:
                    rate = (
                        f", {60 * summary.n_rows / summary.seconds:,.0f} a minute" if summary.seconds else ""
                    )
                    self.note(f"{summary.n_rows:,} prompts by {classifier.name}{rate}")

        run = RowRun(
            open_source(source, split=rows.split, limit=rows.limit),
            _task(classifier, _row_format(rows.format_name, columns)),
            output,
            identity={
                "classifier": classifier.name,
                "min_prob": choice.min_prob,
                "format": rows.format_name,
                "columns": columns,
            },
            settings=rows.for_run(default_chunk=1024),
            listener=Display("classify", output, quiet=rows.quiet),
        )
        n_rows = run.check().n_rows
        if rows.dry_run:
            typer.echo(f"would classify {n_rows:,} prompts by {classifier.name}")
        else:
            finish(run, rows)


def load_classifier(choice: ClassifierOptions, caching: CacheOptions) -> ScenarioClassifier:
    """The classifier that the options name.

    Raises:
        ConfigError: It is unknown, or its package is not installed.
    """
    name = choice.classifier
    if name == "embedded" or name.endswith(".npz"):
        from autoj_reward.autoj.scenarios.embedded import EmbeddedClassifier

        if choice.engine is not None or choice.engine_option:
            raise ConfigError("the embedded classifier needs no engine", hint="leave out --engine")
        return EmbeddedClassifier(None if name == "embedded" else name, min_prob=choice.min_prob)
    from autoj_reward.autoj.scenarios.generative import AUTOJ_CLASSIFIER, ClassifierSpec, GenerativeClassifier

    if name != AUTOJ_CLASSIFIER and not (Path(name).is_dir() or name.count("/") == 1):
        raise ConfigError(
            f"the classifier {name!r} is unknown",
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


def _task(classifier: ScenarioClassifier, row_format: RowFormat) -> RowTask:
    from autoj_reward.autoj.scenarios.names import group_of
    from autoj_reward.judge.messages.text import prompt_text
    from autoj_reward.rows.records import RowResult, RowTask

    def judged(items: Sequence[RowItem]) -> list[RowResult]:
        answers = classifier.classify([prompt_text(item.requests[0].prompt) for item in items])
        values = [(a.scenario, group_of(a.scenario), a.best, a.prob, a.problem or None) for a in answers]
        return [RowResult(dict(zip(ADDED_FIELDS, row, strict=True)), []) for row in values]

    return RowTask(
        label="classify",
        row_format=row_format,
        optional=frozenset(),
        check=lambda requests: None,  # any prompt can be classified
        judge=judged,
        added_fields=ADDED_FIELDS,
    )
