# SPDX-License-Identifier: Apache-2.0
"""This package's cache, `Judge` with a file, on the shared server."""

from __future__ import annotations

from common import measure_cache, read_task, versions_of

from autoj_reward import Judge

task = read_task()


def open_cache(model, max_new_tokens):  # type: ignore[no-untyped-def]
    judge = Judge.load(
        task["judge"],
        engine=f"server:{task['url']}",
        model=model,
        mode="critique",
        max_new_tokens=max_new_tokens,
        cache=task["cache"],
    )
    # Looks at the server now, so that those requests are not taken for judgments.
    assert judge.engine.fingerprint

    def run(indices):  # type: ignore[no-untyped-def]
        pairs = [task["pairs"][i] for i in indices]
        judgments = judge.rate([p for p, _ in pairs], [c for _, c in pairs])
        return [{"rating": j.rating, "failure": j.failure and str(j.failure.reason)} for j in judgments]

    return run


measure_cache(
    open_cache, task,
    where="SQLite; by token ids, all settings, and what the server says of its model",
    versions=versions_of("autoj-reward"),
)  # fmt: skip
