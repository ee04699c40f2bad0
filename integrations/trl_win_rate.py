# SPDX-License-Identifier: Apache-2.0
"""A TRL callback that logs how often a policy's completions win against a baseline's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import GenerationConfig, TrainerCallback

from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judgments import is_even
from autoj_reward.types import Text


class WinRateCallback(TrainerCallback):  # type: ignore[misc]
    """Compare the policy with a baseline at each evaluation.

    The policy completes the prompts of a data set, and a judge compares each completion with the baseline's.
    The trainer logs

    * `eval_win_rate`: share of wins, in [0, 1], a tie as half a win;
    * `eval_win_prob`: mean win probability;
    * `eval_win_failures`: share of pairs without a verdict, which the other two leave out.

    It works with every trainer that evaluates, whether it takes reward functions or not.

    Args:
        judge: Compares.
        trainer: The trainer, whose policy and tokenizer are used.
        dataset: Rows with a `prompt`, as text or messages; None takes the trainer's evaluation set.
        baseline_column: Column with the completions to compare with. None: completions of the policy as it
            is when training begins.
        generation_config: How the policy completes; None takes the trainer's `max_completion_length` (256
            tokens without one) and greedy decoding.
        n_prompts: Number of prompts, from the first; None takes all.

    Raises:
        ConfigError: The judge does not compare, there is no data set, or it lacks a column.

    Example:
        >>> trainer.add_callback(WinRateCallback(Judge.load("mini"), trainer))  # doctest: +SKIP
    """

    def __init__(
        self,
        judge: Judge,
        trainer: Any,
        *,
        dataset: Any = None,
        baseline_column: str | None = None,
        generation_config: GenerationConfig | None = None,
        n_prompts: int | None = None,
    ) -> None:
        rows = trainer.eval_dataset if dataset is None else dataset
        needed = {"prompt"} if baseline_column is None else {"prompt", baseline_column}
        columns = set(getattr(rows, "column_names", None) or ())
        if not needed <= columns:
            raise ConfigError(
                f"win rates need the columns {sorted(needed)}, and the evaluation set has {sorted(columns)}",
                hint="some trainers replace prompts by tokens: give the rows as dataset=",
            )
        if judge.spec.comparison is None:
            raise ConfigError(f"the judge {judge.spec.name!r} does not compare")
        if n_prompts is not None:
            if n_prompts < 1:
                raise ConfigError(f"n_prompts = {n_prompts} is not at least 1")
            rows = rows.select(range(min(n_prompts, len(rows))))
        self._judge = judge
        self._trainer = trainer
        self._prompts: list[Text] = list(rows["prompt"])
        self._baselines: list[Text] | None = list(rows[baseline_column]) if baseline_column else None
        self._generation = generation_config or GenerationConfig(
            max_new_tokens=getattr(trainer.args, "max_completion_length", None) or 256, do_sample=False
        )

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Complete the prompts with the policy as it is, if no column has the baseline."""
        if self._baselines is None:
            self._baselines = list(self._completions())

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Compare and log. Before training, which makes a baseline, there is nothing to compare with."""
        if self._baselines is None:
            return
        completions = self._completions()
        if state.is_world_process_zero:
            judgments = self._judge.compare(self._prompts, completions, self._baselines)
            wins = [j.win_prob for j in judgments if j.win_prob is not None]
            metrics = {"eval_win_failures": 1.0 - len(wins) / len(judgments)}
            if wins:
                metrics["eval_win_rate"] = sum(0.5 if is_even(w) else w > 0.5 for w in wins) / len(wins)
                metrics["eval_win_prob"] = sum(wins) / len(wins)
            self._trainer.log(metrics)

    def _completions(self) -> Sequence[str]:
        """The policy's completions, on every process; each process makes a part of them."""
        import torch
        from accelerate.utils import gather_object
        from trl import maybe_apply_chat_template
        from trl.models import unwrap_model_for_generation

        trainer, tokenizer = self._trainer, self._trainer.processing_class
        size = trainer.args.per_device_eval_batch_size
        completions: list[str] = []
        with (
            trainer.accelerator.split_between_processes(self._prompts) as prompts,
            unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model,
            torch.no_grad(),
        ):
            training = model.training
            model.eval()
            texts = [maybe_apply_chat_template({"prompt": p}, tokenizer)["prompt"] for p in prompts]
            for start in range(0, len(texts), size):
                batch = tokenizer(
                    texts[start : start + size],
                    return_tensors="pt",
                    padding=True,
                    padding_side="left",
                    add_special_tokens=False,
                ).to(model.device)
                tokens = model.generate(**batch, generation_config=self._generation)
                new = tokens[:, batch["input_ids"].shape[1] :]
                completions += tokenizer.batch_decode(new, skip_special_tokens=True)
            model.train(training)
        gathered: list[str] = gather_object(completions)
        return gathered
