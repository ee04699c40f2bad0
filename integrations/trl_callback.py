# SPDX-License-Identifier: Apache-2.0
"""TRL callback that shows and logs judgments during training."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text as RichText
from transformers import TrainerCallback

from autoj_reward.console import Console
from autoj_reward.errors import ConfigError
from autoj_reward.integrations.trl import JudgeReward
from autoj_reward.json_text import json_text
from autoj_reward.monitor.gap import GapPoint
from autoj_reward.monitor.gold import Gold, GoldCheck
from autoj_reward.monitor.monitor import Alarm
from autoj_reward.reward.metrics import CallReport, JudgedRow, mean_metrics

_CELL_CHARS = 160
logger = logging.getLogger("autoj_reward")


class JudgmentCallback(TrainerCallback):  # type: ignore[misc]
    """Writes a table of judgments every few steps, and logs the judge's metrics.

    With GRPO and RLOO the reward logs its metrics itself, and critiques are in the trainer's table of
    completions. With other trainers this callback logs the metrics after each step, if the reward is
    attached.

    Args:
        reward: The reward.
        every: Steps between tables, at least 1.
        n_rows: Rows of a table, at least 1.
        show: Whether to print tables on standard output.
        path: JSON lines file to append tables to; None is `judgments.jsonl` in the trainer's output folder.
        gold: A second opinion that should not share the reward's flaws: a judge that rates, or a function
            with the arguments of a TRL reward (`gold(prompts=..., completions=..., **columns)`, texts and the
            dataset's columns) that gives a number in [0, 1] or None for each completion, such as an exact
            check. It is asked about a sample of completions; `gap` holds what it found, the log has
            `NAME/gold` and `NAME/gold_gap`, and an alarm rings when the training reward, mapped to [0, 1],
            rises away from it (see `GapMonitor`).
        gold_every: Steps between samples, at least 1.
        gold_n: Completions of a sample, at least 1.
        gold_path: JSON lines file of the samples; None is `gold.jsonl` in the trainer's output folder.
            `autoj-reward monitor` and `autoj-reward report` read it.
        gap_threshold: Threshold of the alarm; None never rings. With the default one false alarm is due in
            about 930 samples.
        on_alarm: warn: log a warning. stop: also end the training, in a run of one process.

    Raises:
        ConfigError: A number is below 1, the threshold is not above 0, or the gold judge does not rate.

    Example:
        >>> trainer.add_callback(JudgmentCallback(reward, every=50))            # doctest: +SKIP
    """

    def __init__(
        self,
        reward: JudgeReward,
        *,
        every: int = 50,
        n_rows: int = 8,
        show: bool = True,
        path: str | Path | None = None,
        gold: Gold | None = None,
        gold_every: int = 10,
        gold_n: int = 16,
        gold_path: str | Path | None = None,
        gap_threshold: float | None = 5.0,
        on_alarm: Literal["warn", "stop"] = "warn",
    ) -> None:
        if every < 1 or n_rows < 1 or gold_every < 1:
            raise ConfigError(
                f"every = {every}, n_rows = {n_rows} and gold_every = {gold_every} must be at least 1"
            )
        if on_alarm not in ("warn", "stop"):
            raise ConfigError(f"on_alarm = {on_alarm!r} is not 'warn' or 'stop'")
        self._gold = (
            None
            if gold is None
            else GoldCheck(
                gold, reward.scale, n=gold_n, threshold=gap_threshold, path=gold_path or "gold.jsonl"
            )
        )
        reward.keep_columns = reward.keep_columns or gold is not None
        self._gold_in_output = gold_path is None
        self._gold_every, self._on_alarm, self._checked_at = gold_every, on_alarm, 0
        self._unlogged: dict[str, float] = {}
        self.alarms: list[Alarm] = []
        """Alarms of the gold reward so far."""
        self._reward = reward
        self._every = every
        self._n_rows = n_rows
        self._show = show
        self._path = path
        self._latest: CallReport | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Log the metrics that the trainer did not log itself; write a table every `every` steps."""
        reports = self._reward.take_reports()
        self._latest = reports[-1] if reports else self._latest
        self._check_gold([row for report in reports for row in report.rows], args, state, control)
        self._log([r for r in reports if not r.logged], control)
        if self._latest is None or state.global_step % self._every or not state.is_world_process_zero:
            return
        rows = self._latest.rows[: self._n_rows]
        path = Path(self._path) if self._path is not None else Path(args.output_dir) / "judgments.jsonl"
        _append(path, state.global_step, rows)
        if self._show:
            Console().print(judgment_table(f"step {state.global_step}: {self._reward.__name__}", rows))

    @property
    def gap(self) -> list[GapPoint]:
        """Mean training and gold reward of each sample so far."""
        return [] if self._gold is None else self._gold.monitor.points

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Add the gold reward and the gap to what the trainer logs."""
        if logs is not None and self._unlogged:
            logs.update(self._unlogged)
            if state.log_history:
                state.log_history[-1].update(self._unlogged)
            self._unlogged = {}

    def _check_gold(self, rows: Sequence[JudgedRow], args: Any, state: Any, control: Any) -> None:
        """Ask the gold reward about a sample if one is due; only the first process does."""
        step = state.global_step
        due = step - self._checked_at >= self._gold_every
        if self._gold is None or not rows or not due or not state.is_world_process_zero:
            return
        self._checked_at = step
        if self._gold_in_output:
            self._gold.path = Path(args.output_dir) / "gold.jsonl"
        alarms = self._gold.check(rows, step)
        if self.gap:
            name, latest = self._reward.__name__, self.gap[-1]
            self._unlogged = {f"{name}/gold": latest.gold, f"{name}/gold_gap": latest.gap}
        self.alarms += alarms
        for alarm in alarms:
            logger.warning("alarm, %s", alarm)
            if self._on_alarm == "stop" and int(os.environ.get("WORLD_SIZE", "1")) == 1:
                control.should_training_stop = True

    def _log(self, reports: Sequence[CallReport], control: Any) -> None:
        trainer = self._reward.trainer
        if trainer is not None and reports:
            due = control.should_log
            trainer.log({f"{self._reward.__name__}/{k}": v for k, v in mean_metrics(reports).items()})
            # `log` resets should_log, and the trainer's own log of this step is still to come.
            control.should_log = due


def judgment_table(title: str, rows: Sequence[JudgedRow]) -> Table:
    """A table of judgments for a terminal; long texts are truncated and markup is shown as text."""
    table = Table(title=title, title_justify="left")
    for name in ("prompt", "completion", "critique"):
        table.add_column(name, overflow="fold")
    for name in ("judge", "reward"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        texts = [_cell(t) for t in (row.prompt, row.completion, row.critique or "")]
        judged = RichText(row.reason, style="red") if row.raw is None and row.reason else _number(row.raw)
        table.add_row(*texts, judged, _number(row.reward))
    return table


def _cell(text: str) -> RichText:
    shown = text if len(text) <= _CELL_CHARS else text[:_CELL_CHARS] + "…"
    return RichText("".join(c if c.isprintable() or c == "\n" else "�" for c in shown))


def _number(value: float | None) -> RichText:
    return RichText("-" if value is None else f"{value:.3f}")


def _append(path: Path, step: int, rows: Sequence[JudgedRow]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        for row in rows:
            record = {
                "step": step,
                "prompt": row.prompt,
                "completion": row.completion,
                "critique": row.critique,
                "judge": row.raw,
                "reward": row.reward,
                "failure": row.reason,
            }
            # In ASCII, because texts may hold lone surrogates.
            file.write(json_text(record) + "\n")
