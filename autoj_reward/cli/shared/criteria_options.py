# SPDX-License-Identifier: Apache-2.0
"""The options that give rows a rubric of their own."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoj_reward.errors import ConfigError

if TYPE_CHECKING:
    from autoj_reward.autoj.scenarios.rubrics import ScenarioRubrics
    from autoj_reward.criteria.file_rubric import FileRubric

_reading_option = functools.partial(typer.Option, rich_help_panel="Reading the verdict")


@dataclass(frozen=True, slots=True, kw_only=True)
class CriteriaOptions:
    """A rubric for rows without one: scenario criteria, or a file of criteria."""

    criteria: Annotated[
        Path | None,
        _reading_option(
            metavar="DIR|FILE",
            help="The rubric of rows without one. DIR: scenario criteria, an Auto-J checkout or a folder of "
            "YAML sets; a row's `scenario` selects them, without it the prompt is classified. FILE: criteria "
            "for all rows, as JSON or TOML.",
        ),
    ] = None
    criteria_root: Annotated[
        Path | None,
        _reading_option(metavar="DIR", help="Root of !include paths; by default that of the checkout."),
    ] = None

    criteria_per_call: Annotated[
        int | None,
        _reading_option(
            min=1,
            metavar="N",
            help="Judge each criterion of --criteria by itself, N in a call, and weigh their verdicts. By "
            "default the criteria of a folder are shown as one text, and those of a file one by one.",
            show_default=False,
        ),
    ] = None

    def rubrics(self) -> ScenarioRubrics | FileRubric | None:
        """Rubrics by row, or None without --criteria.

        Raises:
            ConfigError: The folder does not exist, or a root is given without criteria.
            DataError: A file is wrong.
        """
        if self.criteria is None:
            for option in ("criteria_root", "criteria_per_call"):
                if getattr(self, option) is not None:
                    raise ConfigError(f"--{option.replace('_', '-')} is given without --criteria")
            return None
        if self.criteria.is_file():
            from autoj_reward.criteria.file_rubric import FileRubric

            return FileRubric(self.criteria, self.criteria_per_call)
        from autoj_reward.autoj.scenarios.criteria import load_criteria
        from autoj_reward.autoj.scenarios.embedded import EmbeddedClassifier
        from autoj_reward.autoj.scenarios.rubrics import ScenarioRubrics

        sets = load_criteria(self.criteria, root=self.criteria_root)
        return ScenarioRubrics(sets, EmbeddedClassifier, self.criteria_per_call or 0)
