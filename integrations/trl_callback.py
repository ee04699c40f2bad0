# SPDX-License-Identifier: Apache-2.0
"""TRL callback that shows and logs judgments during training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text as RichText
from transformers import TrainerCallback

from autoj_reward.console import Console
from autoj_reward.errors import ConfigError
from autoj_reward.integrations.trl import JudgeReward
from autoj_reward.json_text import json_text
from autoj_reward.reward.metrics import CallReport, JudgedRow, mean_metrics

_CELL_CHARS = 160


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

    Raises:
        ConfigError: `every` or `n_rows` is below 1.

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
    ) -> None:
        if every < 1 or n_rows < 1:
            raise ConfigError(f"every = {every} and n_rows = {n_rows} must be at least 1")
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
        self._log([r for r in reports if not r.logged], control)
        if self._latest is None or state.global_step % self._every or not state.is_world_process_zero:
            return
        rows = self._latest.rows[: self._n_rows]
        path = Path(self._path) if self._path is not None else Path(args.output_dir) / "judgments.jsonl"
        _append(path, state.global_step, rows)
        if self._show:
            Console().print(judgment_table(f"step {state.global_step}: {self._reward.__name__}", rows))

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
