# SPDX-License-Identifier: Apache-2.0
"""Read the verdict set of a judge file's [rating] or [comparison]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from autoj_reward.errors import ConfigError
from autoj_reward.judge.template import Template
from autoj_reward.judge.verdict import (
    SCORE,
    Place,
    VerdictSet,
    compile_pattern,
    graded_set,
    numbers,
    preference_set,
    rating_set,
    score_pair_set,
)
from autoj_reward.judge.verdicts.lists import ListLayout
from autoj_reward.judgments import PREFERENCES, Verdict
from autoj_reward.toml_file import SettingReader

_RATING_PATTERN = r"\[\[[ \t]{0,8}+(?P<verdict>[^\[\]\s](?:[^\[\]\n]{0,22}[^\[\]\s])?)[ \t]{0,8}\]\]"

FORMS = {
    "rating": (("scale",), ("values", "also")),
    "comparison": (("written", "also"), ("values", "also"), ("grades",), ("scores",)),
}
"""The tables that say what the verdicts are: one of these forms, which replaces an inherited one."""


def rating_verdicts(source: SettingReader) -> VerdictSet:
    """The verdicts of [rating]: a scale, or values.

    Raises:
        ConfigError: They make no verdict set.
    """
    scale, values = source.table("scale"), _values(source)
    _one_of(source, {"scale": scale.given, "values": bool(values)})
    return rating_set(
        low=scale.number("low", 1),
        high=scale.number("high", 10),
        step=scale.number("step", 0.5),
        values=values or None,
        also=source.text_lists("also") if values else None,
        verdict_prefix=source.take("verdict_prefix", str, "Rating: [["),
        pattern=source.take("pattern", str, _RATING_PATTERN),
        terminators=source.texts("terminators", ("]",)),
        end_of_turn=source.take("end_of_turn", bool, False),
        **_rules(source),
    )


def comparison_verdicts(source: SettingReader) -> VerdictSet:
    """The verdicts of [comparison]: written preferences, graded values, graded numbers or two scores.

    Raises:
        ConfigError: They make no verdict set, or two forms are given.
    """
    written, values = source.table("written"), _values(source)
    grades, scores = source.table("grades"), source.table("scores")
    _one_of(
        source,
        {
            "written": written.given,
            "values": bool(values),
            "grades": grades.given,
            "scores": scores.given,
        },
    )
    rules: dict[str, Any] = {
        "verdict_prefix": source.take("verdict_prefix", str, required=True),
        "pattern": source.take("pattern", str, required=True),
        "terminators": source.texts("terminators", ("\n", ".")),
        "end_of_turn": source.take("end_of_turn", bool, True),
        **_rules(source),
    }
    if values:
        return graded_set(values=values, also=source.text_lists("also"), **rules)
    if grades.given:
        return graded_set(values=_grades(grades), **rules)
    if scores.given:
        return score_pair_set(
            table=_values(scores)
            or numbers(scores.number("low", 1), scores.number("high", 10), scores.number("step", 1)),
            between=scores.take("between", str, " "),
            scores=scores.take("each", str, SCORE),
            **rules,
        )
    also = source.table("also")
    return preference_set(
        written={p: written.take(p, str, "") for p in PREFERENCES},
        also={p: also.texts(p, ()) for p in PREFERENCES},
        **rules,
    )


def list_layout(source: SettingReader, verdicts: VerdictSet) -> tuple[ListLayout, VerdictSet]:
    """The layout of [rating.list], and the verdicts of one score.

    Raises:
        ConfigError: The list is too small or too large, or has no words between its scores.
        TemplateError: Its item does not show `{completion}`.
    """
    layout = ListLayout(
        size=source.whole("size", 4, least=2),
        overlap=source.whole("overlap", 0, least=0),
        item=source.take("item", str, required=True),
        index=source.take("index", str, "number", among=("number", "letter")),
        between=source.take("between", str, ""),
        best=source.take("best", bool, False),
    )
    if layout.overlap >= layout.size or (layout.index == "letter" and layout.size > 26):
        raise ConfigError(
            f"{source.where}: size = {layout.size} and overlap = {layout.overlap} make no lists",
            hint="overlap is below size, and letters count to 26",
        )
    if not layout.best and not layout.between:
        raise ConfigError(f"{source.where}: between, the words between two scores, is missing")
    item = Template(name=f"{source.where} item", text=layout.item.replace("{index}", ""))
    item.require(needed=frozenset({"completion"}), allowed=frozenset({"completion"}))
    if layout.best:
        no_or_yes: dict[str, Verdict] = {"0": 0.0, "1": 1.0}
        best = tuple(no_or_yes.values())
        return layout, replace(verdicts, verdicts=best, texts=tuple(no_or_yes), further=(), stated=no_or_yes)
    return layout, replace(verdicts, scores=compile_pattern(source.take("each", str, SCORE), "score"))


def _one_of(source: SettingReader, forms: Mapping[str, bool]) -> None:
    given = [name for name, is_given in forms.items() if is_given]
    if len(given) > 1:
        raise ConfigError(f"{source.where}: only one of {' and '.join(given)} may say what the verdicts are")


def _rules(source: SettingReader) -> dict[str, Any]:
    return {
        "assume_ends": source.take("assume_ends", bool, False),
        "temperature": source.number("temperature", 1.0),
        "place": source.take("place", str, "end", among=get_args(Place)),
    }


def _values(source: SettingReader) -> dict[str, float]:
    """A table of texts and the number that each means."""
    values: Mapping[str, Any] = source.take("values", dict, {})
    wrong = [text for text, v in values.items() if isinstance(v, bool) or not isinstance(v, int | float)]
    if wrong:
        source.problems.append(f"{source.where}: values must hold numbers only")
    return {} if wrong else {text: float(v) for text, v in values.items()}


def _grades(source: SettingReader) -> dict[str, float]:
    """The numbers of a graded comparison, from one end to the other, as win probabilities."""
    low, high = source.number("low", -3), source.number("high", 3)
    first = source.take("first", str, "high", among=("high", "low"))
    table = numbers(low, high, source.number("step", 1))
    wins = {text: (value - low) / (high - low) for text, value in table.items()}
    return wins if first == "high" else {text: 1.0 - win for text, win in wins.items()}
