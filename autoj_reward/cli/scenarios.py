# SPDX-License-Identifier: Apache-2.0
"""`scenarios`: list Auto-J's scenarios and their criteria."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoj_reward.cli.options import AsJson
from autoj_reward.errors import ConfigError
from autoj_reward.json_text import json_text


def scenarios(
    criteria: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Show the criteria of each scenario: an Auto-J checkout, or any folder of YAML sets.",
        ),
    ] = None,
    criteria_root: Annotated[Path | None, typer.Option(metavar="DIR", help="Root of !include paths.")] = None,
    name: Annotated[str | None, typer.Option(metavar="SCENARIO", help="Only this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List Auto-J's scenarios by group, or print scenario criteria by type."""
    from autoj_reward.autoj.scenarios.names import classifier_labels, group_of

    if criteria is None:
        groups: dict[str, list[str]] = {}
        for label in classifier_labels():
            groups.setdefault(group_of(label), []).append(label)
        if as_json:
            typer.echo(json_text(groups, indent=1))
            return
        for group, labels in groups.items():
            typer.echo(f"{group}: {', '.join(labels)}")
        return
    from autoj_reward.autoj.scenarios.criteria import load_criteria

    sets = load_criteria(criteria, root=criteria_root)
    if name is not None and name not in sets:
        raise ConfigError(f"{criteria} holds no criteria of {name!r}", hint=f"it holds {', '.join(sets)}")
    chosen = sets if name is None else {name: sets[name]}
    if as_json:
        plain = {
            scenario: {
                kind: [{"name": c.name, "content": c.content, "weight": c.weight} for c in found]
                for kind, found in one.by_type().items()
            }
            for scenario, one in chosen.items()
        }
        typer.echo(json_text(plain, indent=1, ensure_ascii=False))
        return
    typer.echo("\n\n".join(f"# {scenario}\n\n{one.rubric()}" for scenario, one in chosen.items()))
