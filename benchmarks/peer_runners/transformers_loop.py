# SPDX-License-Identifier: Apache-2.0
"""A `transformers` pipeline called for one judgment after another, and a regular expression."""

from __future__ import annotations

import time

STARTED = time.perf_counter()

from common import measure, rating_of, read_task, versions_of  # noqa: E402
from transformers import pipeline  # noqa: E402

task = read_task()
generate = pipeline("text-generation", model=task["model"], dtype="bfloat16", device_map="auto")


def judge(indices):  # type: ignore[no-untyped-def]
    answers = []
    for i in indices:
        messages = [{"role": "user", "content": task["bodies"][i]}]
        made = generate(
            messages, max_new_tokens=task["max_new_tokens"], do_sample=False, return_full_text=False
        )
        text = made[0]["generated_text"]
        tokens = len(generate.tokenizer(text, add_special_tokens=False)["input_ids"])
        answers.append({"rating": rating_of(text), "tokens": tokens})
    return answers


measure(
    judge, task, started=STARTED, unreadable="the loop's writer decides; here None",
    versions=versions_of("transformers", "torch"),
)  # fmt: skip
