# SPDX-License-Identifier: Apache-2.0
"""TRL's SFTTrainer with a cheaper loss and progress reports."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from autoj_reward.json_text import json_text
from autoj_reward.judge.judge import Judge
from autoj_reward.progress import RunProgress
from autoj_reward.training.config import Stage
from autoj_reward.training.data import IGNORED
from autoj_reward.training.in_training_eval import Case, measure

log = logging.getLogger("autoj_reward.training")


class VerdictTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer that computes logits only at labelled positions, and passes no attention mask.

    On CPU, with a target of a few tokens after an input of hundreds, projecting every position to the
    vocabulary would cost about a quarter of the step. Batches are padded on the right, which causal attention
    does not see: without a mask it takes its fast path.
    """

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean cross entropy of the target tokens; with `return_outputs` also the model's output."""
        labels = inputs["labels"][:, 1:]
        wanted = labels != IGNORED
        columns = wanted.any(dim=0).nonzero().flatten()
        out = model(
            input_ids=inputs["input_ids"],
            use_cache=False,
            logits_to_keep=columns,
        )
        rows = wanted[:, columns]
        losses = torch.nn.functional.cross_entropy(
            out.logits[rows].float(), labels[:, columns][rows], reduction="sum"
        )
        n = rows.sum() if num_items_in_batch is None else num_items_in_batch
        loss = losses / torch.as_tensor(n).clamp(min=1)
        if num_items_in_batch is not None:
            # It counts the targets of all processes, whose gradients are averaged afterwards.
            loss = loss * self.accelerator.num_processes
        return (loss, out) if return_outputs else loss


class MeasureCallback(TrainerCallback):  # type: ignore[misc]
    """Evaluates the held-out cases every `measure_every` steps and writes the figures to `measures.jsonl`.

    With several processes the first one does this, and tells the others whether the stage is learnt.
    """

    def __init__(self, judge: Judge, cases: Sequence[Case], stage: Stage, output: Path) -> None:
        self._judge, self._cases, self._stage = judge, cases, stage
        self._path = output / "measures.jsonl"

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        every = self._stage.measure_every
        due = every and state.global_step % every == 0 and state.global_step < state.max_steps
        if not due:
            return
        figures = self.write(state.global_step) if state.is_world_process_zero else {}
        if self._stage.until and self._learnt(figures, args.device):
            log.info("stage %s is learnt", self._stage.name)
            control.should_training_stop = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.is_world_process_zero:
            self.write(state.global_step)

    def _learnt(self, figures: Mapping[str, float], device: torch.device) -> bool:
        """Whether the stage is learnt, as the first process finds, in every process."""
        learnt = all(figures.get(name, 0.0) >= least for name, least in self._stage.until.items())
        if not torch.distributed.is_initialized():
            return learnt
        shared = torch.tensor([float(learnt)], device=device)
        torch.distributed.broadcast(shared, src=0)
        return bool(shared.item())

    def write(self, step: int) -> dict[str, float]:
        """Evaluate now."""
        figures = measure(self._judge, self._cases, wanted=self._stage.measures)
        line = {"stage": self._stage.name, "step": step, **{k: round(v, 4) for k, v in figures.items()}}
        _append(self._path, line)
        log.info("measure %s", json_text(line))
        return figures


class ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """Shows a stage's progress and speed, and writes losses to `losses.jsonl`.

    Args:
        stage: The stage.
        n_tokens: Tokens of one pass over its examples, without padding.
        output: The run's folder.
        quiet: Show nothing; losses are still written.
    """

    def __init__(self, stage: Stage, n_tokens: int, output: Path, *, quiet: bool) -> None:
        self._stage, self._quiet = stage, quiet
        self._n_tokens = n_tokens * stage.epochs
        self._path = output / "losses.jsonl"
        self._progress: RunProgress | None = None
        self._first = self._step = self._n_steps = 0
        self._started = time.monotonic()
        self._loss: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._first = self._step = state.global_step
        self._n_steps = state.max_steps
        self._started = time.monotonic()
        if state.is_world_process_zero:
            label = f"stage {self._stage.name}, steps"
            self._progress = RunProgress(label, state.max_steps, quiet=self._quiet, status=self._status)
            self._progress.__enter__()
            # Steps of an earlier run count as done, but not for the rate.
            self._progress.skip(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._step = state.global_step
        if self._progress is not None:
            self._progress.advance(1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if logs and "loss" in logs and state.is_world_process_zero:
            self._loss = float(logs["loss"])
            rate = float(logs["learning_rate"])
            line = {"stage": self._stage.name, "step": state.global_step, "loss": self._loss}
            _append(self._path, {**line, "learning_rate": rate})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)

    def _status(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        done = self._n_tokens * (self._step - self._first) / max(self._n_steps, 1)
        loss = "" if self._loss is None else f", loss {self._loss:.3f}"
        return f"{done / seconds:,.0f} tokens/s{loss}"


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json_text(line) + "\n")
