# SPDX-License-Identifier: Apache-2.0
"""Does a policy learn what the judge prefers?

GRPO trains the embedded policy with the embedded judge's direct ratings on prompts that ask for a few words,
and lets it write only so many tokens: the judge rates what breaks off lower, so that there is something to
learn. The mean rating of its answers to other prompts, sampled with the same seeds before and after, is to
rise; in a control, the same rewards are dealt out to the batch at random, and it is to stay where it was, but
for the random walk of its steps, which is longer at a higher rate; a KL term holds both near the policy that
they began with. The ceiling is the scale's end, 1.0.

A run that was stopped goes on where its last checkpoint was, and finished runs are not run again:

    python benchmarks/learning.py
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from peft import LoraConfig
from report import RESULTS, publish, show
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.trainer_utils import get_last_checkpoint
from trl import GRPOConfig, GRPOTrainer

from autoj_reward import Judge, JudgeReward
from autoj_reward.engines.checkpoint.embedded import embedded_checkpoint

THINGS = ["a map", "a clock", "rain", "bread", "a bridge", "a library", "salt", "a garden"]
QUESTIONS = [
    "In one short sentence, what is {} for?",
    "Name one use of {}, in a few words.",
    "Say in a few words what {} is.",
]
TRAIN = [q.format(t) for t in THINGS[:5] for q in QUESTIONS]
HELD_OUT = [q.format(t) for t in THINGS[5:] for q in QUESTIONS]
CONDITIONS = ("judge", "shuffled")


class Shuffled:
    """The control: the judge's rewards, shuffled over the batch."""

    __name__ = "shuffled"

    def __init__(self, reward: JudgeReward, seed: int) -> None:
        self.reward = reward
        self._random = random.Random(seed)

    def __call__(self, **given: Any) -> list[float | None]:
        rewards = self.reward(**given)
        self._random.shuffle(rewards)
        return rewards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", default="mini")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--prompts-per-step", type=int, default=1)
    parser.add_argument("--completions", type=int, default=8, help="of each prompt")
    parser.add_argument("--max-new-tokens", type=int, default=24)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--beta", type=float, default=0.04, help="weight of the KL term; DeepSeekMath's")
    parser.add_argument("--samples", type=int, default=8, help="answers to each held-out prompt")
    parser.add_argument("--checkpoint-steps", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path("runs/learning"))
    given = parser.parse_args()

    runs = []
    with Judge.load(given.judge, mode="direct") as judge:
        for seed in range(given.seeds):
            for condition in CONDITIONS:
                runs.append(one_run(given, judge, condition, seed))
                show(runs_table(runs))
    summary = {c: change(runs, c) for c in CONDITIONS}
    plot(runs, RESULTS / "learning.png")
    publish(
        "learning",
        "mean rating, in [-1, 1], of answers to held-out prompts before and after GRPO; the control has "
        "shuffled rewards",
        {
            "judge": given.judge,
            "steps": given.steps,
            "learning_rate": given.learning_rate,
            "beta": given.beta,
            "completions_per_step": given.prompts_per_step * given.completions,
            "change": summary,
            "runs": runs,
        },
    )


def one_run(given: argparse.Namespace, judge: Judge, condition: str, seed: int) -> dict[str, Any]:
    """Train once, or read what an earlier call found."""
    settings = [given.judge, given.steps, given.prompts_per_step, given.completions, given.max_new_tokens,
                given.learning_rate, given.beta, given.samples, judge.spec.fingerprint]  # fmt: skip
    folder = given.folder / f"{condition}-{seed}"
    finished = folder / "finished.json"
    if finished.exists():
        kept: dict[str, Any] = json.loads(finished.read_text(encoding="utf-8"))
        if kept.pop("settings") == settings:
            return kept
        raise SystemExit(f"{finished} is of other settings: name another --folder, or remove it")
    torch.manual_seed(seed)
    reward = JudgeReward(judge, name="judge")
    tokenizer = AutoTokenizer.from_pretrained(embedded_checkpoint())
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(embedded_checkpoint(), dtype=torch.float32),
        reward_funcs=reward if condition == "judge" else Shuffled(reward, seed),
        args=GRPOConfig(
            output_dir=str(folder),
            max_steps=given.steps,
            per_device_train_batch_size=given.prompts_per_step * given.completions,
            num_generations=given.completions,
            max_completion_length=given.max_new_tokens,
            learning_rate=given.learning_rate,
            beta=given.beta,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=3,
            temperature=1.0,
            logging_steps=1,
            save_steps=given.checkpoint_steps,
            save_total_limit=1,
            report_to="none",
            use_cpu=not torch.cuda.is_available(),
            bf16=False,
            # A small model's activations fit: computing them twice would only take longer.
            gradient_checkpointing=False,
            seed=seed,
        ),
        train_dataset=Dataset.from_dict({"prompt": [[{"role": "user", "content": p}] for p in TRAIN]}),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    reward.attach(trainer)
    before = held_out(trainer.model, tokenizer, judge, given)
    # The answers above were sampled with the same seeds in every run.
    torch.manual_seed(1000 + seed)
    began = time.monotonic()
    last = get_last_checkpoint(str(folder)) if folder.exists() else None
    trainer.train(resume_from_checkpoint=last)
    after = held_out(trainer.model, tokenizer, judge, given)
    log = [h for h in trainer.state.log_history if "reward" in h]
    # `seconds` is logged by each step's call of the judge.
    judge_seconds = [h[f"{reward.__name__}/seconds"] for h in log]
    result = {
        "condition": condition,
        "seed": seed,
        "before": before.rating,
        "after": after.rating,
        "ended_before": before.ended,
        "ended_after": after.ended,
        "rewards": [h["reward"] for h in log],
        "flat_group_share": statistics.fmean(h.get(f"{reward.__name__}/flat_group_share", 0.0) for h in log),
        "length_tokens": [h["completions/mean_length"] for h in log],
        "judge_seconds_per_step": statistics.fmean(judge_seconds),
        "seconds_since_last_start": time.monotonic() - began,
        "steps_since_last_start": given.steps - (int(last.rpartition("-")[2]) if last else 0),
    }
    folder.mkdir(parents=True, exist_ok=True)
    finished.write_text(json.dumps({**result, "settings": settings}), encoding="utf-8")
    return result


class HeldOut(NamedTuple):
    """Of sampled answers to held-out prompts: mean of (r - 5.5) / 4.5, and the share that came to an end."""

    rating: float
    ended: float


def held_out(model: Any, tokenizer: Any, judge: Judge, given: argparse.Namespace) -> HeldOut:
    training = model.training
    model.eval()
    prompts, answers, ended = [], [], []
    for n, prompt in enumerate(HELD_OUT):
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        ).to(model.device)
        # The same seeds before and after, and in every run.
        torch.manual_seed(n)
        with torch.no_grad():
            written = model.generate(
                **inputs,
                do_sample=True,
                max_new_tokens=given.max_new_tokens,
                num_return_sequences=given.samples,
                pad_token_id=tokenizer.pad_token_id,
            )
        new = written[:, inputs["input_ids"].shape[1] :]
        answers += tokenizer.batch_decode(new, skip_special_tokens=True)
        prompts += [prompt] * given.samples
        ended += (new == tokenizer.eos_token_id).any(dim=1).tolist()
    model.train(training)
    ratings = [j.reward for j in judge.rate(prompts, answers)]
    return HeldOut(
        statistics.fmean((r - 5.5) / 4.5 for r in ratings if r is not None), statistics.fmean(ended)
    )


def change(runs: Sequence[dict[str, Any]], condition: str) -> dict[str, float]:
    """Difference after minus before, over the seeds."""
    changes = [r["after"] - r["before"] for r in runs if r["condition"] == condition]
    return {"mean": statistics.fmean(changes), "least": min(changes), "largest": max(changes)}


def runs_table(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = ("condition", "seed", "before", "after", "ended_before", "ended_after", "judge_seconds_per_step")
    return [{k: r[k] for k in kept} for r in runs]


def plot(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """Training rewards, smoothed over five steps, and held-out means at both ends."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), width_ratios=[2, 1])
    colours = dict(zip(CONDITIONS, ("tab:blue", "tab:grey"), strict=True))
    for run in runs:
        rewards = run["rewards"]
        smooth = [statistics.fmean(rewards[max(0, n - 4) : n + 1]) for n in range(len(rewards))]
        left.plot(range(1, len(smooth) + 1), smooth, color=colours[run["condition"]], alpha=0.8)
        right.plot([0, 1], [run["before"], run["after"]], "o-", color=colours[run["condition"]])
    left.set(xlabel="step", ylabel="mean reward of the batch", title="training prompts")
    right.set(xticks=[0, 1], xticklabels=["before", "after"], title="held-out prompts")
    for condition in CONDITIONS:
        right.plot([], [], color=colours[condition], label=condition)
    right.legend()
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
