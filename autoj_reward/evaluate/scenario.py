# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a scenario classifier by group, with simple baselines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoj_reward.autoj.scenarios.names import DEFAULT, NO_GROUP, classifier_labels, group_of, scenario_groups
from autoj_reward.errors import DataError
from autoj_reward.evaluate.report import ReportTable, figure
from autoj_reward.rows.source import read_rows
from autoj_reward.statistics import Share, as_plain, share


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioReport:
    """How often a classifier is right.

    Attributes:
        overall: Share of rows with the right label.
        same_group: Share of rows whose label is of the right group.
        groups: Share with the right label, by the group of the right label.
        default_share: How often the classifier answered `default`.
        baselines: Share with the right label of other rules on the same rows.
    """

    overall: Share
    same_group: Share
    groups: dict[str, Share]
    default_share: float
    baselines: dict[str, Share]

    def as_dict(self) -> dict[str, Any]:
        """As plain data; shares are percentages."""
        return dict(as_plain(self))

    def table(self) -> ReportTable:
        """As a table of percentages, each with its 95% interval."""

        def row(name: str, found: Share) -> tuple[str, ...]:
            return (name, str(found.n), figure(found.value), figure(found.low), figure(found.high))

        return ReportTable(
            title="Scenario classification, percent right",
            columns=("group", "n", "accuracy", "95% from", "95% to"),
            sections=(
                tuple(row(name, found) for name, found in self.groups.items()),
                (row("Overall", self.overall), row("right group", self.same_group)),
                tuple(row(name, found) for name, found in self.baselines.items()),
            ),
            notes=(f"answered {DEFAULT!r}: {self.default_share:.1%}",),
        )


def read_labelled_queries(path: str | Path) -> tuple[list[str], list[str]]:
    """Rows of Auto-J's classifier data: `category`, `instruction`, `input`; the query joins the last two.

    Returns:
        B queries (`instruction`, a blank, `input`) and B labels.

    Raises:
        ConfigError: The file does not exist.
        DataError: A row is wrong; names file, line and field.
    """
    queries, labels = [], []
    known = set(classifier_labels())
    for line, row in read_rows(path):
        for name in ("instruction", "input", "category"):
            if not isinstance(row.get(name), str):
                raise DataError("must be a text", path=str(path), line=line, field=name)
        if row["category"] not in known:
            raise DataError(
                f"{row['category']!r} is not a scenario", path=str(path), line=line, field="category"
            )
        queries.append(f"{row['instruction']} {row['input']}")
        labels.append(row["category"])
    return queries, labels


def read_answers(path: str | Path) -> list[str]:
    """A classifier's answers: rows with `scenario`, or with `output`, whose first line is the answer.

    Raises:
        ConfigError: The file does not exist.
        DataError: A row has neither; names file, line and field.
    """
    answers = []
    for line, row in read_rows(path):
        name = "scenario" if "scenario" in row else "output"
        if not isinstance(row.get(name), str):
            raise DataError("must be a text", path=str(path), line=line, field=name)
        answers.append(row[name].strip().partition("\n")[0].strip())
    return answers


def evaluate_scenarios(
    labels: Sequence[str], predicted: Sequence[str], *, others: Mapping[str, Sequence[str]] | None = None
) -> ScenarioReport:
    """Score B answers of a classifier against B right labels.

    The answers of `others`, by name, are baselines, and so is always the most frequent label.

    Raises:
        DataError: The numbers differ, or there are none.
    """
    given = {"answers": predicted, **(others or {})}
    for name, answers in given.items():
        if len(answers) != len(labels) or not labels:
            raise DataError(f"there are {len(labels)} rows and {len(answers)} of {name}")
    known = set(classifier_labels())
    right = [p == label for p, label in zip(predicted, labels, strict=True)]
    names = [*dict.fromkeys(scenario_groups().values()), NO_GROUP]
    of_group = [group_of(label) for label in labels]
    most = Counter(labels).most_common(1)[0][0]
    return ScenarioReport(
        overall=share(right),
        same_group=share(
            [p in known and group_of(p) == group for p, group in zip(predicted, of_group, strict=True)]
        ),
        groups={
            name: share([r for r, group in zip(right, of_group, strict=True) if group == name])
            for name in names
            if name in of_group
        },
        default_share=sum(p == DEFAULT for p in predicted) / len(predicted),
        baselines={
            f"always {most!r}": share([label == most for label in labels]),
            **{
                name: share([p == label for p, label in zip(answers, labels, strict=True)])
                for name, answers in (others or {}).items()
            },
        },
    )
