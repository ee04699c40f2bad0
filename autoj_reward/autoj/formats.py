# SPDX-License-Identifier: Apache-2.0
"""Validate Auto-J's files and this package's rows against their formats.

The first row decides a file's format, so a later row that does not fit is an error.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from autoj_reward.autoj.scenarios.names import classifier_labels, scenario_groups
from autoj_reward.errors import ConfigError, DataError
from autoj_reward.judge.messages.text import completion_text, prompt_text
from autoj_reward.rows.fields import RowProblem
from autoj_reward.rows.formats.table import PUBLISHED, KnownFormat
from autoj_reward.rows.source import Row, RowSource

Problems = Iterator[tuple[str, str]]
"""Fields and their errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFormat:
    """A file format.

    `marks` are fields of the first row that identify it (`a|b` is either); `check` yields a row's problems.
    """

    name: str
    about: str
    marks: tuple[str, ...]
    check: Callable[[Row], Problems]


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """The result of validating a file.

    Attributes:
        format: The format's name.
        n_rows: Number of rows, wrong ones included.
        scenarios: Number of rows by scenario.
        problems: All problems, with line and field.
        notes: Warnings about valid rows.
    """

    format: str
    n_rows: int
    scenarios: Mapping[str, int]
    problems: tuple[DataError, ...]
    notes: tuple[str, ...]


def message_field(row: Row) -> str | None:
    """A training row's input field: `usermsg` as documented, `usrmsg` as published, or None."""
    return next((name for name in ("usermsg", "usrmsg") if name in row), None)


def validate(source: RowSource, name: str | None = None) -> Validation:
    """Check every row of a file.

    Args:
        source: The file.
        name: Its format; None takes the format that fits the first row.

    Raises:
        ConfigError: The format is unknown, or the first row fits none.
        DataError: The file as a whole cannot be read, or is empty.
    """
    chosen = None if name is None else format_named(name)
    problems: list[DataError] = []
    scenarios: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    n_rows = 0
    for line, row in source.rows():
        n_rows += 1
        if isinstance(row, DataError):
            problems.append(row)
            continue
        if chosen is None:
            chosen = _detected(row, source.name)
        problems += [
            DataError(message, path=source.name, line=line, field=field)
            for field, message in chosen.check(row)
        ]
        if isinstance(scenario := row.get("scenario", row.get("category")), str):
            scenarios[scenario] += 1
        seen[repr(sorted(row.items(), key=lambda item: item[0]))] += 1
    if n_rows == 0:
        raise DataError("holds no rows", path=source.name)
    if chosen is None:
        raise problems[0]
    repeated = sum(n - 1 for n in seen.values())
    return Validation(
        format=chosen.name,
        n_rows=n_rows,
        scenarios=dict(scenarios.most_common()),
        problems=tuple(problems),
        notes=(f"{repeated:,} rows repeat another one",) if repeated else (),
    )


def format_named(name: str) -> FileFormat:
    """Find a format by name.

    Raises:
        ConfigError: The name is unknown.
    """
    own = {one.name: one for one in FORMATS}
    published = {one.name: one for one in PUBLISHED if one.name not in own}
    if name in own:
        return own[name]
    if name in published:
        return _published(published[name])
    raise ConfigError(f"there is no format {name!r}", hint=", ".join([*own, *published]))


def _detected(row: Row, where: str) -> FileFormat:
    fits = (o for o in FORMATS if all(any(part in row for part in m.split("|")) for m in o.marks))
    own = next(fits, None)
    # Fields such as `output` and `response` are also those of published data sets.
    if own is None or next(own.check(row), None) is not None:
        known = next((f for f in PUBLISHED if not f.name.startswith("autoj") and f.matches(row)), None)
        if known is not None and next(_published(known).check(row), None) is None:
            return _published(known)
    if own is not None:
        return own
    raise ConfigError(
        f"{where}: the first row fits no format; it has {', '.join(map(repr, row)) or 'no fields'}",
        hint="; ".join(f"{f.name}: {', '.join(f.marks)}" for f in FORMATS),
    )


def _published(known: KnownFormat) -> FileFormat:
    """The format of a published data set: its rows must hold what a judge can be shown."""

    def check(row: Row) -> Problems:
        try:
            for one in known.expand(row):
                parts = known.read(one)
                prompt_text(parts.prompt)
                for text in parts.completions:
                    completion_text(text)
        except RowProblem as problem:
            yield problem.field or "row", str(problem)
        except ConfigError as error:
            yield "row", str(error)

    return FileFormat(name=known.name, about=known.about, marks=known.marks, check=check)


def _texts(row: Row, *names: str) -> Problems:
    for name in names:
        if not isinstance(row.get(name), str):
            yield name, "must be a text" if name in row else "is missing"


def _label(row: Row, name: str) -> Problems:
    value = row.get(name)
    if isinstance(value, bool) or value not in (0, 1, 2):
        yield name, f"must be 0 (first), 1 (second) or 2 (tie), is {value!r:.40}"


def _scenario(
    row: Row,
    name: str = "scenario",
    *,
    required: bool = True,
    known: Collection[str] = tuple(scenario_groups()),
) -> Problems:
    if name not in row:
        if required:
            yield name, "is missing"
    elif row[name] not in known:
        yield name, f"{row[name]!r:.60} is not a scenario"


def _pairwise(row: Row) -> Problems:
    yield from _texts(row, "prompt", "response 1", "response 2")
    yield from _label(row, "label")
    yield from _scenario(row)


def _critique(row: Row) -> Problems:
    yield from _texts(row, "prompt", "response")
    yield from _scenario(row)
    critiques = row.get("critiques", {})
    if not isinstance(critiques, dict) or not all(isinstance(c, str) for c in critiques.values()):
        yield "critiques", "must map writers to texts"


def _selection(row: Row) -> Problems:
    yield from _texts(row, "prompt")
    yield from _scenario(row)
    outputs = row.get("outputs")
    if not isinstance(outputs, dict) or not outputs:
        yield "outputs", "must map models to their outputs"
        return
    for model, made in outputs.items():
        where = f"outputs.{model}"
        if not isinstance(made, dict):
            yield where, "must hold outputs"
            continue
        texts = made.get("outputs")
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
            yield f"{where}.outputs", "must be a list of texts"
            continue
        for name, kind in (("logprobs", (int, float, list)), ("finish_reasons", (str, type(None)))):
            values = made.get(name)
            if values is not None and (
                not isinstance(values, list)
                or len(values) != len(texts)
                or not all(isinstance(v, kind) for v in values)
            ):
                yield f"{where}.{name}", f"must be a list as long as outputs ({len(texts)})"
        scores = made.get("scores", {})
        if not isinstance(scores, dict):
            yield f"{where}.scores", "must map judges to ratings"
            continue
        for judge, ratings in scores.items():
            if not isinstance(ratings, list) or len(ratings) != len(texts) or not all(map(_number, ratings)):
                yield (
                    f"{where}.scores.{judge}",
                    f"must be as many numbers (or null) as outputs ({len(texts)})",
                )


def _training(row: Row) -> Problems:
    name = message_field(row)
    if name is None:
        yield "usermsg", "is missing (usrmsg is read too)"
    else:
        yield from _texts(row, name)
    yield from _texts(row, "target_output")
    # Training rows hold the classifier's labels, `default` included.
    yield from _scenario(row, required=False, known=classifier_labels())
    if "pred_score" in row:
        score = row["pred_score"]
        if not isinstance(score, str | int | float) or not _SCORE.fullmatch(str(score)):
            yield "pred_score", f"must be a rating, is {score!r:.40}"
    else:
        for label in ("gt_label", "pred_label"):
            yield from _label(row, label)


_SCORE = re.compile(r"\d{1,2}(\.\d)?")


def _classifier(row: Row) -> Problems:
    yield from _texts(row, "instruction", "input")
    yield from _scenario(row, "category", known=classifier_labels())


def _with_meta(row: Row) -> Problems:
    """Comparisons of critiques if `meta` has `exchange`, else critiques made for training."""
    yield from _texts(row, "output")
    meta = row.get("meta")
    if not isinstance(meta, dict):
        yield "meta", "must hold scenario, prompt and response"
    elif "exchange" in meta:
        if not isinstance(meta["exchange"], bool):
            yield "meta.exchange", "must be true or false"
    else:
        for name in ("prompt", "response"):
            if not isinstance(meta.get(name), str):
                yield f"meta.{name}", "must be a text"


def _output(row: Row) -> Problems:
    value = row.get("output")
    if not isinstance(value, str) and (isinstance(value, bool) or value not in (0, 1, 2)):
        yield "output", "must be a text, or 0, 1 or 2"


def _own(*completions: str) -> Callable[[Row], Problems]:
    def check(row: Row) -> Problems:
        for name in ("prompt", *completions):
            values = row.get(name) if name == "completions" else [row.get(name)]
            if not isinstance(values, list) or not values:
                yield name, "must be a list of completions"
                continue
            problems = (_unreadable(value, prompt=name == "prompt") for value in values)
            if problem := next(filter(None, problems), None):
                yield name, problem
        yield from _scenario(row, required=False, known=classifier_labels())

    return check


def _unreadable(value: Any, *, prompt: bool) -> str:
    if value is None:
        return "is missing"
    try:
        (prompt_text if prompt else completion_text)(value)
    except ConfigError as error:
        return str(error)
    return ""


def _number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


FORMATS = (
    FileFormat(
        name="autoj-pairwise", about="testdata_pairwise.jsonl", marks=("response 1",), check=_pairwise
    ),
    FileFormat(
        name="autoj-selection", about="testdata_selection.jsonl", marks=("outputs",), check=_selection
    ),
    FileFormat(
        name="autoj-training",
        about="pairwise and single training data",
        marks=("usermsg|usrmsg",),
        check=_training,
    ),
    FileFormat(
        name="autoj-classifier", about="scenario classifier data", marks=("instruction",), check=_classifier
    ),
    FileFormat(name="autoj-critique", about="testdata_critique.jsonl", marks=("response",), check=_critique),
    FileFormat(
        name="autoj-meta",
        about="outputs with meta: critiques, comparisons",
        marks=("output", "meta"),
        check=_with_meta,
    ),
    FileFormat(name="autoj-output", about="decisions or critiques", marks=("output",), check=_output),
    FileFormat(name="rate", about="prompt, completion", marks=("completion",), check=_own("completion")),
    FileFormat(name="rerank", about="prompt, completions", marks=("completions",), check=_own("completions")),
    FileFormat(
        name="compare",
        about="prompt, first, second",
        marks=("first", "second"),
        check=_own("first", "second"),
    ),
)
"""Tried in this order."""
