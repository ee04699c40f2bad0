# SPDX-License-Identifier: Apache-2.0
"""Load scenario criteria from YAML files that include each other.

An entry is a name with `content`, `weight` and `type` (basic, content, format, style). Sections group
entries, and `!include` loads a section from another file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoj_reward.criteria import rubric as rubrics
from autoj_reward.criteria.rubric import Rubric
from autoj_reward.errors import ConfigError, DataError

TYPES = ("basic", "content", "format", "style")
"""The types of criteria, in the order in which they are shown."""

_IN_CHECKOUT = Path("other_resources") / "scenario_criteria"
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One criterion of a good answer.

    Attributes:
        name: A few words.
        content: Its meaning, in a sentence or two.
        weight: Its weight, an integer of at least 1; Auto-J uses 1 to 5.
        type: One of `TYPES`.
    """

    name: str
    content: str
    weight: int
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CriteriaSet:
    """The criteria of one scenario, in the file's order."""

    scenario: str
    criteria: tuple[Criterion, ...]

    def by_type(self) -> dict[str, list[Criterion]]:
        """Criteria by type, types in the order of `TYPES`, highest weight first."""
        found = {
            kind: sorted((c for c in self.criteria if c.type == kind), key=lambda c: -c.weight)
            for kind in TYPES
        }
        return {kind: criteria for kind, criteria in found.items() if criteria}

    def as_rubric(self, criteria_per_call: int | None = 1) -> Rubric:
        """The criteria with their weights, each to be judged by itself."""
        return Rubric(
            criteria=tuple(
                rubrics.Criterion(name=c.name, text=c.content, weight=c.weight) for c in self.criteria
            ),
            criteria_per_call=criteria_per_call,
        )

    def rubric(self) -> str:
        """The rubric for a judge: a list per type, with weights."""
        return "\n\n".join(
            f"{kind.capitalize()} (weight in brackets, higher counts more):\n"
            + "\n".join(f"- {c.name} [{c.weight}]: {c.content}" for c in criteria)
            for kind, criteria in self.by_type().items()
        )


def load_criteria(folder: str | Path, *, root: str | Path | None = None) -> dict[str, CriteriaSet]:
    """Every criteria set of a folder.

    Args:
        folder: A checkout of Auto-J, or a folder of YAML files, one per scenario.
        root: Base folder of `!include` paths, which no include may leave. None: the root of the checkout that
            holds the folder, else the folder itself.

    Returns:
        Sets by scenario (the file's name without suffix), sorted.

    Raises:
        ConfigError: The folder does not exist or holds no sets, or PyYAML is not installed.
        DataError: A file is wrong; names the file and the place.
    """
    from autoj_reward.autoj.scenarios.include import load_yaml

    given = Path(folder)
    if not given.is_dir():
        raise ConfigError(f"there is no folder {str(folder)!r} of criteria")
    sets = given / _IN_CHECKOUT / "specials" if (given / _IN_CHECKOUT).is_dir() else given
    top = Path(root) if root is not None else _checkout_of(sets) or sets
    if not top.is_dir():
        raise ConfigError(f"there is no folder {str(root)!r} for includes")
    paths = sorted(p for p in sets.iterdir() if p.suffix in _SUFFIXES) if sets.is_dir() else []
    if not paths:
        raise ConfigError(
            f"{sets} holds no .yaml files", hint="give a checkout of Auto-J, or a folder of criteria sets"
        )
    return {path.stem: _set_of(path, load_yaml(path, top)) for path in paths}


def _set_of(path: Path, tree: Any) -> CriteriaSet:
    if not isinstance(tree, Mapping):
        raise DataError("holds no criteria: the file must map sections to entries", path=str(path))
    criteria = tuple(_criteria(tree, (), path))
    if not criteria:
        raise DataError("holds no criteria", path=str(path))
    return CriteriaSet(scenario=path.stem, criteria=criteria)


def _criteria(tree: Mapping[str, Any], above: tuple[str, ...], path: Path) -> Iterator[Criterion]:
    for name, value in tree.items():
        where = (*above, name)
        if not isinstance(value, Mapping):
            raise DataError(
                f"must hold content, weight and type, or further entries; is {value!r:.60}",
                path=str(path), field=".".join(where),
            )  # fmt: skip
        if isinstance(value.get("content"), str):
            yield _criterion(name, value, where, path)
        else:
            yield from _criteria(value, where, path)


def _criterion(name: str, value: Mapping[str, Any], where: tuple[str, ...], path: Path) -> Criterion:
    def wrong(message: str, field: str) -> DataError:
        return DataError(message, path=str(path), field=".".join((*where, field)))

    if unknown := sorted(set(value) - {"content", "weight", "type"}):
        raise wrong("is not known; an entry has content, weight and type", unknown[0])
    weight, kind = value.get("weight"), value.get("type")
    if not (isinstance(weight, str) and weight.isdecimal() and len(weight) < 5 and int(weight) > 0):
        raise wrong(f"must be an integer of at least 1, is {weight!r:.40}", "weight")
    if kind not in TYPES:
        raise wrong(f"must be one of {', '.join(TYPES)}, is {kind!r:.40}", "type")
    if not value["content"].strip():
        raise wrong("is empty", "content")
    return Criterion(name=name, content=value["content"].strip(), weight=int(weight), type=str(kind))


def _checkout_of(folder: Path) -> Path | None:
    """The checkout that holds a folder, or None."""
    here = folder.resolve()
    return next((p for p in (here, *here.parents) if (p / _IN_CHECKOUT).is_dir()), None)
