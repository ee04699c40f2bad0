# SPDX-License-Identifier: Apache-2.0
"""A panel's TOML file: its members, their weights and the rule."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from autoj_reward.distributions import PREFERENCES
from autoj_reward.errors import ConfigError
from autoj_reward.identity import short_id
from autoj_reward.judge.panels.combine import Rule
from autoj_reward.judge.spec import OPTIONAL_FIELDS, JudgeSpec, JudgingTask
from autoj_reward.judge.template import Template
from autoj_reward.judge.verdict import VerdictSet
from autoj_reward.toml_file import SettingReader

OnMissing = Literal["error", "leave_out"]
"""error: an engine that fails raises, and a member without a verdict makes the panel's judgment a failure.
leave_out: the other members decide, and the missing one is counted."""
CompareBy = Literal["comparison", "ratings"]
"""comparison: the judge is shown both completions. ratings: it rates each by itself, and the higher wins."""

_HINT = "see docs/panels.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSpec:
    """A member of a panel.

    Attributes:
        judge: The judge.
        name: What judgments call it.
        weight: Its weight, at least 0; only proportions count.
        compare_by: How it compares; None is by comparison if it compares, else by ratings.
        options: Keyword arguments of `Judge.load` of its own.
    """

    judge: JudgeSpec
    name: str
    weight: float = 1.0
    compare_by: CompareBy | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rates_to_compare(self) -> bool:
        """Whether it compares two completions by rating each."""
        return self.compare_by == "ratings" or (self.compare_by is None and self.judge.comparison is None)

    def tasks(self, n_completions: int) -> JudgingTask | None:
        """What it is asked for requests of one completion, or of two; None if it cannot judge them."""
        if n_completions == 1 or self.rates_to_compare:
            return self.judge.rating
        return self.judge.comparison


@dataclass(frozen=True, kw_only=True)
class PanelSpec(JudgeSpec):
    """Several judges as one. Its scale of ratings is that of the first member that rates; comparisons have
    the verdicts that all members have, else first, second and tie."""

    members: tuple[MemberSpec, ...] = ()
    rule: Rule = "mean"
    on_missing: OnMissing = "error"

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the rule, the weights and what shapes each member's input and verdict."""
        members = [[m.name, m.weight, m.compare_by, m.judge.fingerprint] for m in self.members]
        return short_id("panel", self.rule, self.on_missing, members)


def panel_spec(
    members: Sequence[MemberSpec],
    *,
    name: str = "panel",
    description: str = "",
    rule: Rule = "mean",
    on_missing: OnMissing = "error",
) -> PanelSpec:
    """The panel of some members.

    Raises:
        ConfigError: There are none, two have one name, a weight is wrong, or a member can do nothing here.
    """
    members = tuple(members)
    if not members:
        raise ConfigError("a panel needs at least one member", hint=_HINT)
    for value, kind in ((rule, Rule), (on_missing, OnMissing)):
        if value not in get_args(kind):
            raise ConfigError(f"{value!r} is none of {', '.join(get_args(kind))}")
    names = [m.name for m in members]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ConfigError(f"two members of the panel are called {twice[0]!r}", hint="give each a name")
    if any(not 0.0 <= m.weight < float("inf") for m in members) or not any(m.weight for m in members):
        weights = ", ".join(f"{m.weight:g}" for m in members)
        raise ConfigError(f"weights must be at least 0 and not all 0; found {weights}")
    for member in members:
        if member.compare_by == "ratings" and member.judge.rating is None:
            raise ConfigError(f"member {member.name!r} does not rate, so it cannot compare by ratings")
        if isinstance(member.judge, PanelSpec):
            raise ConfigError(f"member {member.name!r} is a panel", hint="name its members here")
    translated = next((m.judge for m in members if m.judge.translations), members[0].judge)
    return PanelSpec(
        name=name,
        model=" + ".join(dict.fromkeys(m.judge.model for m in members)),
        description=description or f"a panel: {', '.join(names)}",
        licence=", ".join(dict.fromkeys(m.judge.licence for m in members)),
        languages=translated.languages,
        translations=translated.translations,
        rating=_task(members, 1),
        comparison=_task(members, 2),
        members=members,
        rule=rule,
        on_missing=on_missing,
    )


def read_panel(
    source: Mapping[str, Any], *, origin: str, folder: Path, load: Callable[[str], JudgeSpec]
) -> PanelSpec:
    """A panel from the contents of a TOML file.

    Args:
        source: The parsed TOML.
        origin: The file, for messages.
        folder: Where judge files that it names are looked for first.
        load: Finds a judge by name.

    Raises:
        ConfigError: Settings are unknown, missing or of the wrong kind; lists all of them at once.
    """
    reader = SettingReader(dict(source), origin)
    reader.take("kind", str, "panel")
    name = reader.take("name", str, Path(origin).stem)
    description = reader.take("description", str, "")
    rule = reader.take("rule", str, "mean", among=get_args(Rule))
    on_missing = reader.take("on_missing", str, "error", among=get_args(OnMissing))
    tables = reader.take("members", list, required=True)
    if not all(isinstance(table, dict) for table in tables):
        reader.problems.append(f"{origin}: members must be tables, [[members]]")
        tables = []
    read = [
        _member(SettingReader(dict(table), f"{origin} [[members]] {n}", reader.problems))
        for n, table in enumerate(tables, start=1)
    ]
    reader.finish("the panel's settings are", hint=_HINT)
    members = []
    for judge, given in read:
        beside = (folder / judge).is_file()
        spec = load(str(folder / judge) if beside else judge)
        members.append(MemberSpec(judge=spec, **{"name": spec.name, **given}))
    return panel_spec(members, name=name, description=description, rule=rule, on_missing=on_missing)


def _member(reader: SettingReader) -> tuple[str, dict[str, Any]]:
    """The judge's name, and the member's other settings."""
    options = {
        "engine": reader.take("engine", str),
        "mode": reader.take("mode", str, among=("direct", "critique")),
        "n_samples": reader.whole("samples", least=1),
        "temperature": reader.take("temperature", (int, float)),
        "max_new_tokens": reader.whole("max_new_tokens", least=1),
        "seed": reader.take("seed", int),
        "min_mass": reader.take("min_mass", (int, float)),
        "force_verdict": reader.take("force_verdict", bool),
        **reader.take("engine_options", dict, {}),
    }
    given = {
        "name": reader.take("name", str),
        "weight": reader.number("weight", 1.0, least=0.0),
        "compare_by": reader.take("compare_by", str, among=get_args(CompareBy)),
        "options": {key: value for key, value in options.items() if value is not None},
    }
    judge = reader.take("judge", str, required=True)
    reader.problems += reader.unknown()
    return judge, {key: value for key, value in given.items() if value is not None}


def _task(members: Sequence[MemberSpec], n_completions: int) -> JudgingTask | None:
    """The panel's verdicts, the optional fields that some member shows, and whether one rates lists."""
    able = [(m, task) for m in members if (task := m.tasks(n_completions)) is not None]
    if not able:
        return None
    verdicts = replace(able[0][1].verdicts, temperature=1.0)
    if n_completions == 2:
        sets = {PREFERENCES if m.rates_to_compare else t.verdicts.verdicts for m, t in able}
        if len(sets) > 1 or able[0][0].rates_to_compare:
            verdicts = _preferences(verdicts)
    fields = ["prompt", *(["completion"] if n_completions == 1 else ["first", "second"])]
    fields += sorted(frozenset[str]().union(*(t.fields for _, t in able)) & OPTIONAL_FIELDS)
    template = Template(name="panel", text="".join(f"{{{name}}}" for name in fields))
    listing = next((t.listing for _, t in able if t.listing is not None), None)
    return JudgingTask(template=template, verdicts=verdicts, listing=listing if n_completions == 1 else None)


def _preferences(verdicts: VerdictSet) -> VerdictSet:
    return replace(
        verdicts, verdicts=PREFERENCES, texts=PREFERENCES, further=(), stated={p: p for p in PREFERENCES}
    )
