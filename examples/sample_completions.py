# SPDX-License-Identifier: Apache-2.0
"""Sample completions such as those of `completions.jsonl`: 32 answers of a small policy to each prompt.

There, the first two prompts have the defaults, the last two `--seed 1 --max-new-tokens 96`.

The policy is SmolLM2-135M-Instruct, which comes with the `mini` extra. Run it again with another seed, or
on prompts of your own, to get a file that `autoj-reward rerank` takes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from autoj_reward.engines.checkpoint.embedded import embedded_checkpoint

PROMPTS = [
    "How do I boil an egg so that the yolk stays soft? Give me numbered steps.",
    "Write a short, polite email that asks a colleague to move our meeting from Monday to Wednesday.",
    "Explain to a seven-year-old why we can see the moon at night.",
    "Name three animals that live in the ocean, and say one thing about each.",
]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("-o", "--output", type=Path, default=Path(__file__).with_name("completions.jsonl"))
    arguments.add_argument("-n", type=int, default=32, help="completions of each prompt")
    arguments.add_argument("--max-new-tokens", type=int, default=160)
    arguments.add_argument("--temperature", type=float, default=1.0)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("prompts", nargs="*", default=PROMPTS)
    given = arguments.parse_args()

    folder = embedded_checkpoint()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    policy = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    torch.manual_seed(given.seed)
    with open(given.output, "w", encoding="utf-8") as file:
        for prompt in given.prompts:
            inputs = tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt"
            )
            written = policy.generate(
                **inputs,
                do_sample=True,
                temperature=given.temperature,
                top_p=0.95,
                max_new_tokens=given.max_new_tokens,
                num_return_sequences=given.n,
                pad_token_id=tokenizer.pad_token_id,
            )
            new = written[:, inputs["input_ids"].shape[1] :]
            completions = [t.strip() for t in tokenizer.batch_decode(new, skip_special_tokens=True)]
            file.write(json.dumps({"prompt": prompt, "completions": completions}, ensure_ascii=False) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
