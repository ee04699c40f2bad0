# SPDX-License-Identifier: Apache-2.0
"""`monitor`: check a training log for reward hacking."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoj_reward.cli.display import note, table_console
from autoj_reward.cli.options import AsJson, JudgeName, Limit, Quiet, key_values, typed
from autoj_reward.errors import ConfigError
from autoj_reward.json_text import json_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from autoj_reward.monitor.monitor import Alarm, Scored, Thresholds, Window

_COLUMNS = ("reward", "spread", "length", "length_correlation", "distinct", "duplicates", "flagged", "failed")


def monitor(
    log: Annotated[
        str,
        typer.Argument(
            metavar="LOG",
            help="Rows with a completion and a reward: what rate or rerank wrote, or a folder of Parquet "
            "files like output_dir/completions of TRL's trainers.",
            show_default=False,
        ),
    ],
    window: Annotated[
        int, typer.Option(min=8, help="Completions of a window; the first is the baseline.")
    ] = 256,
    reward: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Field of the reward, if not `reward`.")
    ] = None,
    completion: Annotated[str, typer.Option(metavar="FIELD", help="Field of the completion.")] = "completion",
    step: Annotated[str, typer.Option(metavar="FIELD", help="Field of the training step.")] = "step",
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="length_growth=3, flagged=0.01, ...; off switches an alarm off. Repeatable.",
        ),
    ] = None,
    judge: JudgeName = "mini",
    limit: Limit = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check a run's completions for signs of reward hacking; exit status 1 with an alarm.

    If rows hold no flags of the guard, it looks for --judge's delimiters and verdicts here, without a model.
    """
    from autoj_reward.monitor.gap import gap_of_log
    from autoj_reward.monitor.monitor import Monitor
    from autoj_reward.monitor.reward_log import LogFields, read_scored

    watching = Monitor(window=window, thresholds=_thresholds(threshold))
    scored = read_scored(log, LogFields(reward=reward, completion=completion, step=step))
    found: list[Alarm] = []
    golds: list[Scored] = []
    for item in _flagged(itertools.islice(scored, limit), judge):
        flags = None if item.flags is None else [item.flags]
        found += watching.add([item.reward], [item.text], flags=flags, step=item.step)
        golds += [item] if item.gold is not None else []
    found += watching.finish()
    gap, gap_alarms = gap_of_log(golds, watching.thresholds.gold_gap)
    found += gap_alarms
    if not watching.windows:
        raise ConfigError(f"{log} holds no completions")
    if as_json:
        windows = [w.as_record() for w in watching.windows]
        alarms = [{f.name: getattr(a, f.name) for f in fields(a)} for a in found]
        gold = {"gold": [point.as_record() for point in gap]} if gap else {}
        typer.echo(json_text({"windows": windows, "alarms": alarms, **gold}, indent=1))
    elif not quiet:
        _print(watching.windows)
        if gap:
            ends = f"{gap[0].gap:+.3g} at step {gap[0].step} to {gap[-1].gap:+.3g} at step {gap[-1].step}"
            note(f"reward less gold: {ends}, {len(gap):,} steps")
    for alarm in found:
        note(f"alarm, {alarm}")
    if found:
        raise typer.Exit(1)


def _flagged(items: Iterable[Scored], judge: str) -> Iterator[Scored]:
    """Items with flags; those without are checked by the guard."""
    from autoj_reward.judge.guard.guard import Guard, GuardRunner
    from autoj_reward.judge.presets import load_spec

    guarding = GuardRunner(Guard(), load_spec(judge))
    for item in items:
        yield item if item.flags is not None else replace(item, flags=guarding.sanitize(item.text)[1])


def _thresholds(given: list[str] | None) -> Thresholds:
    from autoj_reward.monitor.monitor import Thresholds

    values = typed(key_values(given, "--threshold"))
    known = [f.name for f in fields(Thresholds)]
    if unknown := sorted(set(values) - set(known)):
        raise ConfigError(f"there are no thresholds {unknown}", hint=", ".join(known))
    limits: dict[str, Any] = {k: None if v == "off" else v for k, v in values.items()}
    return Thresholds(**limits)


def _print(windows: list[Window]) -> None:
    from rich.table import Table

    table = Table(title=f"{len(windows)} windows; the first is the baseline", title_justify="left")
    for name in ("steps", "n", *(c.replace("_", " ") for c in _COLUMNS)):
        table.add_column(name, justify="right")
    for w in windows:
        steps = "-" if w.first_step is None else f"{w.first_step}-{w.last_step}"
        values = [getattr(w, c) for c in _COLUMNS]
        table.add_row(steps, str(w.n), *("-" if v is None else f"{v:.3g}" for v in values))
    table_console().print(table)
