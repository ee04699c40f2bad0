# SPDX-License-Identifier: Apache-2.0
"""What the training examples share: their options, a few prompts, and the embedded policy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from autoj_reward.engines.checkpoint.embedded import embedded_checkpoint

PROMPTS = [
    "Name a prime above ten.",
    "Say hello to a new colleague.",
    "Why is the sky blue?",
    "Give one tip for sleeping well.",
    "What do bees make?",
    "Name an animal that lives in the sea.",
    "Explain what a map is for.",
    "How do you boil an egg?",
]


def options(description: str | None, **defaults: Any) -> argparse.Namespace:
    """The command line: `--judge autoj-13b --engine vllm-server` takes another judge."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--judge", default="mini")
    parser.add_argument("--engine", default=None)
    parser.add_argument("--policy", default=None, help="checkpoint folder or hub name; None is SmolLM2-135M")
    parser.add_argument("--steps", type=int, default=defaults.get("steps", 4))
    parser.add_argument("--max-new-tokens", type=int, default=defaults.get("max_new_tokens", 24))
    parser.add_argument("-o", "--output", type=Path, default=Path("runs") / Path(parser.prog).stem)
    given = parser.parse_args()
    given.policy = given.policy or str(embedded_checkpoint())
    return given


def settings(given: argparse.Namespace) -> dict[str, Any]:
    """Trainer settings for a short run on whatever this machine has."""
    on_cpu = not torch.cuda.is_available()
    return {
        "output_dir": str(given.output),
        "max_steps": given.steps,
        "learning_rate": 1e-5,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": on_cpu,
        "bf16": not on_cpu,
        "seed": 0,
    }


def prompts() -> Dataset:
    """Prompts as conversations, in the column `prompt`."""
    return Dataset.from_dict({"prompt": [[{"role": "user", "content": p}] for p in PROMPTS]})


def policy_model(given: argparse.Namespace) -> Any:
    """The policy in float32."""
    return AutoModelForCausalLM.from_pretrained(given.policy, dtype=torch.float32)


def sample(given: argparse.Namespace, n: int) -> Dataset:
    """n completions of each prompt by the policy, in the columns `prompt` and `completions`."""
    tokenizer, policy = AutoTokenizer.from_pretrained(given.policy), policy_model(given).eval()
    torch.manual_seed(0)
    groups = []
    for prompt in prompts()["prompt"]:
        inputs = tokenizer.apply_chat_template(
            prompt,
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        written = policy.generate(
            **inputs,
            do_sample=True,
            max_new_tokens=given.max_new_tokens,
            num_return_sequences=n,
            pad_token_id=tokenizer.pad_token_id,
        )
        new = written[:, inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        groups.append([[{"role": "assistant", "content": t.strip()}] for t in texts])
    return prompts().add_column("completions", groups)


def report(trainer: Any) -> None:
    """What the run's log holds, one line a step."""
    for entry in trainer.state.log_history:
        kept = {k: v for k, v in entry.items() if k.startswith(("reward", "judge", "loss", "objective"))}
        if kept:
            shown = "  ".join(f"{k} {v:.4g}" for k, v in kept.items() if isinstance(v, float))
            print(f"step {entry.get('step')}:  {shown}")
