# SPDX-License-Identifier: Apache-2.0
"""A `transformers` pipeline called for one judgment after another, and a regular expression."""

from __future__ import annotations

import time

STARTED = time.perf_counter()

from common import chat, measure, rating_of, read_task, versions_of  # noqa: E402
from transformers import pipeline  # noqa: E402

task = read_task()
generate = pipeline("text-generation", model=task["model"], dtype=task["dtype"], device_map="auto")


def judge(indices):  # type: ignore[no-untyped-def]
    answers = []
    for i in indices:
        made = generate(
            chat(task, i), max_new_tokens=task["max_new_tokens"], do_sample=False, return_full_text=False
        )
        text = made[0]["generated_text"]
        tokens = len(generate.tokenizer(text, add_special_tokens=False)["input_ids"])
        answers.append({"rating": rating_of(text), "tokens": tokens, "requests": 1})
    return answers


measure(
    judge, task, started=STARTED, one_by_one=True, unreadable="the loop's writer decides; here None",
    versions=versions_of("transformers", "torch"),
)  # fmt: skip
