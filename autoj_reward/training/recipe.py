# SPDX-License-Identifier: Apache-2.0
"""Run a curriculum with TRL's SFTTrainer and a LoRA adapter.

A stage that is finished has its adapter in `stage-N-NAME/adapter`; one that was interrupted resumes
from its last checkpoint. The finished adapter, in bfloat16, is in `adapter`.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from peft.helpers import disable_input_dtype_casting
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, set_seed
from transformers.trainer_utils import get_last_checkpoint
from trl import SFTConfig

from autoj_reward.engines.checkpoint.embedded import resolve_model
from autoj_reward.engines.logprobs.tokenizer import InjectionSafeTokenizer
from autoj_reward.errors import ConfigError
from autoj_reward.json_text import json_text
from autoj_reward.judge.presets import load_spec
from autoj_reward.judge.spec import JudgeSpec
from autoj_reward.training.config import Stage, TrainConfig
from autoj_reward.training.curriculum import stage_examples
from autoj_reward.training.data import Corpus, Example, encode, load_corpus
from autoj_reward.training.in_training_eval import Case, live_judge, measure_cases
from autoj_reward.training.run_settings import keep_settings
from autoj_reward.training.trainer import MeasureCallback, ProgressCallback, VerdictTrainer

log = logging.getLogger("autoj_reward.training")

_NEIGHBOURS, _RUN = 128, 4
"""Units that are sorted by length together, and how many neighbours of these stay together."""


def train(config: TrainConfig, *, quiet: bool = True) -> Path:
    """Run the curriculum, or resume it.

    Several processes (torchrun) share each step; every one of them calls this.

    Args:
        config: The run.
        quiet: Show no progress; figures go to `measures.jsonl` and `losses.jsonl` all the same.

    Returns:
        The folder of the finished adapter.

    Raises:
        ConfigError: The judge or its model cannot be loaded, a stage has no examples, or the folder
            holds a stage that was trained with other settings.
        DataError: A row of the data is wrong.
    """
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    if config.threads:
        torch.set_num_threads(config.threads)
    spec, corpus = load_spec(config.judge), load_corpus(config)
    log.info("rows left out: %s", dict(corpus.dropped))
    model, tokenizer = _load(config, spec)
    cases = measure_cases(
        corpus.held_out, config.measure_cases, seed=config.seed, max_chars=config.measure_chars
    )
    for n, stage in enumerate(config.stages):
        folder = output / f"stage-{n + 1}-{stage.name}"
        keep_settings(config, stage, folder, write=_is_first_process())
        if (folder / "adapter").exists():
            log.info("stage %s is finished", stage.name)
            weights = load_file(str(folder / "adapter" / "adapter_model.safetensors"))
            set_peft_model_state_dict(model, weights)
            continue
        _run_stage(config, stage, folder, model, spec, tokenizer, corpus, cases, quiet=quiet)
    return _finish(config, model, output) if _is_first_process() else output / "adapter"


def prepare(
    config: TrainConfig, stage: Stage, corpus: Corpus, spec: JudgeSpec, tokenizer: InjectionSafeTokenizer
) -> tuple[list[Example], list[dict[str, list[int]]]]:
    """A stage's examples and their tokens, in the order of training.

    Units with an example over `max_tokens` are left out. Among 128 neighbours, units of similar length are
    put into one batch.

    Raises:
        ConfigError: Nothing is left.
    """
    examples = stage_examples(stage, corpus.train, spec, seed=config.seed)
    encoded = encode(examples, spec, tokenizer)
    units: dict[str, list[int]] = {}
    for n, example in enumerate(examples):
        units.setdefault(example.unit or f"alone {n}", []).append(n)
    longest = {name: max(len(encoded[n]["input_ids"]) for n in unit) for name, unit in units.items()}
    fitting = [name for name in units if longest[name] <= stage.max_tokens]
    kept: list[int] = []
    rng = random.Random(f"{config.seed} {stage.name} order")
    for start in range(0, len(fitting), _NEIGHBOURS):
        ordered = sorted(fitting[start : start + _NEIGHBOURS], key=lambda name: longest[name])
        batches = [ordered[i : i + _RUN] for i in range(0, len(ordered), _RUN)]
        rng.shuffle(batches)
        kept += [n for batch in batches for name in batch for n in units[name]]
    if not kept:
        raise ConfigError(
            f"stage {stage.name!r} has no examples of at most {stage.max_tokens} tokens",
            hint="raise max_tokens, or look at the files",
        )
    return [examples[n] for n in kept], [encoded[n] for n in kept]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """The examples of a stage, in all and by kind, and their tokens, in all and of the longest one."""

    name: str
    n_examples: int
    kinds: dict[str, int]
    n_tokens: int
    longest: int


def plan_stages(config: TrainConfig) -> tuple[list[PlannedStage], dict[str, int]]:
    """The examples that a run would train on; only the tokenizer is loaded.

    Returns:
        A plan for each stage in order, and the number of rows left out, by reason.

    Raises:
        ConfigError: The tokenizer cannot be loaded, or a stage has no examples.
        DataError: A row of the data is wrong.
    """
    spec, corpus = load_spec(config.judge), load_corpus(config)
    tokenizer = InjectionSafeTokenizer(_load_tokenizer(spec))
    plans = []
    for stage in config.stages:
        examples, encoded = prepare(config, stage, corpus, spec, tokenizer)
        lengths = [len(e["input_ids"]) for e in encoded]
        plans.append(
            PlannedStage(
                name=stage.name,
                n_examples=len(examples),
                kinds=dict(Counter(e.kind for e in examples)),
                n_tokens=sum(lengths),
                longest=max(lengths),
            )
        )
    return plans, dict(corpus.dropped)


def _load(config: TrainConfig, spec: JudgeSpec) -> tuple[Any, InjectionSafeTokenizer]:
    path = resolve_model(spec.model)
    # The frozen weights; the adapter's own are float32.
    dtype = torch.bfloat16 if config.autocast == "bfloat16" else torch.float32
    try:
        base = AutoModelForCausalLM.from_pretrained(path, revision=spec.revision, dtype=dtype)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot load the judge model {spec.model!r}: {error}") from error
    tokenizer = _load_tokenizer(spec)
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
    return model, InjectionSafeTokenizer(tokenizer, turn_end_ids=ends)


def _load_tokenizer(spec: JudgeSpec) -> Any:
    try:
        return AutoTokenizer.from_pretrained(resolve_model(spec.model), revision=spec.revision)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot load the tokenizer of {spec.model!r}: {error}") from error


def _run_stage(
    config: TrainConfig,
    stage: Stage,
    folder: Path,
    model: Any,
    spec: JudgeSpec,
    tokenizer: InjectionSafeTokenizer,
    corpus: Corpus,
    cases: Sequence[Case],
    *,
    quiet: bool,
) -> None:
    examples, encoded = prepare(config, stage, corpus, spec, tokenizer)
    n_tokens = sum(len(e["input_ids"]) for e in encoded)
    kinds = dict(Counter(e.kind for e in examples))
    log.info("stage %s: %s, %d tokens", stage.name, kinds, n_tokens)
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
            # In the order of `prepare`, which keeps units together and like lengths near each other.
            train_sampling_strategy="sequential",
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
        callbacks=[
            ProgressCallback(stage, n_tokens, folder.parent, quiet=quiet),
            MeasureCallback(judge, cases, stage, folder.parent),
        ],
    )
    trainer.remove_callback(PrinterCallback)
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    started = time.monotonic()
    # Autocast computes in bfloat16: float32 copies of every layer's input would only take memory.
    with disable_input_dtype_casting(model, active=use_bf16):
        trainer.train(resume_from_checkpoint=last)
    seconds = time.monotonic() - started
    log.info("stage %s took %.0f s, %.0f tokens/s", stage.name, seconds, n_tokens * stage.epochs / seconds)
    if trainer.is_world_process_zero():
        _save(model, folder / "adapter")
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()


def _is_first_process() -> bool:
    # From torchrun: the process group is initialized only by the first trainer.
    return os.environ.get("RANK", "0") == "0"


def _save(model: Any, folder: Path) -> None:
    """Save the adapter into another folder, then rename it, so that it is never incomplete."""
    scratch = folder.with_suffix(".partial")
    shutil.rmtree(scratch, ignore_errors=True)
    model.save_pretrained(str(scratch))
    scratch.rename(folder)


def _finish(config: TrainConfig, model: Any, output: Path) -> Path:
    """Save the finished adapter with weights in bfloat16, and the run's settings as run.json."""
    folder = output / "adapter"
    shutil.rmtree(folder, ignore_errors=True)
    _save(model, folder)
    weights = folder / "adapter_model.safetensors"
    halved = {name: t.to(torch.bfloat16).contiguous() for name, t in load_file(str(weights)).items()}
    save_file(halved, str(weights), metadata={"format": "pt"})
    (folder / "README.md").unlink(missing_ok=True)
    shape = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    # The base model's path on this machine must not be published.
    shape["base_model_name_or_path"] = load_spec(config.judge).model
    (folder / "adapter_config.json").write_text(json_text(shape, indent=1) + "\n", encoding="utf-8")
    settings = asdict(config)
    (output / "run.json").write_text(json_text(settings, indent=1, default=str) + "\n", encoding="utf-8")
    return folder
