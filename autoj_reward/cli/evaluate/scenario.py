# SPDX-License-Identifier: Apache-2.0
"""`evaluate scenario`: accuracy of a scenario classifier on labelled prompts."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from autoj_reward.cli import display
from autoj_reward.cli.classify import ClassifierOptions, load_classifier
from autoj_reward.cli.evaluate.pairwise import AsMarkdown
from autoj_reward.cli.options import (
    AllowFailures,
    AsJson,
    CacheOptions,
    DataOption,
    Limit,
    Quiet,
    one_input,
    with_options,
)
from autoj_reward.cli.shared.judging import about_finished, exit_if_failed
from autoj_reward.json_text import json_text

if TYPE_CHECKING:
    from autoj_reward.autoj.scenarios.answers import ScenarioAnswer, ScenarioClassifier

_CHUNK = 1024


@with_options(ClassifierOptions, CacheOptions)
def evaluate_scenario(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="IN",
            help="Labelled queries, as in Auto-J's scenario_classifier_data.",
            show_default=False,
        ),
    ] = None,
    predictions: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Finished answers: rows with scenario, as `classify` writes them.",
        ),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Labelled training queries: adds the nearest centroid as a baseline."
        ),
    ] = None,
    limit: Limit = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
    quiet: Quiet = False,
    allow_failures: AllowFailures = False,
    data: DataOption = None,
    *,
    choice: ClassifierOptions,
    caching: CacheOptions,
) -> None:
    """Accuracy of a scenario classifier, overall and by group, with intervals and baselines."""
    from autoj_reward.evaluate.scenario import evaluate_scenarios, read_answers, read_labelled_queries

    queries, labels = read_labelled_queries(one_input(source, data))
    queries, labels = queries[:limit], labels[:limit]
    failures: Counter[str] = Counter()
    if predictions is not None:
        answers = read_answers(predictions)[:limit]
        by = f"answers of {predictions}"
    else:
        with contextlib.closing(load_classifier(choice, caching)) as classifier:
            answers, failures = _answers(classifier, queries, quiet=quiet)
            by = classifier.name
    others = {}
    if train is not None:
        from autoj_reward.autoj.scenarios.training import nearest_centroid

        others["nearest centroid"] = nearest_centroid(*read_labelled_queries(train), queries)
    report = evaluate_scenarios(labels, answers, others=others)
    if as_json:
        typer.echo(json_text({**report.as_dict(), "about": about_finished(by, predictions)}, indent=1))
    else:
        display.print_tables([report.table()], markdown=as_markdown)
    exit_if_failed(failures, allowed=allow_failures)


def _answers(
    classifier: ScenarioClassifier, queries: list[str], *, quiet: bool
) -> tuple[list[str], Counter[str]]:
    """Each query's scenario, empty where the answer could not be read, and those by problem."""
    from autoj_reward.progress import RunProgress

    answers: list[ScenarioAnswer] = []
    with RunProgress("evaluate scenario", len(queries), quiet=quiet) as progress:
        for start in range(0, len(queries), _CHUNK):
            chunk = queries[start : start + _CHUNK]
            answers += classifier.classify(chunk)
            progress.advance(len(chunk))
    read = ["" if answer.problem else answer.scenario for answer in answers]
    return read, Counter(answer.problem for answer in answers if answer.problem)
