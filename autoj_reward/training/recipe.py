# SPDX-License-Identifier: Apache-2.0
"""The run: TRL's SFTTrainer and a LoRA adapter over the stages of a curriculum.

A stage that is finished has its adapter in `stage-N-NAME/adapter`; one that was interrupted goes on
from its last checkpoint. The finished adapter, in bfloat16, is in `adapter`.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint
from trl import SFTConfig, SFTTrainer

from autoj_reward.engines.embedded import resolve_model
from autoj_reward.engines.tokens import TrustedTokenizer
from autoj_reward.errors import ConfigError
from autoj_reward.judge.judge import Judge
from autoj_reward.judge.presets import load_spec
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.training.config import Stage, TrainConfig
from autoj_reward.training.curriculum import stage_examples
from autoj_reward.training.data import IGNORED, Corpus, Example, count_by_kind, encode, load_corpus
from autoj_reward.training.live import Case, live_judge, measure, measure_cases

log = logging.getLogger("autoj_reward.training")


class VerdictTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer that computes logits only where a label is.

    On CPU, and with a target of a few tokens after an input of hundreds, the vocabulary projection of
    every position would cost about a quarter of the step.
    """

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        labels = inputs["labels"][:, 1:]
        wanted = labels != IGNORED
        columns = wanted.any(dim=0).nonzero().flatten()
        out = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
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
            # It counts the targets of all processes, and their gradients are averaged afterwards.
            loss = loss * self.accelerator.num_processes
        return (loss, out) if return_outputs else loss


class MeasureCallback(TrainerCallback):  # type: ignore[misc]
    """Reads the held-out cases every so many steps and writes the figures to `measures.jsonl`.

    With several processes the first one reads, and the others wait for it at their next step.
    """

    def __init__(self, judge: Judge, cases: Sequence[Case], stage: Stage, output: Path) -> None:
        self._judge, self._cases, self._stage = judge, cases, stage
        self._path = output / "measures.jsonl"

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        every = self._stage.measure_every
        due = every and state.global_step % every == 0 and state.global_step < state.max_steps
        if due and state.is_world_process_zero:
            self.write(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.is_world_process_zero:
            self.write(state.global_step)

    def write(self, step: int) -> None:
        """Measure now."""
        figures = measure(self._judge, self._cases, wanted=self._stage.measures)
        line = {"stage": self._stage.name, "step": step, **{k: round(v, 4) for k, v in figures.items()}}
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        log.info("measure %s", json.dumps(line))


def train(config: TrainConfig) -> Path:
    """Run the curriculum, or go on where it was interrupted.

    Returns:
        The folder of the finished adapter.

    Raises:
        ConfigError: The judge or its model cannot be loaded, or a stage has no examples.
        DataError: A row of the data is wrong.
    """
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    if config.threads:
        torch.set_num_threads(config.threads)
    spec, corpus = load_spec(config.judge), load_corpus(config)
    log.info("rows left out: %s", dict(corpus.dropped))
    model, tokenizer = _load(config, spec)
    cases = measure_cases(corpus.held_out, config.measure_cases, seed=config.seed)
    for n, stage in enumerate(config.stages):
        folder = output / f"stage-{n + 1}-{stage.name}"
        if (folder / "adapter").exists():
            log.info("stage %s is finished", stage.name)
            _restore(model, folder / "adapter")
            continue
        _run_stage(config, stage, folder, model, spec, tokenizer, corpus, cases)
    return _finish(config, model, output) if _is_first_process() else output / "adapter"


def prepare(
    config: TrainConfig, stage: Stage, corpus: Corpus, spec: JudgeSpec, tokenizer: TrustedTokenizer
) -> tuple[list[Example], list[dict[str, list[int]]]]:
    """A stage's examples and their tokens; those over `max_tokens` are left out.

    Raises:
        ConfigError: Nothing is left.
    """
    examples = stage_examples(stage, corpus.train, spec, seed=config.seed)
    encoded = [encode(e, spec, tokenizer) for e in examples]
    kept = [n for n, e in enumerate(encoded) if len(e["input_ids"]) <= stage.max_tokens]
    if not kept:
        raise ConfigError(
            f"stage {stage.name!r} has no examples of at most {stage.max_tokens} tokens",
            hint="raise max_tokens, or look at the files",
        )
    return [examples[n] for n in kept], [encoded[n] for n in kept]


def _load(config: TrainConfig, spec: JudgeSpec) -> tuple[Any, TrustedTokenizer]:
    path = resolve_model(spec.model)
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu and config.autocast == "bfloat16" else torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=spec.revision)
        base = AutoModelForCausalLM.from_pretrained(path, revision=spec.revision, dtype=dtype)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot load the judge model {spec.model!r}: {error}") from error
    set_seed(config.seed)
    targets = config.lora.targets
    adapter = LoraConfig(
        r=config.lora.r,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, adapter)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    eos = base.generation_config.eos_token_id
    ends = [] if eos is None else eos if isinstance(eos, list) else [eos]
    return model, TrustedTokenizer(tokenizer, turn_end_ids=ends)


def _run_stage(
    config: TrainConfig,
    stage: Stage,
    folder: Path,
    model: Any,
    spec: JudgeSpec,
    tokenizer: TrustedTokenizer,
    corpus: Corpus,
    cases: Sequence[Case],
) -> None:
    examples, encoded = prepare(config, stage, corpus, spec, tokenizer)
    n_tokens = sum(len(e["input_ids"]) for e in encoded)
    log.info("stage %s: %s, %d tokens", stage.name, count_by_kind(examples), n_tokens)
    use_bf16 = config.autocast == "bfloat16"
    judge = live_judge(model, spec, tokenizer, autocast=use_bf16)
    trainer = VerdictTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(folder),
            learning_rate=stage.learning_rate,
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr_rate": stage.final_share},
            warmup_steps=0.05,
            per_device_train_batch_size=stage.batch_size,
            gradient_accumulation_steps=stage.accumulate,
            num_train_epochs=stage.epochs,
            train_sampling_strategy="group_by_length",
            bf16=use_bf16,
            gradient_checkpointing=False,
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            save_steps=config.save_every,
            save_total_limit=config.keep_checkpoints,
            logging_steps=10,
            logging_first_step=True,
            report_to="none",
            seed=config.seed,
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            ddp_find_unused_parameters=False,
        ),
        train_dataset=Dataset.from_list(encoded),
        processing_class=tokenizer.hf,
        callbacks=[MeasureCallback(judge, cases, stage, folder.parent)],
    )
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=last)
    seconds = time.monotonic() - started
    log.info("stage %s took %.0f s, %.0f tokens/s", stage.name, seconds, n_tokens * stage.epochs / seconds)
    if trainer.is_world_process_zero():
        _save(model, folder / "adapter")
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()


def _is_first_process() -> bool:
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _save(model: Any, folder: Path) -> None:
    """Save the adapter; the folder appears under its name only when it is whole."""
    scratch = folder.with_suffix(".partial")
    shutil.rmtree(scratch, ignore_errors=True)
    model.save_pretrained(str(scratch))
    scratch.rename(folder)


def _restore(model: PeftModel, folder: Path) -> None:
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, load_file(str(folder / "adapter_model.safetensors")))


def _finish(config: TrainConfig, model: Any, output: Path) -> Path:
    """The finished adapter, its weights in bfloat16, with the run's settings beside it."""
    folder = output / "adapter"
    shutil.rmtree(folder, ignore_errors=True)
    _save(model, folder)
    weights = folder / "adapter_model.safetensors"
    halved = {name: t.to(torch.bfloat16).contiguous() for name, t in load_file(str(weights)).items()}
    save_file(halved, str(weights), metadata={"format": "pt"})
    (folder / "README.md").unlink(missing_ok=True)
    settings = asdict(config)
    (output / "run.json").write_text(json.dumps(settings, indent=1, default=str) + "\n", encoding="utf-8")
    return folder
