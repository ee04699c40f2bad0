# SPDX-License-Identifier: Apache-2.0
"""Read rubrics of criteria from a data set's column or a file, in the formats that others publish.

An item may be a text, or a table with the fields of our own format (`name`, `text`, `weight`, `choices` or
`scale`, `essential`), of verifiers (the same), of HealthBench and RubricHub (`criterion`, `points`) or of
Rubrics as Rewards (`title`, `description`, `weight`). Other fields are ignored.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from autoj_reward.criteria.rubric import YES_NO, Criterion, Rubric
from autoj_reward.errors import ConfigError, DataError

_TEXTS = ("text", "criterion", "description", "content", "rubric_item")
_NAMES = ("name", "title", "id")
_WEIGHTS = ("weight", "points")
_LISTS = ("criteria", "rubrics", "rubric")
_TAGGED = re.compile(
    r"[ \t]*+(?:(?:\d{1,3}[.)]|[-*])[ \t]*+)?(?P<text>[^\s\[].*?)\[(?P<tag>Hard Rule|Principle)\][ \t]*+\Z"
)
"""A line of OpenRubrics."""
_EXPECTED = (
    'a text, a list of criteria such as [{"text": "...", "weight": 2}], a table of names and texts, or JSON '
    "of one of these"
)


def read_rubric(value: Any) -> str | Rubric | None:
    """A rubric, from what a column or a caller holds.

    Args:
        value: A text (shown to judges as it is, unless it is JSON or every line ends with `[Hard Rule]` or
            `[Principle]`, as in OpenRubrics, whose hard rules are essential); a list of criteria; a table of
            names and texts; a table with a list `criteria` (and `criteria_per_call`) or `rubrics`; messages,
            of which the last one counts; a `Rubric`; or None.

    Raises:
        ConfigError: It is none of these; says what and where.
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    if value is None or isinstance(value, Rubric):
        return value
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, Mapping):
        return _from_table(value)
    if not isinstance(value, Sequence) or not value:
        raise ConfigError(f"a rubric must be {_EXPECTED}; is {value!r:.60}")
    if all(isinstance(item, Mapping) and "role" in item and "content" in item for item in value):
        return read_rubric(value[-1]["content"])
    return Rubric(criteria=tuple(_criterion(item, n) for n, item in enumerate(value)))


def load_rubric(path: str | Path) -> Rubric:
    """The rubric in a JSON or TOML file with a list `criteria`.

    Raises:
        DataError: The file cannot be read, or holds no rubric of criteria.
    """
    name = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
        read = read_rubric(tomllib.loads(text) if name.endswith(".toml") else json.loads(text))
    except ConfigError as error:
        raise DataError(error.args[0], path=name, hint=error.hint) from error
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot be read as {'TOML' if name.endswith('.toml') else 'JSON'}: {error}", path=name
        ) from error
    if not isinstance(read, Rubric):
        raise DataError("holds no criteria", path=name, hint=f"it needs {_EXPECTED}")
    return read


def _from_text(text: str) -> str | Rubric:
    """A text as it is, or the criteria that it holds."""
    lines = [line for line in text.splitlines() if line.strip()]
    tagged = [_TAGGED.match(line) for line in lines]
    if lines and all(tagged):
        return Rubric(
            criteria=tuple(
                Criterion(text=m["text"].strip(), essential=m["tag"] == "Hard Rule")
                for m in tagged
                if m is not None
            )
        )
    if text.lstrip()[:1] not in ("[", "{"):
        return text
    try:
        held = json.loads(text)
    except ValueError:
        return text
    return read_rubric(held) or text


def _from_table(table: Mapping[str, Any]) -> str | Rubric | None:
    per_call = table.get("criteria_per_call", 1)
    if per_call is not None and (isinstance(per_call, bool) or not isinstance(per_call, int)):
        raise ConfigError(f"criteria_per_call must be a whole number or null, is {per_call!r:.40}")
    if (held := _first(table, _LISTS)) is not None and not isinstance(held, str):
        read = read_rubric(held)
        return (
            Rubric(criteria=read.criteria, criteria_per_call=per_call) if isinstance(read, Rubric) else read
        )
    columns = {name: values for name, values in table.items() if isinstance(values, list)}
    if len({len(values) for values in columns.values()}) == 1 and _first(columns, _TEXTS) is not None:
        # A data set's list of tables may come as a table of lists.
        return read_rubric(
            [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        )
    if table and all(isinstance(text, str) for text in table.values()):
        return Rubric(criteria=tuple(Criterion(name=str(name), text=text) for name, text in table.items()))
    raise ConfigError(
        f"a rubric must be {_EXPECTED}; is a table of {', '.join(map(str, table)) or 'nothing'}"
    )


def _criterion(item: Any, n: int) -> Criterion:
    if isinstance(item, Criterion):
        return item
    where = f"criteria[{n}]"
    try:
        if isinstance(item, str):
            return Criterion(text=item)
        if not isinstance(item, Mapping):
            raise ConfigError(f"must be a text or a table, is {item!r:.60}")
        if (text := _first(item, _TEXTS)) is None:
            raise ConfigError(
                f"has no text; its fields are {', '.join(map(str, item)) or 'none'}", hint="text = ..."
            )
        weight = _first(item, _WEIGHTS)
        return Criterion(
            name=str(_first(item, _NAMES) or ""),
            text=text,
            weight=1.0 if weight is None else _number(weight, "weight"),
            choices=_choices(item),
            essential=_flag(item.get("essential")),
        )
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.args[0]}", hint=error.hint) from None


def _first(table: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first of these fields that has a value."""
    return next((table[name] for name in names if table.get(name) is not None), None)


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(f"its {what} must be a number, is {value!r:.40}")
    return float(value)


def _flag(value: Any) -> bool:
    if value not in (None, False, True):
        raise ConfigError(f"essential must be true or false, is {value!r:.40}")
    return bool(value)


def _choices(item: Mapping[str, Any]) -> tuple[str, ...]:
    """The choices of an item: named, or the numbers of a scale."""
    named, scale = item.get("choices"), item.get("scale")
    if named is not None and scale is not None:
        raise ConfigError("has both choices and a scale")
    if named is not None:
        if isinstance(named, str) or not isinstance(named, Sequence):
            raise ConfigError(f"its choices must be a list, are {named!r:.40}")
        return tuple(
            choice if isinstance(choice, str) else f"{_number(choice, 'choice'):g}" for choice in named
        )
    if scale is None:
        return YES_NO
    ends = [scale.get(k) for k in ("low", "high", "step")] if isinstance(scale, Mapping) else list(scale)
    low, high, step = (_number(1 if v is None else v, "scale") for v in [*ends, None][:3])
    if not (step > 0 and low < high and (high - low) / step <= 100):
        raise ConfigError(f"its scale {low:g} to {high:g} in steps of {step:g} has not 2 to 101 numbers")
    return tuple(f"{low + k * step:g}" for k in range(int((high - low) / step + 1e-9) + 1))
