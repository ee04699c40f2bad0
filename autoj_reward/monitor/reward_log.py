# SPDX-License-Identifier: Apache-2.0
"""Read completions and rewards from our outputs or a trainer's log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoj_reward.errors import ConfigError, DataError
from autoj_reward.judge.messages.text import completion_text
from autoj_reward.monitor.monitor import Scored
from autoj_reward.rows.source import Row, read_rows

_NO_REWARDS = frozenset({"step", "advantage", "epoch", "index", "gold"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFields:
    """The fields of a log.

    Attributes:
        reward: Field of the reward; None takes `reward`, or the only other number of the first row, as in
            logs of TRL's trainers with one reward function.
        completion: Field of the completion, a text or messages.
        step: Field of the step; rows may lack it.
        gold: Field of a gold reward on the same scale; rows may lack it.
    """

    reward: str | None = None
    completion: str = "completion"
    step: str = "step"
    gold: str = "gold"


def read_scored(path: str, fields: LogFields) -> Iterator[Scored]:
    """Completions in the order of the log.

    Args:
        path: A file of rows, or a folder of Parquet files (`output_dir/completions` of TRL's trainers),
            which are read in the order of their names. A row of rerank gives all its completions.
        fields: The fields of a row.

    Raises:
        ConfigError: There is no such file, or several fields may be the reward.
        DataError: A row is wrong; names file, line and field.
    """
    for name in _files(path):
        reward = fields.reward
        for line, row in read_rows(name):
            if "ranking" in row and fields.reward is None:
                yield from _of_group(row, name, line)
                continue
            reward = reward or _reward_field(row, name)
            yield _scored(row, name, line, reward, fields)


def _files(path: str) -> list[str]:
    folder = Path(path)
    if not folder.is_dir():
        return [path]
    files = sorted(str(f) for f in folder.glob("*.parquet")) or sorted(str(f) for f in folder.glob("*.jsonl"))
    if not files:
        raise ConfigError(f"the folder {path} holds neither .parquet nor .jsonl files")
    return files


def _reward_field(row: Row, path: str) -> str:
    if "reward" in row:
        return "reward"
    numbers = [k for k, v in row.items() if isinstance(v, float) and k not in _NO_REWARDS]
    if len(numbers) != 1:
        raise ConfigError(
            f"{path} has no field 'reward', and {len(numbers)} others hold numbers: "
            f"{', '.join(numbers) or 'none'}",
            hint="name it: --reward FIELD",
        )
    return numbers[0]


def _of_group(row: Row, path: str, line: int) -> Iterator[Scored]:
    completions = row.get("completions")
    if not isinstance(completions, list):
        raise DataError("must be a list of completions", path=path, line=line, field="completions")
    ranking = row["ranking"]
    if not isinstance(ranking, list):
        raise DataError("must be a list, as rerank writes it", path=path, line=line, field="ranking")
    for n, entry in enumerate(ranking):
        index = entry.get("index") if isinstance(entry, dict) else None
        if not isinstance(index, int) or not 0 <= index < len(completions):
            raise DataError(
                f"is not an index of {len(completions)} completions",
                path=path,
                line=line,
                field=f"ranking[{n}]",
            )
        named = f"completions[{index}]"
        text = _text(completions[index], path, line, named)
        flags = entry.get("flags")
        yield Scored(
            _number(entry.get("reward"), path, line, f"ranking[{n}].reward"),
            text,
            tuple(flags) if isinstance(flags, list) else None,
            line,
        )


def _scored(row: Row, path: str, line: int, reward: str, fields: LogFields) -> Scored:
    for name in (reward, fields.completion):
        if name not in row:
            raise DataError(f"is missing; the row has {', '.join(row)}", path=path, line=line, field=name)
    value = _number(row[reward], path, line, reward)
    text = _text(row[fields.completion], path, line, fields.completion)
    flags, step = row.get("flags"), row.get(fields.step)
    return Scored(
        value,
        text,
        tuple(flags) if isinstance(flags, list) else None,
        step if isinstance(step, int) else None,
        _number(row.get(fields.gold), path, line, fields.gold),
        None if row.get("prompt") is None else str(row["prompt"]),
    )


def _number(value: Any, path: str, line: int, field: str) -> float | None:
    """A reward; None for none, NaN included."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise DataError(f"must be a number or null, is {value!r}", path=path, line=line, field=field)
    try:
        return None if value is None or value != value else float(value)
    except OverflowError as error:
        raise DataError("is too large for a reward", path=path, line=line, field=field) from error


def _text(value: Any, path: str, line: int, field: str) -> str:
    try:
        return completion_text(value)
    except (ConfigError, AttributeError, TypeError) as error:
        raise DataError(f"is not a completion: {error}", path=path, line=line, field=field) from error
