# SPDX-License-Identifier: Apache-2.0
"""prometheus-eval's `absolute_grade` on the shared server, its template replaced by the common one.

Its own system prompt stays, and its parser wants its own `[RESULT] 5`: what it cannot read it asks again.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()

from common import measure, read_task, versions_of  # noqa: E402
from prometheus_eval import PrometheusEval  # noqa: E402
from prometheus_eval.litellm import LiteLLM  # noqa: E402

task = read_task()


class Counting(LiteLLM):
    """The peer's own client, counting its calls."""

    calls = 0

    def completions(self, messages, **kwargs):  # type: ignore[no-untyped-def]
        Counting.calls += len(messages)
        return super().completions(messages, **kwargs)


grader = PrometheusEval(
    model=Counting(f"openai/{task['served_model']}", api_base=task["url"] + "/v1"),
    absolute_grade_template="{response}",
)
PARAMETERS = {"max_tokens": task["max_new_tokens"], "temperature": 0.0}


def judge(indices):  # type: ignore[no-untyped-def]
    bodies = [task["bodies"][i] for i in indices]
    _, scores = grader.absolute_grade(
        instructions=[""] * len(bodies), responses=bodies, rubric="", reference_answers=[""] * len(bodies),
        params=dict(PARAMETERS),
    )  # fmt: skip
    return [{"rating": score} for score in scores]


measure(
    judge, task, started=STARTED,
    unreadable="asks again, up to its limit, also where the answer is the same each time; then None",
    versions=versions_of("prometheus-eval", "litellm"),
)  # fmt: skip
