# SPDX-License-Identifier: Apache-2.0
"""`evaluate scenario`: accuracy of a scenario classifier on labelled prompts."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from autoj_reward.cli import display
from autoj_reward.cli.classify import ClassifierOptions, load_classifier
from autoj_reward.cli.evaluate.pairwise import AsMarkdown
from autoj_reward.cli.options import AsJson, CacheOptions, Limit, with_options
from autoj_reward.json_text import json_text


@with_options(ClassifierOptions, CacheOptions)
def evaluate_scenario(
    data: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Labelled queries, as in Auto-J's scenario_classifier_data.",
            show_default=False,
        ),
    ],
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
    *,
    choice: ClassifierOptions,
    caching: CacheOptions,
) -> None:
    """Accuracy of a scenario classifier, overall and by group, with intervals and baselines."""
    from autoj_reward.evaluate.scenario import evaluate_scenarios, read_answers, read_labelled_queries

    queries, labels = read_labelled_queries(data)
    queries, labels = queries[:limit], labels[:limit]
    if predictions is not None:
        answers = read_answers(predictions)[:limit]
    else:
        with contextlib.closing(load_classifier(choice, caching)) as classifier:
            answers = [a.scenario for a in classifier.classify(queries)]
    others = {}
    if train is not None:
        from autoj_reward.autoj.scenarios.training import nearest_centroid

        others["nearest centroid"] = nearest_centroid(*read_labelled_queries(train), queries)
    report = evaluate_scenarios(labels, answers, others=others)
    if as_json:
        typer.echo(json_text(report.as_dict(), indent=1))
    else:
        display.print_tables([report.table()], markdown=as_markdown)
